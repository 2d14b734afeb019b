"""What became of one request, record by record, and how it is told: results, errors, receipt."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from shutong_core.audit.intake import Refused, RequestReceipt, Taken, encode_request_receipt
from shutong_core.domain.reasons import Reason
from shutong_core.wire.jsonmap import Problem
from shutong_producer.door import Prepared
from shutong_producer.entries import Faulty
from shutong_producer.refused import ERRORS_MAX, RequestRefused

#: Faults told of one record in per-record mode.
_PROBLEMS_SHOWN_MAX = 20


@dataclass(frozen=True, slots=True)
class Seal:
    """Signs receipts: `key_id` names the key, `cluster` where the offsets count."""

    cluster: str
    key_id: str
    sign: Callable[[bytes], bytes]


@dataclass(eq=False)
class Outcome:
    """Grows while a request is handled."""

    dataset: str
    publisher: str
    taken: list[tuple[Prepared, int]] = field(default_factory=list)  # with the offset
    refused: list[Faulty] = field(default_factory=list)

    _kept: int = 0  # faults held in full

    def refuse(self, faulty: Faulty) -> None:
        """Note a refused record; beyond ERRORS_MAX faults only one of each reason is kept."""
        problems = faulty.problems
        if self._kept + len(problems) > ERRORS_MAX:
            problems = tuple({each.reason: each for each in reversed(problems)}.values())[::-1]
            faulty = replace(faulty, problems=problems)
        self._kept += len(problems)
        self.refused.append(faulty)

    @property
    def known(self) -> int:
        """Records whose fate is settled."""
        return len(self.taken) + len(self.refused)

    def reasons(self) -> Counter[Reason]:
        """How many records each reason refused, by the first reason of each."""
        return Counter(each.problems[0].reason for each in self.refused)

    def receipt(self, seal: Seal, at_ms: int) -> bytes:
        """The signed receipt, RFC 8785 JSON."""
        receipt = RequestReceipt(
            cluster=seal.cluster,
            dataset=self.dataset,
            publisher=self.publisher,
            accepted=tuple(
                Taken(
                    index=each.index,
                    id=each.id,
                    partition=each.partition,
                    offset=offset,
                    digest=each.digest,
                )
                for each, offset in self.taken
            ),
            refused=tuple(
                Refused(
                    index=each.index,
                    id=each.id,
                    reasons=tuple(dict.fromkeys(p.reason.name for p in each.problems)),
                    digest=each.digest,
                )
                for each in self.refused
            ),
            at_ms=at_ms,
        )
        return encode_request_receipt(receipt, seal.key_id, seal.sign)

    def results(self) -> list[dict[str, Any]]:
        """One entry a record, by index."""
        found = [_accepted(each, offset) for each, offset in self.taken]
        found += [_refused(each) for each in self.refused]
        return sorted(found, key=lambda each: each["index"])

    def answer(self, seal: Seal, at_ms: int) -> bytes:
        """The body of a 200 answer."""
        results = json.dumps(self.results(), ensure_ascii=False, separators=(",", ":")).encode()
        start = b'{"accepted":%d,"results":' % len(self.taken)
        return start + results + b',"receipt":' + self.receipt(seal, at_ms) + b"}"

    def so_far(self, seal: Seal, at_ms: int) -> dict[str, Any]:
        """Members of a problem document when a request ends after part of it was settled."""
        if not self.known:
            return {}
        return {
            "accepted": len(self.taken),
            "results": self.results(),
            "receipt": json.loads(self.receipt(seal, at_ms)),
        }

    def refusal(self, seal: Seal, at_ms: int) -> RequestRefused:
        """The 422 answer of all-or-nothing: every fault with its place, nothing written."""
        errors = [
            {"index": each.index, "id": each.id, **problem_document(problem)}
            for each in self.refused
            for problem in each.problems
        ]
        first = self.refused[0].problems[0].reason
        more: dict[str, Any] = {
            "errors": errors[:ERRORS_MAX],
            "receipt": json.loads(self.receipt(seal, at_ms)),
        }
        if len(errors) > ERRORS_MAX:
            more["errors_total"] = len(errors)
        wrong = len(self.refused)
        return RequestRefused(
            first,
            f"{wrong} 条记录有误，全部未接收：{first.zh}",
            f"{wrong} wrong record(s), nothing was taken: {first.en}",
            status=422,
            more=more,
        )


def problem_document(problem: Problem) -> dict[str, str]:
    """One fault for people and programs."""
    return {
        "path": problem.path,
        "reason": problem.reason.name,
        "zh": problem.zh,
        "en": problem.en,
    }


def _accepted(each: Prepared, offset: int) -> dict[str, Any]:
    made: Mapping[str, Any] = {"id_made": True} if each.id_made else {}
    return {
        "index": each.index,
        "id": each.id,
        "outcome": "accepted",
        "partition": each.partition,
        "offset": offset,
        **made,
    }


def _refused(each: Faulty) -> dict[str, Any]:
    shown = [problem_document(problem) for problem in each.problems[:_PROBLEMS_SHOWN_MAX]]
    more = {"problems": shown} if len(shown) > 1 else {}
    return {
        "index": each.index,
        "id": each.id,
        "outcome": "refused",
        "problem": shown[0],
        **more,
    }
