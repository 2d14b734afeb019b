"""Generates the decision on one schema version: a loop of walk, checks, verdicts, one function.

Beside it stand small functions, one for each form of condition and projection that grants have,
called with what differs between grants of one form. The text is the same for the same schema and
list, and made to be read: `shutong policy explain` shows it.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from shutong_broker.policy.checkgen import CannotCompile, CheckWriter
from shutong_broker.policy.columns import Columns
from shutong_broker.policy.conditiongen import ConditionText
from shutong_broker.policy.decideneeds import (
    Layout,
    Run,
    columns_of,
    condition_places,
    layout_of,
    placeable,
)
from shutong_broker.policy.emit import Emission
from shutong_broker.policy.gathering import Gathering
from shutong_broker.policy.head import Head
from shutong_broker.policy.keyedhash import hidden_key
from shutong_broker.policy.matching import Candidate, Matcher
from shutong_broker.policy.minors import DAYS, any_under_14
from shutong_broker.policy.model import Decision, Operation
from shutong_broker.policy.plan import DatasetPlan, GrantPlan, ProjectionPlan, SchemaPlan
from shutong_broker.policy.rawvalues import raw_mask
from shutong_broker.policy.walkgen import WalkWriter
from shutong_broker.policy.walkrun import UUID_FORM, Declined, decline, length, varint
from shutong_broker.policy.withholding import NONE_WITHHELD, Withheld
from shutong_core.domain.reasons import Reason
from shutong_core.domain.regions import RegionTable
from shutong_core.wire.framing import frame_prefix
from shutong_core.wire.shapes import RANGES, Nullable, inner


@dataclass(frozen=True, slots=True)
class Generated:
    """A schema version ready to decide: the function, its grants, the text it was made from."""

    run: Callable[..., Columns]
    matcher: Matcher
    source: str


def generate(dataset: DatasetPlan, plan: SchemaPlan, table: RegionTable) -> Generated:
    """The decision on `plan`'s records. Raises CannotCompile where only the interpreter can."""
    return _Generator(dataset, plan, table).generate()


def refused(
    reason: Reason,
    path: str,
    head: Head,
    body: bytes,
    tokens: tuple[bytes, ...],
    operation: Operation,
) -> Decision:
    """The decision on a record that is refused."""
    told = (head.publisher, head.event_id, body, tokens, operation)
    return Decision(reason, path, *told, (), NONE_WITHHELD)


_NAMESPACE: dict[str, Any] = {
    "Declined": Declined,
    "Gathering": Gathering,
    "PUT": Operation.PUT,
    "decline": decline,
    "join": b"".join,
    "length": length,
    "moment_of": itemgetter(2, 6),  # offset and arrival
    "number": int.from_bytes,
    "refused": refused,
    "sha256": hashlib.sha256,
    "unpack_double": struct.Struct("<d").unpack_from,
    "unpack_float": struct.Struct("<f").unpack_from,
    "uuid_form": UUID_FORM.fullmatch,
    "varint": varint,
    "under_14": any_under_14,
}

_VERDICTS = """\
match = moment[{regions}]
if match.shared is not shared:
    gathering.share(row, shared)
    shared = match.shared
found = bound.get(match)
if found is None:
    found = gathering.bind(match)
if found:
    r = ({row},)
    young = None
    made = {{}}
    for condition, literals, unmet, minor, share, project, pieces, hide, events, out in found:
        if condition is not None and not condition(r, literals):
            unmet(row)
            continue
        if minor is not None:
            if young is None:
                young = is_young(r, moment)
            if young:
                minor(row)
                continue
        if share is None:
            value = project(r, pieces)
        else:
            value = made.get(share)
            if value is None:
                value = made[share] = project(r, pieces)
        add_row, add_key, add_value, add_headers = out
        if events is not None:
            add_headers(events(operation, partition, *moment_of(records[row])))
        add_key(key if hide is None else hide(key))
        add_value(value)
        add_row(row)"""

_END = """\
add_digest(sha256(salt + b).digest())
add_tokens(tokens)
row += 1"""


class _Generator:
    """One generation."""

    def __init__(self, dataset: DatasetPlan, plan: SchemaPlan, table: RegionTable) -> None:
        self.dataset = dataset
        self.plan = plan
        self.table = table
        self.layout: Layout = layout_of(plan)
        self.grants = tuple(placeable(plan, self.layout))
        self.roles = sorted({str(grant.region_item) for grant in self.grants})
        self.out = Emission(_NAMESPACE)
        self.projections: dict[int, tuple[int, str, tuple[Any, ...]]] = {}
        self.texts: dict[str, str] = {}

    def generate(self) -> Generated:
        """Text, then functions, then the grants that call them."""
        forms = [(grant, self.condition(grant), self.projection(grant)) for grant in self.grants]
        self.young()
        self.run()
        namespace = self.out.build()
        candidates = {
            grant.grant.id: self.candidate(grant, namespace, condition, projection)
            for grant, condition, projection in forms
        }
        matcher = Matcher(self.dataset.grants, self.plan.grants, candidates, self.roles, self.table)
        return Generated(namespace["run"], matcher, self.out.text)

    def function(self, kind: str, returned: str) -> str:
        """The name of the function (r, k) that returns `returned`; one for each text."""
        name = self.texts.get(returned)
        if name is None:
            name = self.texts[returned] = f"{kind}_{len(self.texts)}"
            with self.out.block(f"def {name}(r, k):"):
                self.out(f"return {returned}")
            self.out("")
        return name

    def condition(self, grant: GrantPlan) -> tuple[str, tuple[Any, ...]] | None:
        """The function of the grant's condition and its literals."""
        if grant.condition is None:
            return None
        shapes = {name: self.layout.shapes[index] for name, index in self.layout.names.items()}
        writer = ConditionText(shapes, condition_places(grant, self.layout))
        text = writer.is_true(grant.condition.root)
        return self.function("condition", text), tuple(writer.literals)

    def projection(self, grant: GrantPlan) -> tuple[int, str, tuple[Any, ...]]:
        """Number, function and pieces of the grant's projection; shared where the plan is."""
        plan = grant.projection
        if plan is None:
            raise CannotCompile
        known = self.projections.get(id(plan))
        if known is None:
            known = (len(self.projections), *self.new_projection(grant, plan))
            self.projections[id(plan)] = known
        return known

    def new_projection(self, grant: GrantPlan, plan: ProjectionPlan) -> tuple[str, tuple[Any, ...]]:
        """The function that joins slices and masked values behind the frame's prefix."""
        pieces: list[Any] = [frame_prefix(plan.delivered_id)]
        parts = ["k[0]"]
        for column in columns_of(grant, plan, self.layout):
            if isinstance(column, Run):
                parts.append(f"r[0][r[{column.first}]:r[{column.end}]]")
                continue
            mask = grant.grant.items[column.item]
            if isinstance(mask, str):
                raise CannotCompile
            shape = self.layout.shapes[self.layout.names[column.item]]
            nullable = isinstance(shape, Nullable)
            parts.append(f"k[{len(pieces)}](r[{column.place}])")
            pieces.append(raw_mask(mask, inner(shape), nullable, grant.secret))
        text = " + ".join(parts) if len(parts) < 4 else f"join(({', '.join(parts)}))"
        return self.function("project", text), tuple(pieces)

    def young(self) -> None:
        """The function that tells whether the record is of a person under 14."""
        tests = []
        if not all(grant.grant.minors for grant in self.grants):
            tests = [self.born(item) for item in self.plan.births] + self.untold()
        with self.out.block("def is_young(r, moment):"):
            self.out(f"return {' or '.join(tests) or 'False'}")
        self.out("")

    def untold(self) -> list[str]:
        """An expression, if it can be true: a person is named and no birth tells anything."""
        births = self.plan.births
        # Where a subject is itself a birth item, no birth tells anything only if it is null.
        named = [item for item in self.plan.subjects if item not in births]
        if not self.plan.tells_age or not named or not all(map(self.nullable, births)):
            return []
        tests = [f"r[{self.layout.value_place(item)}] is None" for item in births]
        if all(map(self.nullable, named)):
            there = (f"r[{self.layout.value_place(item)}] is not None" for item in named)
            tests.append(f"({' or '.join(there)})")
        return [f"({' and '.join(tests) or 'True'})"]

    def nullable(self, item: str) -> bool:
        """Whether the item can be null."""
        return isinstance(self.layout.shapes[self.layout.names[item]], Nullable)

    def born(self, item: str) -> str:
        """An expression: the item tells a person under 14, or cannot be read as a birth."""
        shape = inner(self.layout.shapes[self.layout.names[item]])
        value = f"r[{self.layout.value_place(item)}]"
        logical = shape.logical or ""
        if logical == "date":
            test = f"{value} >= moment.adult_before"
        elif logical in DAYS:
            day = DAYS[logical]
            last = RANGES["long", logical][1] - day // 3
            # The last hours of the calendar have no day in China: left to the interpreter.
            born = f"({value} + {day // 3}) // {day} >= moment.adult_before"
            test = f"({value} > {last} and decline() or {born})"
        elif self.layout.is_text(item):
            test = f"under_14(({value}.decode(),), moment.today)"
        else:
            test = "True"
        return f"({value} is not None and {test})"

    def run(self) -> None:
        """The main function; its walk keeps what the rest of the text turned out to need."""
        out = self.out
        with out.block("def run(records, heads, salt, repeat, moment, read):"):
            out("row = 0", "shared = stopped = None", "partition = records[0].partition")
            out("gathering = Gathering(heads)", "bound = gathering.bound")
            out("add_digest, add_tokens, add_operation = gathering.adders")
            with out.block("try:"), out.block("for key, b, told, lane in heads.rows:"):
                out("publisher, operation, fault, jurisdiction = told")
                self.decision()
            with out.block("except Exception:"):
                out("pass  # the record after the last row is decided alone, by the plain rules")
            out("gathering.share(row, shared)")
            out("return gathering.columns(row, stopped)")

    def decision(self) -> None:
        """From the body and head of one record to its columns."""
        out = self.out
        mark = len(out.lines)
        CheckWriter(out, self.layout, self.dataset, self.plan).write()
        regions = [self.layout.value(item) for item in self.roles]
        raws = f"({', '.join(regions)})" if len(regions) > 1 else "".join(regions) or "None"
        text = _VERDICTS.format(regions=raws, row=", ".join(self.layout.row))
        out(*text.splitlines())
        if self.plan.operation_item is not None:
            out("add_operation(operation)")
        out(*_END.splitlines())
        rest = out.lines[mark:]
        del out.lines[mark:]
        WalkWriter(out, self.plan.schema.record, self.layout.needs).write()
        out.lines += rest

    def candidate(
        self,
        grant: GrantPlan,
        namespace: dict[str, Any],
        condition: tuple[str, tuple[Any, ...]] | None,
        projection: tuple[int, str, tuple[Any, ...]],
    ) -> Candidate:
        """What the generated function needs of one grant."""
        number, project, pieces = projection
        guarded = self.plan.tells_age and not grant.grant.minors
        told = grant.grant.id
        return Candidate(
            grant=told,
            condition=namespace[condition[0]] if condition else None,
            literals=condition[1] if condition else (),
            not_met=Withheld(told, Reason.CONDITION_NOT_MET),
            minor=Withheld(told, Reason.MINOR_NOT_GRANTED) if guarded else None,
            number=number,
            project=namespace[project],
            pieces=pieces,
            hide=None if grant.key_clear else hidden_key(grant.secret),
            events=grant.cloudevents.headers if grant.cloudevents is not None else None,
        )
