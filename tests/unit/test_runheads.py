"""The heads of a run: where it ends, and what it costs to look beyond its end."""

from __future__ import annotations

from typing import Any

import pytest

from shutong_broker.policy import runheads
from shutong_broker.policy.compiled import CompiledPolicy
from shutong_broker.policy.head import HeadReader
from shutong_broker.policy.lanehash import lanes_of
from shutong_broker.policy.model import LaneFacts
from shutong_broker.policy.runheads import KEY_BYTES_MAX, RunHeads
from shutong_core.domain.reasons import Reason
from unit.policy_world import LANES, World, now_ms, table

WORLD = World(make=CompiledPolicy)
SOUND = WORLD.record()
PREFIX = b"\0\0\0\0\1"


@pytest.fixture(name="hashed")
def fixture_hashed(monkeypatch: pytest.MonkeyPatch) -> list[bytes | None]:
    """The keys whose lane was worked out."""
    found: list[bytes | None] = []

    def spied(keys: Any, lanes: int) -> list[int]:
        found.extend(keys)
        return lanes_of(keys, lanes)

    monkeypatch.setattr(runheads, "lanes_of", spied)
    return found


def test_a_key_that_is_long_to_hash_ends_a_run(hashed: list[bytes | None]) -> None:
    assert isinstance(WORLD.policy, CompiledPolicy)
    reader = HeadReader(WORLD.policy._plan, table())
    short, long = b"k" * KEY_BYTES_MAX, b"k" * (KEY_BYTES_MAX + 1)
    records = [SOUND._replace(key=key) for key in (short, short, long, short)]
    heads = RunHeads(records, PREFIX, LANES, reader)
    assert [key for key, *_ in heads.rows] == [short, short]
    assert hashed == [short, short]


def test_a_wrong_key_is_not_hashed_however_it_is_decided(hashed: list[bytes | None]) -> None:
    wrong = SOUND._replace(key=b"k" * 900_000)
    assert WORLD.policy.run([wrong] * 8, bytes(16), now_ms()).rows == 0
    assert WORLD.policy.decide(wrong, LaneFacts(), now_ms()).refusal is Reason.WRONG_KEY
    assert hashed == []


def test_a_long_key_that_is_right_is_accepted() -> None:
    record = WORLD.record({"record": {"decision_no": "号" * 1000}})
    decision = WORLD.policy.decide(record, LaneFacts(), now_ms())
    assert (decision.refusal, len(decision.placements)) == (None, 1)
