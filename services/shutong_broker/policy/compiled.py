"""The decision by generated code: one function per schema version and list, made when first needed.

The generated function decides what is sound and what is refused after reading; a body that is not
canonical, a header at fault and anything unforeseen goes to the interpreter, so that there is one
reading of faults and both implementations give equal decisions for every input.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from shutong_broker.policy.checkgen import TOKEN_BYTES
from shutong_broker.policy.columns import Columns
from shutong_broker.policy.decidegen import Generated, generate
from shutong_broker.policy.head import Head, HeadReader
from shutong_broker.policy.interpret import PolicyInterpreter
from shutong_broker.policy.matching import Moment
from shutong_broker.policy.model import (
    Decision,
    InboundRecord,
    LaneFacts,
    Operation,
    Placement,
)
from shutong_broker.policy.native import NativeRunner, native_runner
from shutong_broker.policy.plan import DatasetPlan, SchemaPlan
from shutong_broker.policy.runheads import RunHeads
from shutong_broker.policy.withholding import WithheldGrants
from shutong_core.domain.reasons import Reason
from shutong_core.domain.regions import RegionTable
from shutong_core.wire.framing import PREFIX_BYTES, VALUE_SCHEMA_HEADER, frame_prefix

_NO_SALT = b""


class _Version:
    """One schema version: its plan, its function once a record asked for it, the present moment."""

    def __init__(
        self,
        dataset: DatasetPlan,
        plan: SchemaPlan,
        schema_id: int,
        table: RegionTable,
        *,
        native: bool,
    ) -> None:
        self.dataset = dataset
        self.plan = plan
        self.table = table
        self.prefix = frame_prefix(schema_id)
        self.generated: Generated | None = None
        self.problem = ""
        self._wants_native = native
        self._native: NativeRunner | None = None
        self._moment: Moment | None = None

    def generate(self) -> Generated | None:
        """The function, made once, and the kernel's if it is wanted; `problem` says why not."""
        if self.generated is None and not self.problem:
            try:
                self.generated = generate(self.dataset, self.plan, self.table)
            except Exception as error:  # the interpreter decides then, by the same rules
                self.problem = f"{type(error).__name__}: {error}"
            else:
                if self._wants_native:
                    self._native = native_runner(
                        self.dataset, self.plan, self.generated, self.table
                    )
        return self.generated

    def run(
        self,
        records: Sequence[InboundRecord],
        salt: bytes,
        repeat: Reason | None,
        now_ms: int,
        reader: HeadReader,
    ) -> Columns | None:
        """The columns of the first of `records`; None if there is no function."""
        generated, moment = self.generate(), self._moment
        if generated is None:
            return None
        if moment is None or not moment.from_ms <= now_ms < moment.until_ms:
            moment = self._moment = generated.matcher.moment(now_ms)
        if self._native is not None and repeat is None and len(records) > 1:
            return self._native.run(records, 0, len(records), salt, moment)
        heads = RunHeads(records, self.prefix, self.dataset.lanes, reader)
        return generated.run(records, heads, salt, repeat, moment, reader.read)


class CompiledPolicy:
    """Decides the records of one dataset by its plan; equal to `PolicyInterpreter`."""

    def __init__(self, plan: DatasetPlan, table: RegionTable, *, native: bool = False) -> None:
        """`native`: runs go to the compiled kernel, where it is there and has a program."""
        self._plan = plan
        self._interpreter = PolicyInterpreter(plan, table)
        self._heads = HeadReader(plan, table)
        versions: dict[int, _Version] = {}
        self._by_prefix: dict[bytes, _Version] = {}
        self._by_guid: dict[str, _Version] = {}
        for key, of in plan.schemas.items() if plan.in_force else ():
            if not isinstance(key, str):
                version = versions[id(of)] = _Version(plan, of, key, table, native=native)
                self._by_prefix[version.prefix] = version
        for key, of in plan.schemas.items():
            if isinstance(key, str) and id(of) in versions:
                self._by_guid[key] = versions[id(of)]
        #: Records that the interpreter decided; for tests and figures.
        self.declined = 0

    @property
    def dataset(self) -> str:
        """The dataset's id."""
        return self._plan.dataset.id

    @property
    def grants(self) -> tuple[str, ...]:
        """Ids of every grant of the dataset, ascending."""
        return self._plan.grants

    def id_hash(self, record: InboundRecord) -> bytes | None:
        """What stands for publisher and event id of a record that has both, see `Head`."""
        try:
            head = self._heads.read(record.headers)
        except Exception:  # whatever is wrong with them, the interpreter holds the rules
            head = None
        if head is None:
            return self._interpreter.id_hash(record)
        return head.id_hash

    def prepare(self) -> Iterator[None]:
        """Make the functions of all schema versions, one a step."""
        for version in self._by_prefix.values():
            version.generate()
            yield

    def run(self, records: Sequence[InboundRecord], salt: bytes, now_ms: int) -> Columns:
        """Decide from the first of `records` (all of this dataset) on, see `DatasetPolicy.run`."""
        value = records[0].value
        version = None if value is None else self._by_prefix.get(value[:PREFIX_BYTES])
        if version is None:
            return Columns()
        try:
            columns = version.run(records, salt, None, now_ms, self._heads)
        except Exception:  # never an allowance: each is decided alone
            columns = None
        return columns or Columns()

    def decide(self, record: InboundRecord, facts: LaneFacts, now_ms: int) -> Decision:
        """All verdicts of `record` at `now_ms` (milliseconds since the epoch, UTC)."""
        try:
            decision = self._alone(record, facts, now_ms)
        except Exception:  # not canonical, or unforeseen: never an allowance
            decision = None
        if decision is None:
            self.declined += 1
            decision = self._interpreter.decide(record, facts, now_ms)
        return decision

    def _alone(self, record: InboundRecord, facts: LaneFacts, now_ms: int) -> Decision | None:
        """The decision by the generated function; None where the interpreter must decide."""
        head = self._heads.read(record.headers)
        if head is None or record.value is None or record.dataset != self.dataset:
            return None
        if head.guid is None:
            version = self._by_prefix.get(record.value[:PREFIX_BYTES])
        else:
            version = self._by_guid.get(head.guid)
        if version is None:
            return None
        if head.guid is not None:
            kept = [each for each in record.headers if each[0] != VALUE_SCHEMA_HEADER]
            record = record._replace(value=version.prefix + record.value, headers=kept)
        columns = version.run((record,), _NO_SALT, facts.repeat, now_ms, self._heads)
        if columns is None or not columns.rows:
            return None if columns is None else columns.stopped
        return self._decision(record, head, columns)

    def _decision(self, record: InboundRecord, head: Head, columns: Columns) -> Decision:
        """The one row of `columns` as a decision."""
        own = tuple(columns.own)
        shared = columns.shared[0][2] if columns.shared else ()
        reached = frozenset([*columns.placed, *(each.grant for each in own)])
        return Decision(
            refusal=None,
            path="",
            publisher=head.publisher,
            event_id=head.event_id,
            body=(record.value or b"")[PREFIX_BYTES:],
            tokens=tuple(
                columns.tokens[at : at + TOKEN_BYTES]
                for at in range(0, len(columns.tokens), TOKEN_BYTES)
            ),
            operation=_OPERATIONS[columns.operations[0]],
            placements=tuple(
                Placement(
                    grant,
                    placed.keys[0],
                    placed.values[0],
                    placed.headers[0] if placed.headers else (),
                )
                for grant, placed in columns.placed.items()
            ),
            withheld=WithheldGrants(shared, own, _Reached(self.grants, reached)),
        )

    def explain_source(self) -> str:
        """The generated text of every schema version, in the order of the list; for people."""
        for _ in self.prepare():
            pass
        return "\n".join(map(_explained, self._by_prefix.values()))


_OPERATIONS = {operation.number: operation for operation in Operation}


class _Reached(NamedTuple):
    """Fits `withholding.Matched`."""

    everyone: Sequence[str]
    reached: frozenset[str]


def _explained(version: _Version) -> str:
    fields = version.plan.schema.record.fields
    head = [f"# {version.plan.schema.name}, {version.plan.schema.guid}"]
    head += [f"#   item {number}: {field.name}" for number, field in enumerate(fields)]
    if version.generated is None:
        return "\n".join([*head, f"# decided by the interpreter: {version.problem}", ""])
    return "\n".join([*head, version.generated.source])
