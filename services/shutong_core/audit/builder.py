"""Collects one transaction's verdicts into a block: sections, header, seal."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from shutong_core.audit.body import BODY_BYTES_MAX, Body, body_hash, encode_body
from shutong_core.audit.digests import SALT_BYTES
from shutong_core.audit.header import FLAG_AFTER_ABORT, Header, encode_header, header_hash
from shutong_core.audit.inputbuilder import InputBuilder
from shutong_core.domain.errors import Fatal


@dataclass(frozen=True, slots=True)
class BlockFacts:
    """What a header says besides the counts and the body's hash; see `Header`."""

    cluster: str
    lane: int
    sequence: int
    previous: bytes
    list_number: int
    list_digest: bytes
    engine: str
    decided_ms: int
    division_digest: bytes
    instance: bytes


@dataclass(frozen=True, slots=True)
class Block:
    """A finished block: topic audit takes `header` as key, `body` as value."""

    header: bytes
    body: bytes
    hash: bytes  # of the header: `previous` of the next block


class BlockBuilder:
    """One block in the making. Not reusable: one builder, one transaction, one salt."""

    def __init__(self, salt: bytes) -> None:
        """`salt`: 16 fresh random bytes; the caller makes row digests with it too."""
        if len(salt) != SALT_BYTES:
            raise Fatal(f"a block's salt has {SALT_BYTES} bytes")
        self.salt = salt
        self._inputs: list[InputBuilder] = []

    def add_input(self, dataset: str, first: int, loading: str = "") -> InputBuilder:
        """Opens the section of one input, read from offset `first` on.

        Several may be open at once; each (dataset, loading) once a block. `loading` names the
        grant when the rows come from its second cursor.
        """
        part = InputBuilder(dataset, first, loading)
        self._inputs.append(part)
        return part

    @property
    def rows(self) -> int:
        """Rows so far."""
        return sum(part.rows for part in self._inputs)

    def size_estimate(self) -> int:
        """Upper estimate of the body's bytes so far: end the transaction well before the limit."""
        return 1024 + sum(part.size_estimate() for part in self._inputs)

    def build(self, facts: BlockFacts, exposed: Iterable[str] | None = None) -> Block:
        """The finished block.

        `exposed`: None unless the lane's previous attempt was aborted; then the grants it may
        have shown (empty: not known). Raises Fatal if the verdicts contradict each other or the
        body is larger than BODY_BYTES_MAX.
        """
        cursors = {(part.dataset, part.loading) for part in self._inputs}
        if len(cursors) != len(self._inputs):
            raise Fatal("an input occurs twice in a block")
        publishers: dict[str, int] = {}
        sections = tuple(part.section(publishers) for part in self._inputs)
        grants = {column.grant for section in sections for column in section.grants}
        grants.update(run.grant for section in sections for run in section.withheld)
        body = Body(
            salt=self.salt,
            publishers=tuple(publishers),
            grants=tuple(sorted(grants)),
            exposed=tuple(sorted(set(exposed or ()))),
            inputs=sections,
        )
        return seal(facts, body, after_abort=exposed is not None)


def seal(facts: BlockFacts, body: Body, *, after_abort: bool) -> Block:
    """Encodes `body` under a header that binds it. Raises Fatal if it is too large."""
    encoded = encode_body(body)
    if len(encoded) > BODY_BYTES_MAX:
        raise Fatal(f"block body of {len(encoded)} bytes, limit {BODY_BYTES_MAX}")
    counts = body.counts()
    header = encode_header(
        Header(
            cluster=facts.cluster,
            lane=facts.lane,
            sequence=facts.sequence,
            previous=facts.previous,
            list_number=facts.list_number,
            list_digest=facts.list_digest,
            engine=facts.engine,
            decided_ms=facts.decided_ms,
            division_digest=facts.division_digest,
            instance=facts.instance,
            flags=FLAG_AFTER_ABORT if after_abort else 0,
            inputs=counts.inputs,
            rows=counts.rows,
            refused=counts.refused,
            placed=counts.placed,
            deferred=counts.deferred,
            body_length=len(encoded),
            body_hash=body_hash(encoded),
        )
    )
    return Block(header, encoded, header_hash(header))
