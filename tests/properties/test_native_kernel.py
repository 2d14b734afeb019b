"""The optional compiled kernel against both Python implementations, on the same worlds.

Whatever it decides is what the interpreter decides, to the byte; where it stops, the record is
refused or otherwise not plain. It is handed sound records, bytes that are nearly a record, and
things that no record is made of.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from properties import avro_strategies as avro
from properties import test_compiled_policy as generated
from properties import test_decide_oracle as independent
from shutong_broker.policy import native
from shutong_broker.policy.columns import Columns, Placed
from shutong_broker.policy.compiled import CompiledPolicy
from shutong_broker.policy.minors import day_in_china
from shutong_broker.policy.model import Decision, InboundRecord, LaneFacts
from shutong_broker.policy.native import NativeRunner, native_runner
from shutong_broker.policy.plan import DatasetPlan
from shutong_broker.policy.withholding import Withheld
from shutong_core.audit.block import row_digest
from shutong_core.audit.digests import id_hash
from shutong_core.domain.reasons import Reason
from shutong_core.wire.codec import encode
from shutong_core.wire.framing import frame, guid_header
from shutong_core.wire.keys import key_bytes, partition_of
from unit import policy_world as world
from unit.policy_world import ADULT, CHILD

pytestmark = pytest.mark.skipif(
    not native.AVAILABLE, reason="the optional compiled kernel is not installed: make kernel"
)

SALT = bytes(range(16))
OWN = {Reason.CONDITION_NOT_MET, Reason.MINOR_NOT_GRANTED}
TIMES_MIN = 10
ROUNDS_MIN, ROUNDS_MAX = 2, 12
EXAMPLES = 10  # of a round of the independent reading
SEEN: Counter[str] = Counter()


def folded(plan: DatasetPlan, decisions: Sequence[Decision]) -> Columns:
    """The columns that say what `decisions`, none of them a refusal, say one by one."""
    ids = [
        None if each.event_id is None else hashed(plan, each.publisher, each.event_id)
        for each in decisions
    ]
    columns = Columns(
        rows=len(decisions),
        publishers=[each.publisher for each in decisions],
        operations=bytes(each.operation.number for each in decisions),
        digests=b"".join(row_digest(SALT, each.body) for each in decisions),
        token_counts=bytes(len(each.tokens) for each in decisions),
        tokens=b"".join(b"".join(each.tokens) for each in decisions),
        id_present=bytes(each is not None for each in ids),
        ids=[each for each in ids if each is not None],
    )
    for row, decision in enumerate(decisions):
        for grant, key, value, headers in decision.placements:
            placed = columns.placed.setdefault(grant, Placed())
            placed.rows.append(row)
            placed.keys.append(key)
            placed.values.append(value)
            placed.headers += [headers] if headers else []
        told = [each for each in decision.withheld if each.reason in OWN]
        for withheld in told:
            columns.own.setdefault(withheld, []).append(row)
        columns.shared.append((row, row + 1, shared_of(decision.withheld)))
    return columns


def hashed(plan: DatasetPlan, publisher: str, event_id: str) -> bytes:
    return id_hash(publisher, plan.dataset.id, event_id, plan.id_key)


def shared_of(withheld: Sequence[Withheld]) -> tuple[Withheld, ...]:
    apart = OWN | {Reason.REGION_OUT_OF_SCOPE}
    return tuple(sorted(each for each in withheld if each.reason not in apart))


def spread(columns: Columns) -> Columns:
    """The same with one run of shared reasons for each row."""
    told: list[tuple[Withheld, ...]] = [()] * columns.rows
    for first, end, shared in columns.shared:
        assert 0 <= first < end <= columns.rows
        assert shared
        told[first:end] = [tuple(sorted(shared))] * (end - first)
    runs = [(row, row + 1, shared) for row, shared in enumerate(told)]
    return replace(columns, shared=runs, publishers=list(columns.publishers))


class Kernel:
    """The kernel's programs for every schema version of one policy."""

    def __init__(self, policy: CompiledPolicy) -> None:
        self.plan = policy._plan
        self.plain = policy._interpreter
        self.versions: list[Any] = []
        self.runners: list[tuple[NativeRunner, Any]] = []
        for version in dict.fromkeys(policy._by_prefix.values()):
            version.generate()
            if version.generated is not None:
                made = native_runner(policy._plan, version.plan, version.generated, version.table)
                if made is not None:
                    self.runners.append((made, version))
            self.versions.append(version)

    def decides(self, records: Sequence[InboundRecord], now_ms: int) -> None:
        """Each run is what the interpreter says of it; each stop has a reason."""
        decisions = [self.plain.decide(each, LaneFacts(), now_ms) for each in records]
        for runner, version in self.runners:
            try:
                moment = version.generated.matcher.moment(now_ms)
            except OverflowError:  # beyond the calendar
                return
            at = 0
            while at < len(records):
                columns = runner.run(records, at, len(records), SALT, moment)
                run = decisions[at : at + columns.rows]
                assert [each.refusal for each in run if each.refusal is not None] == []
                assert spread(columns) == folded(self.plan, run)
                SEEN["decided"] += columns.rows
                SEEN["placed"] += sum(len(each.placements) for each in run)
                SEEN.update(each.name for one in run for each in {w.reason for w in one.withheld})
                at += columns.rows
                if at < len(records):
                    self.stopped(records[at], decisions[at], version)
                at += 1

    def stopped(self, record: InboundRecord, decision: Decision, version: Any) -> None:
        SEEN["stopped"] += 1
        of_this = self.plan.schemas.get(schema_key(record)) is version.plan
        unclear = any(each.reason is Reason.CONDITION_ERROR for each in decision.withheld)
        assert decision.refusal is not None or unclear or not of_this, "a sound record was left"


def schema_key(record: InboundRecord) -> int | str | None:
    value = record.value or b""
    return struct.unpack(">I", value[1:5])[0] if len(value) >= 5 else None


class Compared(CompiledPolicy):
    """The generated policy, which asks the kernel too."""

    kernel: Kernel | None = None

    def decide(self, record: InboundRecord, facts: LaneFacts, now_ms: int) -> Decision:
        decision = super().decide(record, facts, now_ms)
        if self.kernel is None:
            self.kernel = Kernel(self)
        self.kernel.decides([record], now_ms)
        ready = {id(version) for _, version in self.kernel.runners}
        version = self._by_prefix.get((record.value or b"")[:5])
        # Where the generated policy decides, the kernel has a program, unless all is refused.
        if version is not None and version.generated is not None and id(version) not in ready:
            assert decision.refusal is not None
            SEEN["no program"] += 1
        return decision


def missed(*names: str) -> dict[str, int]:
    """What the comparison is there to try and has hardly tried."""
    return {name: SEEN[name] for name in names if SEEN[name] < TIMES_MIN}


def test_the_kernel_decides_as_both_for_every_schema_and_list(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(generated, "CompiledPolicy", Compared)
    SEEN.clear()
    wanted = ("decided", "stopped", "placed", "REGION_OUT_OF_SCOPE", *(each.name for each in OWN))
    for done in range(ROUNDS_MAX):
        if done < ROUNDS_MIN or missed(*wanted):
            generated.compare()
    assert missed(*wanted) == {}


def test_the_kernel_agrees_with_an_independent_reading_of_the_rules(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(independent, "CompiledPolicy", Compared)
    SEEN.clear()
    monkeypatch.setattr(independent, "EXAMPLES_PER_ROUND", EXAMPLES)
    for aim in independent.BENDS:
        independent.compare(aim, Counter())
    assert missed("decided", "stopped", "placed") == {}


@st.composite
def runs(draw: st.DrawFn) -> tuple[generated.World, list[InboundRecord]]:
    """Records of one world: sound ones, and now and then one that is nearly so."""
    of, first = draw(generated.records())
    records = []
    for n in range(draw(st.integers(1, 12))):
        datum = dict(first if n == 0 else draw(avro.data(of.schema.record)))
        datum["town"] = draw(st.sampled_from(generated.REGIONS[:4]))
        body = encode(of.schema, datum)
        record = generated.inbound(draw, of, body, key_bytes(of.schema, of.key, datum))
        if draw(st.integers(0, 9)) == 7:
            record = record._replace(value=frame(1, draw(avro.mutated(body))))
        records.append(record)
    return of, records


@settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    database=None,
    phases=(Phase.generate,),
)
@given(runs())
def test_a_run_is_what_its_records_are_one_by_one(
    drawn: tuple[generated.World, list[InboundRecord]],
) -> None:
    of, records = drawn
    kernel = Kernel(of.compiled)
    kernel.decides(records, generated.NOW_MS)
    lane = [each for each in records if each.partition == records[0].partition]
    for runner, version in kernel.runners:
        moment = version.generated.matcher.moment(generated.NOW_MS)
        columns = runner.run(lane, 0, len(lane), SALT, moment)
        pure = of.compiled.run(lane, SALT, generated.NOW_MS)
        assert spread(columns) == replace(spread(pure), stopped=None)
    kernel.decides(tuple(records), generated.NOW_MS + 86_400_000)  # type: ignore[arg-type]


WORLD = world.World(make=CompiledPolicy)
SOUND = WORLD.record()
NOW_MS = world.now_ms()


def plain_kernel() -> tuple[Kernel, NativeRunner, Any]:
    assert isinstance(WORLD.policy, CompiledPolicy)
    kernel = Kernel(WORLD.policy)
    ((runner, version),) = kernel.runners
    return kernel, runner, version.generated.matcher.moment(NOW_MS)


def headers_with(*more: tuple[Any, Any]) -> tuple[tuple[Any, Any], ...]:
    return (*SOUND.headers, *more)


CONDITIONS = [
    *(f"members {op} children" for op in ("==", "!=", "<", ">=")),
    *(f"amount {op} 980.5" for op in ("==", "!=", "<", "<=", ">", ">=")),
    *(f"amount {op} wide" for op in ("==", "<", ">=")),
    "amount == 0.001 || amount > 980.499",
    "amount in [1.5, 980.50, 0.001] || wide in [3]",
    "!(amount < 1.005) && has(amount)",
    "score in [61.5, 0.0] || score > 1e9",
    "score >= -0.5",
    'decided_on > "2026-11-02" || decided_on in ["2026-11-01"]',
    'updated_at <= "2026-11-02T08:30:00Z"',
    'category == "URBAN" || !active',
    'category in ["URBAN", "RURAL"] && active',
    'remarks >= "示例" || remarks == ""',
    'remarks in ["示例", "x"]',
    "remarks == agency",
    "!(remarks != agency)",
    "has(remarks) && has(agency)",
    "amount > 1.0 && active",
    'active && !(remarks == "x")',
    '!(remarks == "x" || members > children)',
    '!(remarks != "x" && !active)',
]
WIDE = {"type": ["null", {"type": "bytes", "logicalType": "decimal", "precision": 38, "scale": 0}]}
#: As in the world's own list, and what a rule and births ask for.
CROWDED = world.World(
    {
        "schema": {"home_code": {"name": "wide", **WIDE}},
        "dataset": {
            "regions": {"受理地": "town_code"},
            "birth_items": ["updated_at", "decided_on", "remarks"],
            "quality": [{"rule": "sum", "total": "members", "parts": ["wide", "adults"]}],
        },
        "grants": {
            f"g{n}": {"condition": text, "minors": n % 2 == 0} for n, text in enumerate(CONDITIONS)
        },
    },
    make=CompiledPolicy,
)


@st.composite
def crowded(draw: st.DrawFn) -> InboundRecord:
    """A record of that list, mostly one that adds up and is of the time of the decision."""
    some = draw(st.sampled_from([-(10**37), -1, 0, 0, 1, 3]))
    adults = draw(st.integers(0, 3))
    births = ["2012-11-19", "2012-11-20", "2012-11-21", "1990-02-28", "1990-02-28"]
    born, decided, told = (draw(st.sampled_from(births)) for _ in range(3))
    values = world.typed(
        {name: value for name, value in world.RECORD.items() if name != "home_code"}
        | {
            "wide": draw(st.sampled_from([str(some)] * 5 + [None])),
            "adults": adults,
            "members": max(some + adults, -5) + draw(st.sampled_from([0, 0, 0, 1])),
            "children": draw(st.sampled_from([None, 0, 1, 3])),
            "amount": draw(st.sampled_from([None, "980.50", "980.49", "980.51", "0.00", "-3.00"])),
            "score": draw(st.sampled_from([61.5, 0.0, -0.0, -0.5, -0.75, 1e300, 1e9])),
            "decided_on": draw(st.sampled_from([decided, decided, "2026-11-01", "2026-11-02"])),
            "updated_at": draw(
                st.sampled_from(
                    [f"{born}T15:59:59.999+00:00", f"{born}T16:00:00+00:00", "9999-12-31T23:59:59Z"]
                )
            ),
            "category": draw(st.sampled_from(["URBAN", "RURAL"])),
            "active": draw(st.booleans()),
            "remarks": draw(st.sampled_from([None, None, "", "示例", "x", told, ADULT, CHILD])),
            "agency": draw(st.sampled_from([None, "", "示例"])),
        },
        CROWDED.schema,
    )
    datum = {name: values[name] for name in CROWDED.schema.fields}
    key = key_bytes(CROWDED.schema, ("decision_no",), datum)
    return SOUND._replace(
        key=key,
        partition=partition_of(key, world.LANES),
        value=frame(1, encode(CROWDED.schema, datum)),
    )


@settings(max_examples=400, deadline=None, database=None)
@given(st.lists(crowded(), min_size=1, max_size=4))
def test_every_kind_of_condition_birth_and_sum_comes_to_the_same(
    records: list[InboundRecord],
) -> None:
    assert isinstance(CROWDED.policy, CompiledPolicy)
    kernel = Kernel(CROWDED.policy)
    assert kernel.runners
    kernel.decides(records, NOW_MS)


HOSTILE: Mapping[str, Mapping[str, Any]] = {
    "no value": {"value": None},
    "no key": {"key": None},
    "a value that is no bytes": {"value": "text"},
    "a value that may change": {"value": bytearray(SOUND.value or b"")},
    "a key that is no bytes": {"key": 5},
    "no headers": {"headers": None},
    "headers that are a number": {"headers": 5},
    "a header that is no pair": {"headers": headers_with(("ce_time",))},  # type: ignore[arg-type]
    "a header that is no tuple": {"headers": [["shutong_publisher", b"x"]]},
    "a header's name that is bytes": {"headers": headers_with((b"ce_time", b""))},
    "a header's name that is half a character": {"headers": headers_with(("\ud800", b""))},
    "a publisher that is null": {"headers": (("shutong_publisher", None),)},
    "an event id that is text": {"headers": headers_with(("ce_id", "text"))},
    "a time that is null": {"headers": headers_with(("ce_time", None))},
    "a time that is none": {"headers": headers_with(("ce_time", b"yesterday"))},
    "a publisher twice": {"headers": headers_with(SOUND.headers[0])},
    "too many headers": {"headers": headers_with(*[("x", b"")] * 32)},
    "too large headers": {"headers": headers_with(("x", bytes(9000)))},
    "a GUID that is none": {"headers": headers_with(("__value_schema_id", b"\1" * 17))},
    "another dataset": {"dataset": "other"},
    "a dataset that is no text": {"dataset": 5},
    "a dataset that is half a character": {"dataset": "\ud800"},
    "another lane": {"partition": (SOUND.partition + 1) % world.LANES},
    "another key": {"key": (SOUND.key or b"") + b"x"},
    "a publisher that nobody knows": {"headers": (("shutong_publisher", b"1" * 18 + b"/x"),)},
    "no publisher": {"headers": ()},
    "a lane below all": {"partition": -1},
    "a lane beyond all": {"partition": 2**80},
    "a lane that is none": {"partition": None},
    "an empty value": {"value": b""},
    "a prefix alone": {"value": b"\0\0\0\0\1"},
    "another schema": {"value": b"\0\0\0\0\x63" + (SOUND.value or b"")[5:]},
    "too large a value": {"value": (SOUND.value or b"") + bytes(1 << 20)},
    "a length beyond the end": {"value": frame(1, b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\1")},
    "a length without end": {"value": frame(1, b"\xff" * 500)},
    "a length below nothing": {"value": frame(1, b"\1")},
}


@pytest.mark.parametrize("bent", HOSTILE.values(), ids=HOSTILE.keys())
def test_what_no_record_is_made_of_ends_the_run(bent: Mapping[str, Any]) -> None:
    kernel, runner, moment = plain_kernel()
    records = [SOUND, SOUND._replace(**bent), SOUND]
    columns = runner.run(records, 0, 3, SALT, moment)
    assert spread(columns) == folded(kernel.plan, [kernel.plain.decide(SOUND, LaneFacts(), NOW_MS)])


def test_records_that_are_none_end_the_run() -> None:
    _, runner, moment = plain_kernel()
    for each in (None, 5, (), ("minimum-living",), "x", b"x" * 7, [*SOUND]):
        assert runner.run([each], 0, 1, SALT, moment).rows == 0  # type: ignore[list-item]
    assert runner.run([], 0, 5, SALT, moment) == Columns(publishers=[], ids=[])
    assert runner.run([SOUND], 3, 1, SALT, moment).rows == 0


def test_headers_that_nobody_reads_do_not_end_a_run() -> None:
    kernel, runner, moment = plain_kernel()
    more = [("traceparent", b"00-1"), ("empty", None), ("ce_time", b"2026-11-20T10:00:00+08:00")]
    records = [SOUND._replace(headers=form(headers_with(*more))) for form in (tuple, list)]
    assert runner.run(records, 0, 2, SALT, moment).rows == 2
    kernel.decides(records, NOW_MS)


def test_a_schema_is_also_known_by_its_guid() -> None:
    kernel, runner, moment = plain_kernel()
    (guid,) = (key for key in kernel.plan.schemas if isinstance(key, str))
    record = SOUND._replace(value=(SOUND.value or b"")[5:], headers=headers_with(guid_header(guid)))
    columns = runner.run([record], 0, 1, SALT, moment)
    decision = kernel.plain.decide(record, LaneFacts(), NOW_MS)
    assert spread(columns) == folded(kernel.plan, [decision])


def test_an_interrupt_goes_through_and_an_error_does_not() -> None:
    class Table(dict[Any, Any]):
        adult_before = 0
        today = day_in_china(NOW_MS)
        error: BaseException = ValueError()

        def __missing__(self, key: Any) -> Any:
            raise self.error

    _, runner, _ = plain_kernel()
    moment: Any = Table()
    assert runner.run([SOUND], 0, 1, SALT, moment).rows == 0
    moment.error = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        runner.run([SOUND], 0, 1, SALT, moment)


def test_no_byte_of_a_record_can_be_another_and_be_taken_for_sound() -> None:
    kernel, _, _ = plain_kernel()
    body = (SOUND.value or b"")[5:]
    bent = [body[:at] for at in range(len(body))]
    for at, byte in enumerate(body):
        # As a varint of two bytes, which is no longer minimal; with each bit turned; twice.
        bent.append(body[:at] + bytes([byte | 0x80, 0]) + body[at + 1 :])
        bent += [body[:at] + bytes([byte ^ 1 << bit]) + body[at + 1 :] for bit in range(8)]
        bent.append(body[:at] + body[at : at + 1] + body[at:])
    kernel.decides([SOUND._replace(value=frame(1, each)) for each in bent], NOW_MS)


@settings(max_examples=300, deadline=None, database=None, phases=(Phase.generate,))
@given(st.binary(max_size=300))
def test_any_bytes_at_all_are_decided_or_left(body: bytes) -> None:
    kernel, _, _ = plain_kernel()
    kernel.decides([SOUND._replace(value=frame(1, body))], NOW_MS)
