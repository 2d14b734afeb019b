"""What the field property `shutong` says: the item's catalogue entry, or what a receiver gets.

Policy follows the schema because the metadata stand in it. A schema of a dataset carries an
`Item` on each top-level field; a delivered (projected) schema carries only title and mask, so
that receivers see what they get and nothing of the provider's internal grading.
"""

from __future__ import annotations

import json
from typing import Any, Literal

from pydantic import ValidationError

from shutong_core.domain.catalogue import Item
from shutong_core.domain.rows import Part, Text

PROPERTY = "shutong"


class DeliveredItem(Part):
    """An item as a receiver sees it; `mask` tells the two kinds of metadata apart."""

    title: Text
    mask: Literal["clear", "keep", "hash", "band"]


def read_metadata(value: Any) -> Item | DeliveredItem:
    """The metadata in a field property (JSON values).

    Raises ValueError with the first field that is wrong.
    """
    if not isinstance(value, dict):
        raise ValueError("must be an object")
    text = json.dumps(value)
    try:
        if "mask" in value:
            return DeliveredItem.model_validate_json(text)
        return Item.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "value"
        raise ValueError(f"{where}: {first['msg']}") from None
