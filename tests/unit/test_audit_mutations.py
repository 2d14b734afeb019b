"""Damage to an audit copy of every kind is found and named, by the product and the one file.

Copies without damage raise no alarm.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
import shutong_verify

from audit_copies import (
    CODEC,
    TRUST,
    SampleBus,
    private,
    public,
    put,
    receipt,
    sample_bus,
    signed_note,
    take,
)
from audit_samples import CLUSTER, SampleLane, filled
from shutong_auditor.copyfiles import AuditCopy, block_file, delivery_file, event_file
from shutong_auditor.copyverify import verify_copy
from shutong_core.audit.block import body_hash, encode_header, header_hash, parse_header
from shutong_core.audit.checkpoint import Checkpoint, TreeName
from shutong_core.audit.rotation import encode_rotation, rotation_key
from shutong_core.audit.signednote import SignedNote, parse_note

CASES_EACH = 8


@dataclass
class Damaged:
    """A copy that may be damaged, with the randomness that says where."""

    directory: Path
    chance: random.Random

    def frames(self, name: str, parts: int) -> list:
        return take(self.directory / name, parts)

    def put(self, name: str, frames: list) -> None:
        put(self.directory / name, frames)

    def lane(self) -> str:
        return block_file(self.chance.randrange(2))

    def delivery(self) -> str:
        grants = sorted(path.name for path in (self.directory / "delivery").iterdir())
        return delivery_file(self.chance.choice(grants), 0)

    def flipped(self, data: bytes, first: int = 0) -> bytes:
        changed = bytearray(data)
        changed[self.chance.randrange(first, len(data))] ^= 1 << self.chance.randrange(8)
        return bytes(changed)

    def edit(self, name: str, parts: int, part: int) -> None:
        frames = self.frames(name, parts)
        at = self.chance.randrange(len(frames))
        while not frames[at][part]:
            at = self.chance.randrange(len(frames))
        found = list(frames[at])
        found[part] = self.flipped(found[part])
        frames[at] = tuple(found)
        self.put(name, frames)

    def reorder(self, name: str, parts: int, how: str) -> None:
        frames = self.frames(name, parts)
        at = self.chance.randrange(len(frames) - 1)
        if how == "swap":
            frames[at], frames[at + 1] = frames[at + 1], frames[at]
        elif how == "drop":
            del frames[at]
        elif how == "duplicate":
            frames.insert(at, frames[at])
        elif how == "truncate":
            del frames[at:]
        else:
            frames.insert(at, tuple(filled(f"{part}", 60) for part in range(parts)))
        self.put(name, frames)

    def cut_file(self, name: str) -> None:
        data = (self.directory / name).read_bytes()
        (self.directory / name).write_bytes(data[: -self.chance.randrange(1, 4)])


Mutation = Callable[[Damaged], None]
CHAIN = {"header", "sequence", "previous", "place", "list-back", "list-digest", "root", "missing"}
BODY = {"body-hash"}
DELIVERY = {
    "delivery-chain",
    "delivery-sequence",
    "delivery-outside",
    "delivery-malformed",
    "delivery-genesis",
    "delivery-audit",
    "unaudited",
    "lane",
    "count",
}
MUTATIONS: dict[str, tuple[Mutation, set[str]]] = {}


def mutation(*codes: str) -> Callable[[Mutation], Mutation]:
    """The finding that names the damage has one of these codes."""

    def register(made: Mutation) -> Mutation:
        MUTATIONS[made.__name__] = (made, set(codes))
        return made

    return register


@mutation(*CHAIN, "body", "body-hash")
def header_edited(copy: Damaged) -> None:
    copy.edit(copy.lane(), 2, 0)


@mutation(*BODY)
def body_edited(copy: Damaged) -> None:
    copy.edit(copy.lane(), 2, 1)


for _how in ("swap", "drop", "duplicate", "insert", "truncate"):

    def _blocks(copy: Damaged, how: str = _how) -> None:
        copy.reorder(copy.lane(), 2, how)

    _blocks.__name__ = f"blocks_{_how}"
    mutation(*CHAIN)(_blocks)

    def _events(copy: Damaged, how: str = _how) -> None:
        copy.reorder(event_file(0), 1, how)

    _events.__name__ = f"events_{_how}"
    mutation("missing" if _how == "truncate" else "access")(_events)

    def _records(copy: Damaged, how: str = _how) -> None:
        copy.reorder(copy.delivery(), 3, how)

    _records.__name__ = f"deliveries_{_how}"
    mutation(*DELIVERY, "receipt-chain")(_records)


@mutation("copy")
def block_file_cut_off(copy: Damaged) -> None:
    copy.cut_file(copy.lane())


@mutation("copy")
def delivery_file_cut_off(copy: Damaged) -> None:
    copy.cut_file(copy.delivery())


@mutation("copy", "no-topic")
def file_missing(copy: Damaged) -> None:
    name = copy.chance.choice([copy.lane(), event_file(0), "receipts.records"])
    (copy.directory / name).unlink()


@mutation("no-topic")
def delivery_missing(copy: Damaged) -> None:
    (copy.directory / copy.delivery()).unlink()


def resealed(copy: Damaged, change: Callable[[list], None]) -> None:
    """Blocks of a lane changed, then hashed and chained anew: no chain shows it."""
    name = copy.lane()
    frames = copy.frames(name, 2)
    at = copy.chance.randrange(len(frames))
    rest = frames[at:]
    change(rest)
    previous = header_hash(frames[at - 1][0]) if at else bytes(32)
    for number, (header, body) in enumerate(rest):
        head = parse_header(header)
        values = {name: getattr(head, name) for name in head.__dataclass_fields__}
        values |= {"previous": previous, "body_hash": body_hash(body), "body_length": len(body)}
        made = encode_header(type(head)(**values))
        frames[at + number] = (made, body)
        previous = header_hash(made)
    copy.put(name, frames)


@mutation("root")
def time_set_back_and_resealed(copy: Damaged) -> None:
    def change(rest: list) -> None:
        header, body = rest[0]
        head = parse_header(header)
        values = {name: getattr(head, name) for name in head.__dataclass_fields__}
        values["decided_ms"] = head.decided_ms - 86_400_000
        rest[0] = (encode_header(type(head)(**values)), body)

    resealed(copy, change)


@mutation("root")
def digest_changed_and_resealed(copy: Damaged) -> None:
    def change(rest: list) -> None:
        header, body = rest[0]
        changed = bytearray(body)
        changed[0] ^= 1  # the salt: every leaf of the block becomes another
        rest[0] = (header, bytes(changed))

    resealed(copy, change)


@mutation("root", "list-digest")
def list_changed_and_resealed(copy: Damaged) -> None:
    def change(rest: list) -> None:
        for at, (header, body) in enumerate(rest):
            head = parse_header(header)
            values = {name: getattr(head, name) for name in head.__dataclass_fields__}
            values["list_digest"] = filled("another list", 32)
            rest[at] = (encode_header(type(head)(**values)), body)

    resealed(copy, change)


@mutation("root", "missing", "fork", *DELIVERY)
def lane_forked(copy: Damaged) -> None:
    """From some block on another history, whole in itself, with its deliveries."""
    keep = copy.chance.randrange(1, 4)
    lane = SampleLane(0)
    for number in range(4):
        rows = 6 if number < keep else 5
        lane.add_block(rows, exposed=("births-city",) if number == 1 else None)
    copy.put(block_file(0), [(each.header, each.body) for each in lane.blocks])


def with_note(copy: Damaged, change: Callable[[SignedNote, TreeName], SignedNote]) -> None:
    """A checkpoint of the topic replaced."""
    frames = copy.frames("checkpoints.records", 2)
    at = copy.chance.randrange(len(frames))
    key, value = frames[at]
    tree = TreeName(CLUSTER, key.decode().split("/")[1], int(key.decode().rsplit("/", 1)[1]))
    note = change(parse_note(value), tree)
    frames[at] = (key, note.encode())
    copy.put("checkpoints.records", frames)


@mutation("checkpoint")
def checkpoint_signed_by_a_foreign_key(copy: Damaged) -> None:
    def change(_: SignedNote, tree: TreeName) -> SignedNote:
        key = tree.key(public("stranger"))
        return Checkpoint(tree.origin, 3, filled("root", 32)).sign(key, private("stranger").sign)

    with_note(copy, change)


@mutation("checkpoint")
def checkpoint_without_its_witness(copy: Damaged) -> None:
    with_note(copy, lambda note, _: SignedNote(note.text, note.signatures[:1]))


@mutation("checkpoint")
def checkpoint_edited(copy: Damaged) -> None:
    frames = copy.frames("checkpoints.records", 2)
    at = copy.chance.randrange(len(frames))
    key, value = frames[at]
    lines = value.decode().split("\n")
    lines[1] = str(int(lines[1]) + 1)
    frames[at] = (key, "\n".join(lines).encode())
    copy.put("checkpoints.records", frames)


@mutation("checkpoint-back")
def old_checkpoint_again(copy: Damaged) -> None:
    frames = copy.frames("checkpoints.records", 2)
    copy.put("checkpoints.records", [*frames, frames[copy.chance.choice((0, 2))]])


def rotation(old: str, new: str, *signers: str) -> bytes:
    """A rotation record signed by some keys only."""
    keys = {each: private(each).sign for each in (old, new)}
    whole = parse_note(
        encode_rotation(CLUSTER, (public(old), keys[old]), (public(new), keys[new]), 1)
    )
    both = dict(zip((old, new), whole.signatures, strict=True))
    return SignedNote(whole.text, tuple(both[each] for each in signers)).encode()


@mutation("rotation")
def rotation_signed_by_one_key_alone(copy: Damaged) -> None:
    frames = copy.frames("checkpoints.records", 2)
    signer = copy.chance.choice(("auditor", "next"))
    record = rotation("auditor", "next", signer)
    copy.put("checkpoints.records", [*frames, (rotation_key(CLUSTER), record)])


@mutation("rotation")
def rotation_from_a_key_that_nobody_trusts(copy: Damaged) -> None:
    frames = copy.frames("checkpoints.records", 2)
    record = rotation("stranger", "next", "stranger", "next")
    frames.insert(copy.chance.randrange(len(frames)), (rotation_key(CLUSTER), record))
    copy.put("checkpoints.records", frames)


@mutation("fork", "root")
def auditor_signs_a_second_history(copy: Damaged) -> None:
    """The auditor's own key signs another root of a size that it signed before."""
    frames = copy.frames("checkpoints.records", 2)
    key, value = frames[copy.chance.choice((1, 3))]
    tree = TreeName(CLUSTER, "audit", int(key.decode().rsplit("/", 1)[1]))
    size = int(value.decode().split("\n")[1])
    other = signed_note(Checkpoint(tree.origin, size, filled("other", 32)), tree)
    copy.put("checkpoints.records", [*frames, (key, other.encode())])


def _tree_file(copy: Damaged, pattern: str) -> Path:
    return copy.chance.choice(sorted((copy.directory / "trees").glob(pattern)))


@mutation("tile")
def tile_edited(copy: Damaged) -> None:
    path = _tree_file(copy, "audit/*/tile/[0-9]/**/*")
    while path.is_dir():
        path = _tree_file(copy, "audit/*/tile/[0-9]/**/*")
    path.write_bytes(copy.flipped(path.read_bytes()))


@mutation("entry", "tile")
def entry_edited(copy: Damaged) -> None:
    path = _tree_file(copy, "audit/*/tile/entries/*/*")
    path.write_bytes(copy.flipped(path.read_bytes()))


@mutation("tile")
def tile_missing(copy: Damaged) -> None:
    _tree_file(copy, "audit/*/tile/0/*/*").unlink()


@mutation("checkpoint")
def stored_checkpoint_missing(copy: Damaged) -> None:
    _tree_file(copy, "*/0/checkpoint").unlink()


@mutation("access", "root")
def event_edited(copy: Damaged) -> None:
    copy.edit(event_file(0), 1, 0)


@mutation(*DELIVERY, "receipt-chain")
def delivered_value_edited(copy: Damaged) -> None:
    copy.edit(copy.delivery(), 3, 2)


@mutation(*DELIVERY, "receipt-chain")
def delivered_key_edited(copy: Damaged) -> None:
    copy.edit(copy.delivery(), 3, 1)


@mutation(*DELIVERY, "receipt-chain")
def segment_header_edited(copy: Damaged) -> None:
    copy.edit(copy.delivery(), 3, 0)


@mutation("receipt")
def receipt_edited(copy: Damaged) -> None:
    copy.edit("receipts.records", 1, 0)


@mutation("receipt")
def receipt_signed_by_a_foreign_key(copy: Damaged) -> None:
    frames = copy.frames("receipts.records", 1)
    at = copy.chance.randrange(len(frames))
    frames[at] = (receipt("births-city", 0, 3, filled("chain", 32), by="stranger"),)
    copy.put("receipts.records", frames)


@mutation("receipt-chain")
def agency_read_other_records(copy: Damaged) -> None:
    frames = copy.frames("receipts.records", 1)
    frames.append((receipt("births-city", 1, 3, filled("other records", 32)),))
    copy.put("receipts.records", frames)


@mutation("receipt-chain")
def agency_read_more_than_was_audited(copy: Damaged) -> None:
    frames = copy.frames("receipts.records", 1)
    frames.append((receipt("births-city", 0, 10_000, filled("more", 32)),))
    copy.put("receipts.records", frames)


@mutation("missing")
def old_snapshot_restored(copy: Damaged) -> None:
    """Everything as it was some blocks ago: only what is kept elsewhere can tell."""
    shutil.rmtree(copy.directory)
    sample_bus(blocks=copy.chance.choice((2, 3)), events=copy.chance.randrange(5)).write(
        copy.directory
    )


@mutation("checkpoint", "root", "missing")
def all_made_anew_under_a_foreign_key(copy: Damaged) -> None:
    shutil.rmtree(copy.directory)
    bus = sample_bus(blocks=copy.chance.choice((4, 5)), rows=5)
    bus.signer = "stranger"
    bus.write(copy.directory)


@mutation("fork", "root", "missing")
def all_made_anew_under_the_auditors_own_key(copy: Damaged) -> None:
    """The operator has the key too: only the witness's note, kept elsewhere, can tell."""
    shutil.rmtree(copy.directory)
    sample_bus(blocks=4, rows=copy.chance.choice((3, 5)), events=4).write(copy.directory)


@cache
def whole(root: Path) -> tuple[Path, tuple[SignedNote, ...]]:
    """A good copy, and the newest checkpoints as somebody else keeps them."""
    return root / "good", tuple(sample_bus().write(root / "good"))


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, tuple[SignedNote, ...]]:
    return whole(tmp_path_factory.mktemp("copies"))


def verdicts(
    directory: Path, known: Iterable[SignedNote], level: int = 2
) -> tuple[set[str], set[str], str]:
    """Codes found by the product, by the one file, and the product's words."""
    notes = list(known)
    said = verify_copy(AuditCopy(directory), TRUST, CODEC, notes, level=level)
    other = shutong_verify.verify_copy(
        str(directory), TRUST.encode(), [note.encode() for note in notes], level
    )
    return {each.code for each in said.findings}, {code for code, _ in other.wrong}, said.text("en")


@pytest.mark.parametrize("number", range(CASES_EACH))
@pytest.mark.parametrize("name", sorted(MUTATIONS))
def test_damage_is_found_and_named_by_both_verifiers(
    tmp_path: Path, good: tuple[Path, tuple[SignedNote, ...]], name: str, number: int
) -> None:
    directory, known = good
    shutil.copytree(directory, tmp_path / "copy")
    change, codes = MUTATIONS[name]
    change(Damaged(tmp_path / "copy", random.Random(f"{name} {number}")))
    product, one_file, said = verdicts(tmp_path / "copy", known)
    assert product & codes, (product, said)
    assert one_file & codes, one_file


def test_there_are_at_least_two_hundred_cases() -> None:
    assert len(MUTATIONS) * CASES_EACH >= 200


@pytest.mark.parametrize("number", range(50))
def test_a_copy_without_damage_raises_no_alarm(tmp_path: Path, number: int) -> None:
    chance = random.Random(number)
    bus = sample_bus(
        lanes=chance.randrange(1, 4),
        blocks=chance.choice((1, 2, 3, 5, 9)),
        rows=chance.choice((1, 2, 7, 12)),
        events=chance.choice((0, 1, 6)),
    )
    bus.steps = chance.randrange(1, 4)
    known = bus.write(tmp_path / "copy")
    level = chance.choice((1, 2, 2))
    kept = known if number % 2 else known[:1]
    product, one_file, said = verdicts(tmp_path / "copy", kept, level)
    assert (product, one_file) == (set(), set()), said


def test_checkpoints_after_a_rotation_of_the_key_raise_no_alarm(tmp_path: Path) -> None:
    bus = sample_bus()
    bus.signer = "next"
    bus.write(tmp_path / "copy")
    path = tmp_path / "copy/checkpoints.records"
    frames = take(path, 2)
    record = rotation("auditor", "next", "auditor", "next")
    put(path, [*frames[:3], (rotation_key(CLUSTER), record), *frames[3:]])
    assert verdicts(tmp_path / "copy", ())[:2] == (set(), set())
    put(path, frames)
    assert verdicts(tmp_path / "copy", ())[:2] == ({"checkpoint"}, {"checkpoint"})


def test_a_tree_of_more_than_one_tile_raises_no_alarm(tmp_path: Path) -> None:
    lane = SampleLane(0)
    for _ in range(300):
        lane.add_block(1)
    known = SampleBus([lane]).write(tmp_path / "copy")
    assert verdicts(tmp_path / "copy", known)[:2] == (set(), set())
