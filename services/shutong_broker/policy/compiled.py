"""The decision by generated code: one function per schema version and list, made when first needed.

The generated function decides what is sound and what is refused after reading; a body that is not
canonical, a header at fault and anything unforeseen goes to the interpreter, so that there is one
reading of faults and both implementations give equal decisions for every input.
"""

from __future__ import annotations

from collections.abc import Callable

from shutong_broker.policy.decidegen import Generated, generate
from shutong_broker.policy.head import HeadReader
from shutong_broker.policy.interpret import INBOUND_BYTES_MAX, PolicyInterpreter
from shutong_broker.policy.matching import Moment
from shutong_broker.policy.model import Decision, InboundRecord, LaneFacts
from shutong_broker.policy.plan import DatasetPlan, SchemaPlan
from shutong_broker.policy.walkrun import Declined
from shutong_core.domain.regions import RegionTable
from shutong_core.wire.framing import PREFIX_BYTES, frame_prefix


class _Version:
    """One schema version: its plan, its function once a record asked for it, the present moment.

    `decide` raises Declined where the interpreter must decide.
    """

    __slots__ = ("decide", "generated", "moment", "plan", "problem")

    def __init__(self, plan: SchemaPlan) -> None:
        self.plan = plan
        self.generated: Generated | None = None
        self.decide: Callable[..., Decision] = _never
        self.moment: Moment | None = None
        self.problem = ""

    def generate(self, dataset: DatasetPlan, table: RegionTable) -> None:
        """Make the function, once; `problem` says why there is none."""
        if self.generated is not None or self.problem:
            return
        try:
            self.generated = generate(dataset, self.plan, table)
        except Exception as error:  # the interpreter decides then, by the same rules
            self.problem = f"{type(error).__name__}: {error}"
        else:
            self.decide = self.generated.decide

    def moment_at(self, now_ms: int) -> Moment:
        """What holds at `now_ms`. Raises Declined if there is no function."""
        if self.generated is None:
            raise Declined
        self.moment = self.generated.matcher.moment(now_ms)
        return self.moment


def _never(*_: object) -> Decision:
    raise Declined


class CompiledPolicy:
    """Decides the records of one dataset by its plan; equal to `PolicyInterpreter`."""

    def __init__(self, plan: DatasetPlan, table: RegionTable) -> None:
        self._plan = plan
        self._table = table
        self._interpreter = PolicyInterpreter(plan, table)
        self._heads = HeadReader(plan, table)
        self._dataset = plan.dataset.id if plan.in_force else None
        versions: dict[int, _Version] = {}
        self._by_prefix: dict[bytes, _Version] = {}
        self._by_guid: dict[str, _Version] = {}
        for key, of in plan.schemas.items():
            version = versions.setdefault(id(of), _Version(of))
            if isinstance(key, str):
                self._by_guid[key] = version
            else:
                self._by_prefix[frame_prefix(key)] = version
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

    def identity(self, record: InboundRecord) -> tuple[str, str] | None:
        """(publisher, event id) of a record that has both; the publisher stands in the list."""
        try:
            head = self._heads.read(record.headers)
        except Exception:  # whatever is wrong with them, the interpreter holds the rules
            head = None
        if head is None:
            return self._interpreter.identity(record)
        publisher, event_id = head.publisher, head.event_id
        return (publisher, event_id) if publisher and event_id is not None else None

    def decide(self, record: InboundRecord, facts: LaneFacts, now_ms: int) -> Decision:
        """All verdicts of `record` at `now_ms` (milliseconds since the epoch, UTC)."""
        try:
            dataset, partition, offset, key, value, headers, arrived_ms = record
            if key is not None and value is not None and dataset == self._dataset:
                head = self._heads.read(headers)
                if head is not None and len(value) + len(key) <= INBOUND_BYTES_MAX:
                    if head.guid is None:
                        version = self._by_prefix.get(value[:PREFIX_BYTES])
                        body = value[PREFIX_BYTES:]
                    else:
                        version, body = self._by_guid.get(head.guid), value
                    if version is not None:
                        moment = version.moment
                        if moment is None or not moment.from_ms <= now_ms < moment.until_ms:
                            version.generate(self._plan, self._table)
                            moment = version.moment_at(now_ms)
                        return version.decide(
                            body, key, partition, offset, arrived_ms, head, facts.repeat, moment
                        )
        except Exception:  # noqa: S110 - not canonical, or unforeseen: never an allowance
            pass
        self.declined += 1
        return self._interpreter.decide(record, facts, now_ms)

    def explain_source(self) -> str:
        """The generated text of every schema version, in the order of the list; for people."""
        parts = []
        seen: set[int] = set()
        for version in self._by_prefix.values():
            if id(version) not in seen:
                seen.add(id(version))
                version.generate(self._plan, self._table)
                parts.append(_explained(version))
        return "\n".join(parts)


def _explained(version: _Version) -> str:
    fields = version.plan.schema.record.fields
    head = [f"# {version.plan.schema.name}, {version.plan.schema.guid}"]
    head += [f"#   item {number}: {field.name}" for number, field in enumerate(fields)]
    if version.generated is None:
        return "\n".join([*head, f"# decided by the interpreter: {version.problem}", ""])
    return "\n".join([*head, version.generated.source])
