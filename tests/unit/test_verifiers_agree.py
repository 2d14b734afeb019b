"""Both verifiers against hostile copies: none passes, none stops them, and they say the same.

What a copy may lack by right (records past their term, bodies, tree files) raises no alarm.
"""

from __future__ import annotations

import dataclasses
import json
import random
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import shutong_verify

from audit_copies import CODEC, TRUST, SampleBus, put, sample_bus, take
from audit_samples import CLUSTER, PUBLISHER, SampleLane, facts, filled
from shutong_auditor.copyfiles import AuditCopy, block_file, delivery_file, event_file
from shutong_auditor.copyverify import verify_copy
from shutong_core.audit.block import (
    NO_BLOCK,
    Block,
    BlockBuilder,
    body_hash,
    encode_header,
    header_hash,
    parse_header,
)
from shutong_core.audit.body import encode_body
from shutong_core.audit.bodyparse import parse_body
from shutong_core.audit.chain import SEGMENT_HEADER, Segment, extend, genesis
from shutong_core.audit.rowtree import row_root
from shutong_core.audit.signednote import SignedNote
from shutong_core.domain.errors import Rejected
from shutong_core.domain.reasons import IMPLIED, Reason

GRANT = "deaths-city"
REFUSED = {"it cannot be read"}


def product(directory: Path, known: list[SignedNote], level: int = 2) -> set[str]:
    """Codes of the product's findings; REFUSED where it is no copy at all."""
    try:
        verdict = verify_copy(AuditCopy(directory), TRUST, CODEC, known, level=level)
    except Rejected:
        return REFUSED
    return {each.code for each in verdict.findings}


def one_file(directory: Path, known: list[SignedNote], level: int = 2) -> set[str]:
    """As `product`, by the verifier of the standard library alone."""
    notes = [note.encode() for note in known]
    try:
        check = shutong_verify.verify_copy(str(directory), TRUST.encode(), notes, level)
    except shutong_verify.CANNOT_BE_READ:
        return REFUSED
    return {code for code, _ in check.wrong}


@cache
def whole(directory: Path) -> list[SignedNote]:
    return sample_bus().write(directory)


@pytest.fixture
def copy(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    good = tmp_path_factory.getbasetemp() / "agree-good"
    whole(good)
    return Path(shutil.copytree(good, tmp_path / "copy"))


@pytest.fixture
def known(tmp_path_factory: pytest.TempPathFactory) -> list[SignedNote]:
    return whole(tmp_path_factory.getbasetemp() / "agree-good")


def about(copy: Path, **changes: object) -> None:
    table = json.loads((copy / "copy.json").read_text())
    (copy / "copy.json").write_text(json.dumps(table | changes))


def cut(copy: Path, name: str, parts: int, first: int, end: int | None = None) -> None:
    put(copy / name, take(copy / name, parts)[first:end])


BOTH = pytest.mark.parametrize("verify", [product, one_file])
LEVELS = pytest.mark.parametrize("level", [1, 2])
Verify = Callable[..., set[str]]


@BOTH
@LEVELS
def test_a_lane_left_out_is_missed_by_what_was_signed_of_it(copy, known, verify: Verify, level):
    about(copy, lanes=1)
    (copy / block_file(1)).unlink()
    for path in copy.glob("delivery/*/*.records"):
        put(path, [each for each in take(path, 3) if each[0] is None or each[0][4] == 0][:0])
    put(copy / "receipts.records", [])
    assert "missing" in verify(copy, known, level)
    assert "missing" in verify(copy, [], level)  # the topic's own checkpoints name it too


@BOTH
@pytest.mark.parametrize("lanes", [0, -1, True, 1.5, "2", 4096])
def test_a_copy_without_a_number_of_lanes_is_none(copy, known, verify: Verify, lanes):
    about(copy, lanes=lanes)
    assert verify(copy, known) == REFUSED


@BOTH
@LEVELS
def test_a_cut_lane_is_missed_where_the_copy_has_no_tree_files(copy, known, verify, level):
    shutil.rmtree(copy / "trees")
    assert verify(copy, known, level) == set()
    cut(copy, block_file(0), 2, 0, 2)
    assert "missing" in verify(copy, known, level)


@BOTH
@LEVELS
def test_changed_rows_show_without_tree_files_also_at_level_one(copy, known, verify, level):
    shutil.rmtree(copy / "trees")
    frames = take(copy / block_file(0), 2)
    header, body = frames[-1]
    body = bytes((body[0] ^ 1,)) + body[1:]  # the salt
    head = dataclasses.replace(parse_header(header), body_hash=body_hash(body))
    put(copy / block_file(0), [*frames[:-1], (encode_header(head), body)])
    assert "root" in verify(copy, known, level)


@BOTH
@LEVELS
def test_events_past_their_term_raise_no_alarm_others_are_missed(copy, known, verify, level):
    about(copy, late=["access/0"])
    cut(copy, event_file(0), 1, 2)
    assert verify(copy, known, level) == set()
    cut(copy, event_file(0), 1, 0, 2)
    assert "missing" in verify(copy, known, level)


@BOTH
def test_the_first_event_of_a_late_copy_is_one_of_the_signed_tree(copy, known, verify):
    about(copy, late=["access/0"])
    forged = sample_bus(lanes=1, events=9).events[7]
    put(copy / event_file(0), [(forged,)])
    assert "missing" in verify(copy, known)


@BOTH
@LEVELS
@pytest.mark.parametrize("trees", [True, False])
def test_blocks_past_their_term_raise_no_alarm(copy, known, verify, level, trees):
    about(copy, late=["audit/0"])
    cut(copy, block_file(0), 2, 2)
    if not trees:
        shutil.rmtree(copy / "trees")
    assert verify(copy, known, level) == set()


@BOTH
def test_a_block_changed_in_a_late_copy_is_found(copy, known, verify):
    about(copy, late=["audit/0"])
    cut(copy, block_file(0), 2, 2)
    frames = take(copy / block_file(0), 2)
    head = dataclasses.replace(parse_header(frames[0][0]), decided_ms=1)
    put(copy / block_file(0), [(encode_header(head), frames[0][1])])
    assert verify(copy, known) & {"root", "missing"}


@BOTH
@LEVELS
@pytest.mark.parametrize("kept", [[], [2], [0, 3]])
def test_bodies_that_were_not_kept_raise_no_alarm(copy, known, verify, level, kept):
    frames = take(copy / block_file(0), 2)
    frames = [(header, body if n in kept else None) for n, (header, body) in enumerate(frames)]
    put(copy / block_file(0), frames)
    assert verify(copy, known, level) <= {"unaudited", "receipt-chain"}
    assert level == 2 or verify(copy, known, level) == set()


@BOTH
@LEVELS
def test_a_checkpoint_kept_elsewhere_may_be_newer_than_the_copied_tree(tmp_path, verify, level):
    older, newer, copy = sample_bus(), sample_bus(blocks=5), sample_bus(blocks=6)
    copy.write(tmp_path / "copy")
    older.write(tmp_path / "older")
    known = [note for note in newer.write(tmp_path / "newer") if "/audit/" in note.text]
    for name in ("trees", "checkpoints.records"):
        target = tmp_path / "copy" / name
        shutil.rmtree(target) if target.is_dir() else target.unlink()
        source = tmp_path / "older" / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, target)
    assert verify(tmp_path / "copy", known, level) == set()


@BOTH
@pytest.mark.parametrize("name", ["trees/audit/0/tile/0", block_file(0), "receipts.records"])
def test_a_directory_in_the_place_of_a_file_is_a_finding(copy, known, verify, name):
    path = copy / name
    if path.is_dir():
        path = next(each for each in path.rglob("*") if each.is_file())
    path.unlink()
    path.mkdir()
    assert verify(copy, known) & {"tile", "copy"}


@BOTH
@pytest.mark.parametrize("agency", ['"\\ud800/x"', '""', '"' + "a" * 300 + '"', "7", "null"])
def test_a_receipt_of_nobody_is_a_finding(copy, known, verify, agency):
    frames = take(copy / "receipts.records", 1)
    stored = frames[0][0].decode()
    told = json.dumps(json.loads(stored)["body"]["agency"])
    frames[0] = (stored.replace(told, agency).encode(),)
    put(copy / "receipts.records", frames)
    assert "receipt" in verify(copy, known)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[SignedNote]]:
    """102,000 records of one grant in segments of 3,000."""
    lane, chain, k = SampleLane(0), genesis(CLUSTER, GRANT, 0), 0
    previous, records = NO_BLOCK, []
    for number in range(34):
        builder = BlockBuilder(filled(f"salt {number}", 16))
        part = builder.add_input("deaths", k)
        segment = [(b"k", b"%d" % each) for each in range(k, k + 3000)]
        for at, (_, value) in enumerate(segment):
            row = part.add_row(k + at, PUBLISHER, filled(value.decode(), 32), (), None, 0, None)
            part.allow(row, GRANT)
        part.end(k + 3000)
        mark = Segment(0, k + 1, chain).encode()
        records += [
            (((SEGMENT_HEADER, mark),) if at == 0 else (), *each) for at, each in enumerate(segment)
        ]
        chain = extend(chain, segment)
        part.place(GRANT, k + 1, sum(len(value) + 1 for _, value in segment), chain)
        k += 3000
        lane.blocks.append(builder.build(facts(0, number + 1, previous)))
        previous = lane.blocks[-1].hash
    lane.deliveries = {GRANT: records}
    directory = tmp_path_factory.mktemp("large") / "copy"
    return directory, SampleBus([lane]).write(directory)


@BOTH
def test_other_records_in_one_segment_over_everything_are_found(tmp_path, large, verify):
    directory, known = large
    assert verify(directory, known) == set()
    copy = Path(shutil.copytree(directory, tmp_path / "copy"))
    name = delivery_file(GRANT, 0)
    mark = Segment(0, 1, genesis(CLUSTER, GRANT, 0)).encode()
    forged = [(mark if n == 0 else None, b"k", b"forged") for n in range(102_000)]
    put(copy / name, forged)
    put(copy / "receipts.records", [])
    assert "delivery-audit" in verify(copy, known)


# Both say the same of anything


def scrambled(data: bytes, chance: random.Random) -> bytes:
    """`data` with a few bytes flipped, cut out, repeated or put in."""
    out = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 3))):
        at = chance.randrange(len(out) + 1)
        size = chance.choice((1, 1, 4, 40))
        how = chance.randrange(4)
        if how == 0 and out:
            out[min(at, len(out) - 1)] ^= 1 << chance.randrange(8)
        elif how == 1:
            del out[at : at + size]
        elif how == 2:
            out[at:at] = out[at : at + size]
        else:
            out[at:at] = chance.randbytes(size)
    return bytes(out)


@pytest.mark.parametrize("number", range(150))
def test_whatever_becomes_of_a_file_both_say_whether_the_copy_holds(copy, known, number) -> None:
    chance = random.Random(number)
    for path in copy.rglob("position.json"):
        path.unlink()  # the auditor's own note, which an export does not have
    files = sorted(path for path in copy.rglob("*") if path.is_file())
    path = chance.choice(files)
    before = path.read_bytes()
    path.write_bytes(scrambled(before, chance))
    level = chance.choice((1, 2, 2))
    found, other = product(copy, known, level), one_file(copy, known, level)
    assert bool(found) == bool(other), (path, found, other)
    if level == 2 and path.name != "copy.json" and path.read_bytes() != before:
        assert found, path


def signed_anew(blocks: list[Block], at: int, body: bytes) -> list[Block]:
    """Block `at` with another body, all headers after it made to fit."""
    out, previous = blocks[:at], blocks[at - 1].hash if at else NO_BLOCK
    for number, block in enumerate(blocks[at:]):
        data = body if number == 0 else block.body
        header = encode_header(
            dataclasses.replace(
                parse_header(block.header),
                previous=previous,
                body_hash=body_hash(data),
                body_length=len(data),
            )
        )
        previous = header_hash(header)
        out.append(Block(header, data, previous))
    return out


@pytest.mark.parametrize("number", range(150))
def test_a_body_has_one_form_for_both(tmp_path: Path, number: int) -> None:
    """A bus that signs what it likes: headers and chains fit, only the body's form is in doubt."""
    chance = random.Random(number)
    lane = SampleLane(0)
    for each in range(2):
        lane.add_block(6, exposed=("births-city",) if each else None)
    body = scrambled(lane.blocks[0].body, chance)
    blocks = signed_anew(lane.blocks, 0, body)
    frames = [(each.header, each.body) for each in blocks]
    bus = SampleBus([SampleLane(0)])
    known = bus.write(tmp_path / "copy")[:0]
    put(tmp_path / "copy" / block_file(0), frames)
    found, other = product(tmp_path / "copy", known, 1), one_file(tmp_path / "copy", known, 1)
    assert bool(found) == bool(other), (found, other)
    try:
        parsed = parse_body(body)
    except Rejected:
        with pytest.raises(shutong_verify.Bad):
            shutong_verify.parse_body(body)
        return
    assert encode_body(parsed) == body
    assert shutong_verify.row_root(shutong_verify.parse_body(body)) == row_root(parsed)


def test_both_know_the_same_reasons() -> None:
    numbers = {each.number for each in Reason}
    assert {each for each in numbers if each < 100} == shutong_verify.REFUSALS
    implied = {each.number for each in IMPLIED}
    assert {each for each in numbers if 100 <= each < 150} - implied == shutong_verify.WITHHELD
