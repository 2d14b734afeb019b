"""What the field property `shutong` says: the item's catalogue entry, or what a receiver gets.

Policy follows the schema because the metadata stand in it. A schema of a dataset carries an
`Item` on each top-level field; a delivered (projected) schema carries only title and mask, so
that receivers see what they get and nothing of the provider's internal grading.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final, Literal

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from shutong_core.domain.catalogue import Grade, Item, ShareClass
from shutong_core.domain.rows import Part, Text

PROPERTY = "shutong"
_TOLD_MAX: Final = 8


class DeliveredItem(Part):
    """An item as a receiver sees it; `mask` tells the two kinds of metadata apart."""

    title: Text
    mask: Literal["clear", "keep", "hash", "band"]


#: What an item's metadata look like at the least, for messages.
EXAMPLE: Final = '"shutong": {"title": "…", "grade": "…"}'
_GRADES: Final = ", ".join(Grade)
_SHARES: Final = ", ".join(ShareClass)
_TRUTH: Final = ("应为 true 或 false", "must be true or false")
#: What each member takes.
_MEMBERS: Final[Mapping[str, tuple[str, str]]] = {
    "title": ("应为 1–500 字的名称", "must be a name of 1 to 500 characters"),
    "grade": (f"（分级）应为以下之一：{_GRADES}", f"must be one of: {_GRADES}"),
    "share": (f"（共享属性）应为以下之一：{_SHARES}", f"must be one of: {_SHARES}"),
    "mask": ("应为 clear、keep、hash 或 band", "must be clear, keep, hash or band"),
    "personal": _TRUTH,
    "sensitive": _TRUTH,
    "biometric": _TRUTH,
}


class WrongMetadata(ValueError):  # noqa: N818 - becomes findings
    """Metadata that are not admitted; `told` says all that is wrong, as Chinese and English."""

    def __init__(self, told: tuple[tuple[str, str], ...]) -> None:
        super().__init__("; ".join(en for _, en in told))
        self.told = told


def read_metadata(value: Any) -> Item | DeliveredItem:
    """The metadata in a field property (JSON values), None where there is none.

    Raises WrongMetadata.
    """
    if value is None:
        zh = f"缺少，请写 {EXAMPLE}，grade 为以下之一：{_GRADES}"
        raise WrongMetadata(((zh, f"is missing, write {EXAMPLE} with grade one of: {_GRADES}"),))
    if not isinstance(value, dict):
        raise WrongMetadata(((f"应为对象，如 {EXAMPLE}", f"must be an object such as {EXAMPLE}"),))
    text = json.dumps(value)
    try:
        if "mask" in value:
            return DeliveredItem.model_validate_json(text)
        return Item.model_validate_json(text)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
        raise WrongMetadata(tuple(_told(each) for each in found[:_TOLD_MAX])) from None


def _told(fault: ErrorDetails) -> tuple[str, str]:
    """What is wrong with one member, which may be unknown or absent."""
    name = str(fault["loc"][0]) if fault["loc"] else ""
    zh, en = _MEMBERS.get(name, ("", ""))
    if not zh:
        shown = re.sub(r"[^\w.-]", "?", name[:64])
        members = ", ".join(name for name in _MEMBERS if name != "mask")
        return f"不应有 {shown}；可写：{members}", f"has unknown member {shown}; it takes {members}"
    if fault["type"] == "missing":
        return f"缺少 {name}，{name}{zh}", f"lacks {name}, which {en}"
    return f"的 {name}{zh}", f"has a wrong {name}, which {en}"
