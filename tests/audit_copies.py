"""Audit copies of sample lanes, as the product would export them, with keys known to tests."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

import shutong_core.audit.follow as following
from audit_samples import CLUSTER, PUBLISHER, SampleLane, filled
from shutong_auditor.copyfiles import (
    ABOUT,
    About,
    block_file,
    delivery_file,
    event_file,
    segment_part,
    write_frame,
)
from shutong_auditor.treestore import TreeStore
from shutong_core.audit.access import AccessChain, Act, event_hash
from shutong_core.audit.block import parse_body
from shutong_core.audit.checkpoint import Checkpoint, TreeName
from shutong_core.audit.receipts import DeliveryReceipt, encode_receipt
from shutong_core.audit.rowtree import block_leaf, row_root
from shutong_core.audit.signednote import (
    Algorithm,
    NoteKey,
    SignedNote,
    cosign,
    with_signatures,
)
from shutong_core.audit.trust import TrustBundle
from unit.bus_schemas import codec

CODEC = codec()
AGENCY = PUBLISHER.partition("/")[0]


def private(name: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(filled(name, 32))


def public(name: str) -> bytes:
    return private(name).public_key().public_bytes_raw()


def agency_key_id(name: str = "agency") -> str:
    return f"agency/{AGENCY}/{hashlib.sha256(public(name)).hexdigest()[:16]}"


WITNESS = NoteKey("office/w1", public("w1"), Algorithm.COSIGNATURE)
TRUST = TrustBundle(CLUSTER, (public("auditor"),), (WITNESS,), 1, {AGENCY: (public("agency"),)})


def signed_note(checkpoint: Checkpoint, tree: TreeName, by: str = "auditor") -> SignedNote:
    note = checkpoint.sign(tree.key(public(by)), private(by).sign)
    return with_signatures(note, [cosign(note.text, WITNESS, private("w1").sign, 1_800_000_000)])


def receipt(grant: str, lane: int, last: int, chain: bytes, by: str = "agency") -> bytes:
    made = DeliveryReceipt(
        cluster=CLUSTER,
        grant=grant,
        lane=lane,
        first=1,
        last=last,
        chain=chain.hex(),
        agency=f"{AGENCY}/reader",
        at_ms=1_800_000_000_000,
    )
    return encode_receipt(made, agency_key_id(by), private(by).sign)


@dataclass
class SampleBus:
    """Lanes and events with everything a copy holds of them."""

    lanes: list[SampleLane]
    events: list[bytes] = field(default_factory=list)
    signer: str = "auditor"
    #: Checkpoints: tree topic and number → sizes that were signed on the way.
    steps: int = 2

    def add_events(self, count: int) -> SampleBus:
        chain = AccessChain("producer", "ab" * 16)
        for number in range(count):
            act = Act(1_800_000_000_000 + number, "org/sys", "test", f"target-{number}")
            event, chain = chain.next(act, CODEC.encode)
            self.events.append(event)
        return self

    def leaves(self, tree: TreeName) -> list[bytes]:
        if tree.topic == "access":
            return [event_hash(each) for each in self.events] if tree.number == 0 else []
        blocks = self.lanes[tree.number].blocks
        return [block_leaf(each.header, row_root(parse_body(each.body))) for each in blocks]

    @property
    def trees(self) -> list[TreeName]:
        return [
            TreeName(CLUSTER, topic, number)
            for topic in ("audit", "access")
            for number in range(len(self.lanes))
        ]

    def write(self, directory: Path) -> list[SignedNote]:
        """The copy; returns the newest checkpoint of each tree."""
        for name in ("audit", "access"):
            (directory / name).mkdir(parents=True)
        (directory / ABOUT).write_bytes(About(CLUSTER, len(self.lanes)).encode())
        self._write_blocks(directory)
        heads, records = [], []
        for tree in self.trees:
            notes = self._grow(directory, tree)
            heads.append(notes[-1])
            records += [(tree.origin.encode(), each.encode()) for each in notes]
        put(directory / "checkpoints.records", records)
        put(directory / "receipts.records", [(each,) for each in self.receipts()])
        for grant, found in self.deliveries().items():
            path = directory / delivery_file(grant, 0)
            path.parent.mkdir(parents=True)
            put(path, [(segment_part(headers), key, value) for headers, key, value in found])
        return heads

    def _write_blocks(self, directory: Path) -> None:
        for lane in self.lanes:
            frames = [(each.header, each.body) for each in lane.blocks]
            put(directory / block_file(lane.lane), frames)
            events = self.events if lane.lane == 0 else []
            put(directory / event_file(lane.lane), [(each,) for each in events])

    def _grow(self, directory: Path, tree: TreeName) -> list[SignedNote]:
        store = TreeStore(directory / "trees" / tree.topic / str(tree.number))
        leaves = self.leaves(tree)
        notes = []
        for step in range(1, self.steps + 1):
            for leaf in leaves[store.size : len(leaves) * step // self.steps]:
                store.add(leaf)
            store.flush()
            checkpoint = Checkpoint(tree.origin, store.size, store.root())
            notes.append(signed_note(checkpoint, tree, self.signer))
            store.store_checkpoint(notes[-1], 0)
        return notes

    def deliveries(self) -> dict[str, list]:
        found: dict[str, list] = {}
        for lane in self.lanes:
            for grant, records in lane.deliveries.items():
                found.setdefault(grant, []).extend(records)
        return found

    def receipts(self) -> Iterable[bytes]:
        """One for each whole lane of each grant, one for its first segment."""
        for lane in self.lanes:
            for grant, records in sorted(lane.deliveries.items()):
                follower = following.ChainFollower(CLUSTER, grant)
                events = [event for record in records for event in follower.feed(*record)]
                events += follower.end_segment()
                ends = [each for each in events if isinstance(each, following.SegmentEnd)]
                for end in (ends[0], ends[-1]):
                    yield receipt(grant, lane.lane, end.last, end.chain)


def sample_bus(lanes: int = 2, blocks: int = 4, rows: int = 6, events: int = 5) -> SampleBus:
    made = [SampleLane(lane) for lane in range(lanes)]
    for lane in made:
        for number in range(blocks):
            lane.add_block(rows, exposed=("births-city",) if number == 1 else None)
    return SampleBus(made).add_events(events)


def put(path: Path, frames: Sequence[tuple[bytes | None, ...]]) -> None:
    with path.open("wb") as stream:
        for frame in frames:
            write_frame(stream, *frame)


def take(path: Path, parts: int) -> list[tuple[bytes | None, ...]]:
    """Frames of a file that is whole."""
    data, at, flat = path.read_bytes(), 0, []
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        at += 4
        if size == 0xFFFFFFFF:
            flat.append(None)
        else:
            flat.append(data[at : at + size])
            at += size
    return [tuple(flat[n : n + parts]) for n in range(0, len(flat), parts)]
