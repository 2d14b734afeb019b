"""Sound records for tests that look at something else than canaries."""

from __future__ import annotations

import itertools
import random
import uuid
from typing import Any

from e2e.canaries import Mint
from e2e.scene import OTHER_COUNTY, TOWN_ONE

_mint = Mint(random.randrange(2**60))
_count = itertools.count()


def new_id() -> str:
    """An id that nothing else has."""
    return uuid.uuid4().hex


def aid(**changed: Any) -> dict[str, Any]:
    """A sound entry of aid-decision; `changed` items of its data."""
    name = f"sample-{next(_count)}"
    birth = _mint.day(name, "birth_date", 1960)
    data = {
        "case_no": f"S-{new_id()}",
        "name": "石样例",
        "id_number": _mint.id_number(name, "id_number", birth),
        "birth_date": birth.isoformat(),
        "category": "RURAL",
        "amount": "120.50",
        "account_no": next(_count),
        "score": 1.5,
        "tags": [],
        "registered_town": TOWN_ONE,
        "residence": TOWN_ONE,
    }
    return {"id": new_id(), "data": data | changed}


def gauge(**changed: Any) -> dict[str, Any]:
    """A sound reading."""
    return {
        "gauge_id": f"G-{new_id()}",
        "level": 3.25,
        "count": next(_count),
        "note": None,
        "region": OTHER_COUNTY,
        "operation": "put",
    } | changed
