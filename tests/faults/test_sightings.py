"""A run that met none of the faults proves nothing: it fails here, after all others."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

pytestmark = pytest.mark.kafka
#: What must have been seen, and the files whose tests see it.
NEEDED = {
    "aborted": "test_kill9.py",
    "in-doubt": "test_in_doubt.py",
    "fenced": "test_zombie.py",
}


@pytest.mark.parametrize("fault", NEEDED)
def test_the_run_really_met(
    fault: str, sightings: Counter[str], request: pytest.FixtureRequest
) -> None:
    files = {Path(item.path).name for item in request.session.items}
    if NEEDED[fault] not in files:
        pytest.skip(f"{NEEDED[fault]} was not chosen")
    assert sightings[fault] > 0
