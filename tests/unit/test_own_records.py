"""A subscriber's own records against an audit copy: what was placed, and how far that is proved."""

from __future__ import annotations

from pathlib import Path

import pytest

from audit_copies import CODEC, TRUST, put, sample_bus, take
from audit_samples import CLUSTER
from shutong_auditor.copyfiles import AuditCopy, DeliveryFiles, delivery_file
from shutong_auditor.copyverdict import CopyVerdict
from shutong_auditor.copyverify import Own, verify_copy
from shutong_core.audit.chain import Segment, genesis
from shutong_core.domain.errors import Rejected

GRANT = "deaths-city"
FILE = delivery_file(GRANT, 0)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    sample_bus(lanes=2, blocks=4).write(tmp_path / "copy")
    return tmp_path / "copy"


@pytest.fixture
def own(copy: Path, tmp_path: Path) -> Path:
    """All records of one grant, as its reader stored them."""
    target = tmp_path / "own" / FILE
    target.parent.mkdir(parents=True)
    target.write_bytes((copy / FILE).read_bytes())
    return tmp_path / "own"


def verified(copy: Path, own: Path, **options) -> CopyVerdict:
    mine = Own(DeliveryFiles(own), **options)
    return verify_copy(AuditCopy(copy), TRUST, CODEC, own=mine)


def codes(verdict: CopyVerdict) -> set[str]:
    return {each.code for each in verdict.findings}


def test_whole_records_are_as_audited_to_the_last(copy: Path, own: Path) -> None:
    verdict = verified(copy, own)
    assert verdict.ok, verdict.text("en")
    assert verdict.delivered == len(take(own / FILE, 3))
    said = verdict.text("en")
    assert f"grant {GRANT} lane 0: as audited up to record 16" in said
    assert f"grant {GRANT} lane 1: as audited up to record 16" in said
    assert "the audit also has" not in said


def test_records_not_fetched_yet_are_told_and_no_alarm(copy: Path, own: Path) -> None:
    frames = take(own / FILE, 3)
    put(own / FILE, frames[:10])
    verdict = verified(copy, own)
    assert verdict.ok, verdict.text("en")
    said = verdict.text("en")
    assert "lane 0: as audited up to record 8" in said
    assert "records 9 to 10 of grant deaths-city lane 0: no block" in said
    assert "lane 0: the audit also has records 11 to 16" in said
    assert "lane 1: the audit also has records 1 to 16" in said


def test_records_newer_than_the_copy_are_told_and_no_alarm(tmp_path: Path, own: Path) -> None:
    sample_bus(lanes=2, blocks=3).write(tmp_path / "older")
    verdict = verified(tmp_path / "older", own)
    assert verdict.ok, verdict.text("en")
    assert "records 13 to 16 of grant deaths-city lane 0: no block" in verdict.text("en")


@pytest.mark.parametrize("at", range(0, 16, 3))
@pytest.mark.parametrize("part", [1, 2])
def test_an_altered_record_is_found(copy: Path, own: Path, at: int, part: int) -> None:
    frames = take(own / FILE, 3)
    changed = list(frames[at])
    changed[part] = changed[part] + b"!"
    frames[at] = tuple(changed)
    put(own / FILE, frames)
    assert codes(verified(copy, own)) & {"delivery-chain", "delivery-audit"}


@pytest.mark.parametrize("at", range(0, 15, 2))
def test_a_record_left_out_is_found(copy: Path, own: Path, at: int) -> None:
    frames = take(own / FILE, 3)
    del frames[at]
    put(own / FILE, frames)
    assert codes(verified(copy, own)) & {
        "delivery-sequence",
        "delivery-chain",
        "delivery-audit",
        "delivery-outside",
    }


def test_records_of_a_lane_that_does_not_write_there_are_found(copy: Path, own: Path) -> None:
    mark = Segment(5, 1, genesis(CLUSTER, GRANT, 5)).encode()
    put(own / FILE, [*take(own / FILE, 3), (mark, b"k", b"forged")])
    assert "lane" in codes(verified(copy, own))


def test_who_began_late_verifies_from_there(copy: Path, own: Path) -> None:
    put(own / FILE, take(own / FILE, 3)[1:])
    assert "delivery-outside" in codes(verified(copy, own))
    late = verified(copy, own, from_start=False)
    assert late.ok, late.text("en")
    assert "the first 2 records of grant deaths-city: their segment is not known" in late.text("en")


def test_the_copy_itself_must_hold(copy: Path, own: Path) -> None:
    frames = take(copy / "audit/0.blocks", 2)
    put(copy / "audit/0.blocks", frames[:-1])
    assert "missing" in codes(verified(copy, own))


def test_a_copy_without_deliveries_needs_to_know_the_partitions(copy: Path, own: Path) -> None:
    (copy / FILE).unlink()
    with pytest.raises(Rejected, match="--partitions"):
        verified(copy, own)
    assert verified(copy, own, partitions=1).ok


def test_an_empty_directory_is_refused(copy: Path, tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    with pytest.raises(Rejected, match="has no files"):
        verified(copy, tmp_path / "nothing")
