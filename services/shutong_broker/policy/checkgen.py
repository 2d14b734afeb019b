"""Generates the checks of the record between its walk and its verdicts, in the order of refusal.

A check that the generated form cannot make as the interpreter does raises `CannotCompile`: the
schema version is then decided by the interpreter.
"""

from __future__ import annotations

import hashlib

from shutong_broker.policy.decideneeds import Layout
from shutong_broker.policy.emit import Emission
from shutong_broker.policy.model import Operation
from shutong_broker.policy.plan import DatasetPlan, SchemaPlan
from shutong_broker.policy.rawvalues import decimal_steps
from shutong_core.domain.catalogue import IdNumberRule, QualityRule, RequiredRule, SumRule
from shutong_core.domain.identity import id_number_is_valid, uscc_is_valid
from shutong_core.domain.reasons import Reason
from shutong_core.wire.shapes import Array, Enum, Map, Nullable, Plain, inner

TOKEN_BYTES = 16


class CannotCompile(Exception):  # noqa: N818 - a choice of implementation, not an error
    """The generated form would not decide as the interpreter does."""


class CheckWriter:
    """Writes the checks of one schema version."""

    def __init__(self, out: Emission, layout: Layout, dataset: DatasetPlan, plan: SchemaPlan):
        self.out = out
        self.layout = layout
        self.dataset = dataset
        self.plan = plan

    def write(self) -> None:
        """All checks; afterwards `tokens` and `operation` hold what the decision tells."""
        self.tokens()
        self.key()
        self.publisher()
        self.operation()
        self.jurisdiction()
        if self.plan.secret:
            self.refuse(Reason.SECRET)
        for rule in self.dataset.dataset.quality:
            self.rule(rule)
        with self.out.block("if repeat is not None:"):
            self.refuse(None, "repeat")

    def refuse(self, reason: Reason | None, variable: str = "", item: str = "") -> None:
        """End the run with a refusal for `reason`, or for the one in `variable`."""
        told = self.out.constant(reason) if reason is not None else variable
        path = self.out.constant(item)
        call = f"refused({told}, {path}, read(records[row].headers), b, tokens, operation_so_far)"
        self.out(f"stopped = {call}", "break")

    def nullable(self, item: str) -> bool:
        """Whether the item can be null."""
        return isinstance(self.layout.shapes[self.layout.names[item]], Nullable)

    def tokens(self) -> None:
        """Subject tokens of the values that are there."""
        out = self.out
        out("tokens = ()", "operation_so_far = PUT")
        if not self.plan.subjects:
            return
        keyed = hashlib.blake2b(digest_size=TOKEN_BYTES, key=self.dataset.token_key).copy
        copy = out.constant(keyed)
        for item in self.plan.subjects:
            x = self.layout.value(item)
            lines = (f"t = {copy}()", f"t.update({x})", "tokens += (t.digest(),)")
            if self.nullable(item):
                with out.block(f"if {x} is not None:"):
                    out(*lines)
            else:
                out(*lines)

    def key(self) -> None:
        """The key against the key items, then the lane. A wrong key is told by the interpreter."""
        out, rule = self.out, self.plan.key
        if rule is None:
            raise CannotCompile
        if rule.as_text:
            made = self.layout.value(rule.items[0])
        else:
            slices = []
            for item in rule.items:
                index = self.layout.names[item]
                begin, end = self.layout.slice(index, index + 1)
                slices.append(f"b[{begin}:{end}]")
            made = " + ".join(slices)
        with out.block(f"if key != {made}:"):
            out("raise Declined")
        with out.block("if lane != partition:"):
            self.refuse(Reason.WRONG_PARTITION)

    def publisher(self) -> None:
        """Who wrote it, and whether it may write this dataset."""
        with self.out.block("if not publisher:"):
            self.refuse(Reason.UNKNOWN_PUBLISHER)
        with self.out.block("if jurisdiction is None:"):
            self.refuse(Reason.PUBLISHER_NOT_ALLOWED)

    def operation(self) -> None:
        """From the operation item, else as the headers told."""
        out, item = self.out, self.plan.operation_item
        if item is None:
            with out.block("if fault is not None:"):
                self.refuse(None, "fault")
            out("operation_so_far = operation")
            return
        shape = inner(self.layout.shapes[self.layout.names[item]])
        known: dict[object, Operation]
        if isinstance(shape, Enum):
            names = {name: Operation(name) for name in shape.symbols if name in set(Operation)}
            known = {shape.symbols.index(name): told for name, told in names.items()}
        elif self.layout.is_text(item):
            known = {told.value.encode(): told for told in Operation}
        else:
            raise CannotCompile
        found = out.constant(known)
        out(f"operation = {found}.get({self.layout.value(item)}, PUT)")
        head = f"if {self.layout.value(item)} not in {found}"
        null = f" and {self.layout.value(item)} is not None" if self.nullable(item) else ""
        with out.block(f"{head}{null}:"):
            self.refuse(Reason.UNKNOWN_OPERATION, item=item)
        out("operation_so_far = operation")

    def jurisdiction(self) -> None:
        """The provider's region inside the publisher's jurisdiction."""
        out, item = self.out, self.plan.provider_item
        if item is None or not self.layout.is_text(item):
            self.refuse(Reason.UNKNOWN_REGION, item=item or "")
            return
        out(f"inside = jurisdiction[{self.layout.value(item)}]")
        with out.block("if not inside:"):
            with out.block("if inside is None:"):
                self.refuse(Reason.UNKNOWN_REGION, item=item)
            self.refuse(Reason.OUT_OF_JURISDICTION, item=item)

    def rule(self, rule: QualityRule) -> None:
        """One quality rule, see `domain.quality`."""
        if isinstance(rule, SumRule):
            self.sum(rule)
        elif isinstance(rule, RequiredRule):
            for item in rule.items:
                self.required(item)
        else:
            check, reason = (
                (id_number_is_valid, Reason.BAD_ID_NUMBER)
                if isinstance(rule, IdNumberRule)
                else (uscc_is_valid, Reason.BAD_USCC)
            )
            for item in rule.items:
                if not self.layout.is_text(item):
                    raise CannotCompile
                x, valid = self.layout.value(item), self.out.constant(check)
                null = f"{x} is not None and " if self.nullable(item) else ""
                with self.out.block(f"if {null}not {valid}({x}.decode()):"):
                    self.refuse(reason, item=item)

    def required(self, item: str) -> None:
        """Refuse null and what holds nothing."""
        shape = inner(self.layout.shapes[self.layout.names[item]])
        holds = isinstance(shape, Array | Map) or (
            isinstance(shape, Plain) and shape.logical is None and shape.avro in ("string", "bytes")
        )
        if holds:
            head = f"if not {self.layout.value(item)}:"
        elif self.nullable(item):
            head = f"if {self.layout.value(item)} is None:"
        else:
            return
        with self.out.block(head):
            self.refuse(Reason.REQUIRED_MISSING, item=item)

    def sum(self, rule: SumRule) -> None:
        """Refuse unless the parts add up; null adds up to nothing."""
        items = (rule.total, *rule.parts)
        shapes = [inner(self.layout.shapes[self.layout.names[item]]) for item in items]
        terms = [
            f"{self.layout.value(item)} * {self.out.constant(step)}"
            for item, step in zip(items, decimal_steps(shapes), strict=True)
        ]
        null = [f"{self.layout.value(item)} is None or " for item in items if self.nullable(item)]
        parts = " + ".join(terms[1:]) or "0"
        with self.out.block(f"if {''.join(null)}{parts} != {terms[0]}:"):
            self.refuse(Reason.ITEMS_DISAGREE, item=rule.total)
