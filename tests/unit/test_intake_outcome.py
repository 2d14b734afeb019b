"""What is told of a request: results, errors, receipt; and how much may come in at once."""

from __future__ import annotations

import json

import pytest
import rfc8785
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shutong_core.audit.intake import parse_request_receipt
from shutong_core.domain.errors import Fatal, Rejected
from shutong_core.domain.reasons import Reason
from shutong_core.wire.batches import KafkaRecord
from shutong_core.wire.jsonmap import Problem
from shutong_producer.datashape import data_shape, field_list
from shutong_producer.door import Prepared
from shutong_producer.entries import Faulty, fault
from shutong_producer.failpoint import failpoint_of
from shutong_producer.gate import Bounds, Gate, Rates
from shutong_producer.outcome import Outcome, Seal
from shutong_producer.refused import ERRORS_MAX, RequestRefused
from unit.policy_world import schema

KEY = Ed25519PrivateKey.generate()
SEAL = Seal("cluster-1", "intake/1", KEY.sign)
PUBLISHER = "11440000000000001X/sys"


def verify(key_id: str, data: bytes, signature: bytes) -> bool:
    try:
        KEY.public_key().verify(signature, data)
    except InvalidSignature:
        return False
    return key_id == "intake/1"


def taken(index: int) -> Prepared:
    return Prepared(index, f"e-{index}", False, 2, KafkaRecord(b"k", b"v"), "a" * 64)


def faulty(index: int, *problems: Problem) -> Faulty:
    return Faulty(index, "b" * 64, None, problems or (fault(Reason.BAD_VALUE, "amount"),))


def outcome() -> Outcome:
    it = Outcome("death-certificate", PUBLISHER)
    it.taken = [(taken(2), 41), (taken(0), 40)]
    it.refuse(faulty(1, fault(Reason.BAD_VALUE, "a"), fault(Reason.UNKNOWN_ITEM, "b")))
    return it


def test_results_stand_in_the_order_of_the_request() -> None:
    answer = json.loads(outcome().answer(SEAL, 1000))
    assert answer["accepted"] == 2
    assert [each["index"] for each in answer["results"]] == [0, 1, 2]
    first, second, _ = answer["results"]
    assert first == {
        "index": 0,
        "id": "e-0",
        "outcome": "accepted",
        "partition": 2,
        "offset": 40,
    }
    assert second["problem"]["reason"] == "BAD_VALUE"
    assert [each["path"] for each in second["problems"]] == ["a", "b"]


def test_the_receipt_names_every_record_and_verifies() -> None:
    answer = json.loads(outcome().answer(SEAL, 1000))
    receipt = parse_request_receipt(rfc8785.dumps(answer["receipt"]), verify)
    assert receipt.publisher == PUBLISHER
    assert {(each.index, each.offset) for each in receipt.accepted} == {(0, 40), (2, 41)}
    assert receipt.refused[0].reasons == ("BAD_VALUE", "UNKNOWN_ITEM")


@pytest.mark.parametrize("path", [("accepted", "offset"), ("refused", "index")])
def test_an_altered_receipt_does_not_verify(path: tuple[str, str]) -> None:
    answer = json.loads(outcome().answer(SEAL, 1000))
    answer["receipt"]["body"][path[0]][0][path[1]] += 100
    with pytest.raises(Rejected):
        parse_request_receipt(rfc8785.dumps(answer["receipt"]), verify)


def test_all_or_nothing_tells_every_fault_with_index_and_path() -> None:
    it = Outcome("d", PUBLISHER)
    it.refuse(faulty(4, fault(Reason.BAD_VALUE, "a"), fault(Reason.UNKNOWN_ITEM, "b")))
    refused = it.refusal(SEAL, 1000)
    document = refused.document()
    assert refused.status == document["status"] == 422
    assert [(each["index"], each["path"], each["reason"]) for each in document["errors"]] == [
        (4, "a", "BAD_VALUE"),
        (4, "b", "UNKNOWN_ITEM"),
    ]
    assert document["zh"]
    assert document["en"]


def test_thousands_of_faults_do_not_make_an_endless_answer() -> None:
    it = Outcome("d", PUBLISHER)
    for index in range(5000):
        it.refuse(faulty(index, *[fault(Reason.BAD_VALUE, f"x{n}") for n in range(100)]))
    assert sum(len(each.problems) for each in it.refused) < ERRORS_MAX + 5000 + 100
    assert len(it.refusal(SEAL, 0).document()["errors"]) == ERRORS_MAX


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_system_may_send_so_many_requests_a_second() -> None:
    clock = Clock()
    gate = Gate(Bounds(rate_per_s=2), clock)
    gate.pace("a")
    gate.pace("a")
    with pytest.raises(RequestRefused) as refused:
        gate.pace("a")
    assert refused.value.status == 429
    assert refused.value.headers()["Retry-After"] == "1"
    gate.pace("b")
    clock.now += 0.5
    gate.pace("a")


def test_a_flood_of_names_costs_no_memory() -> None:
    rates = Rates(1, Clock(), names_max=10)
    for number in range(1000):
        rates.wait_s(str(number))
    assert len(rates._buckets) == 10


def test_requests_and_bytes_at_once_are_bounded_and_given_back() -> None:
    gate = Gate(Bounds(requests_at_once_max=1, held_bytes_max=10), Clock())
    with gate.enter() as hold:
        hold.take(8)
        with pytest.raises(RequestRefused), gate.enter():
            pass
        with pytest.raises(RequestRefused):
            hold.take(3)
        hold.give_back(5)
        hold.take(3)
        assert gate.held_bytes == 6
    assert (gate.requests, gate.held_bytes) == (0, 0)


def test_the_shape_of_data_says_what_the_mapping_takes() -> None:
    shape = data_shape(schema())
    assert shape["additionalProperties"] is False
    assert "agency" not in shape["required"]
    assert shape["properties"]["decided_on"] == {
        "title": "决定日期",
        "type": "string",
        "format": "date",
    }
    amount = shape["properties"]["amount"]["anyOf"][0]
    assert amount == {"type": "string", "pattern": r"^[+-]?\d{1,10}(\.\d{1,2})?$"}
    assert field_list(schema())[0]["name"] == "decision_no"


@pytest.mark.parametrize("text", ["before-ack", "before-ack:0", "elsewhere:1", "before-ack:x"])
def test_a_failpoint_that_does_not_exist_ends_the_start(text: str) -> None:
    with pytest.raises(Fatal):
        failpoint_of(text)


def test_no_failpoint_does_nothing() -> None:
    failpoint_of(None)("after-ack")
