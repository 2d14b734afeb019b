"""Bad records over HTTP and straight into Kafka: each meets its reason, its neighbours flow.

All are sent at once, each with a good record before and after it; the tests look at what became
of them.
"""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import fastavro
import pytest
from confluent_kafka import KafkaError, Producer

from e2e.kafka_reading import read_all
from e2e.samples import aid, gauge, new_id
from e2e.scene import ELSEWHERE, avro, decoded, write_direct
from e2e.waiting import until
from e2e.whole_bus import LANES, Answer, Bus
from shutong_core.wire.busrecords import QuarantineRecord
from shutong_core.wire.keys import partition_of
from shutong_core.wire.quarantine import open_sealed, read_quarantine_headers

AVRO = {"Content-Type": "application/avro"}


def _nested(depth: int) -> Any:
    value: Any = "x"
    for _ in range(depth):
        value = [value]
    return value


def _line(text: str, **changed: Any) -> bytes:
    """An entry as bytes, with `"@"` in it replaced by `text`: what no JSON library would write."""
    return json.dumps(aid(**changed)).replace('"@"', text).encode()


def _wrong_check_digit(number: str) -> str:
    return number[:-1] + ("1" if number[-1] != "1" else "2")


def _missing(item: str) -> dict[str, Any]:
    entry = aid()
    del entry["data"][item]
    return entry


_sound_id = aid()["data"]["id_number"]

#: Refused at once, in the answer: what is sent, reason, path.
AT_THE_DOOR: dict[str, tuple[Any, str, str]] = {
    "bad check digit": (
        aid(id_number=_wrong_check_digit(_sound_id)),
        "BAD_ID_NUMBER",
        "id_number",
    ),
    "unknown item": (aid(surprise=1), "UNKNOWN_ITEM", "surprise"),
    "null in a required item": (aid(name=None), "REQUIRED_MISSING", "name"),
    "required item absent": (_missing("account_no"), "REQUIRED_MISSING", "account_no"),
    "empty required text": (aid(name=""), "REQUIRED_MISSING", "name"),
    "text for a number": (aid(account_no="12"), "BAD_VALUE", "account_no"),
    "number for text": (aid(name=12), "BAD_VALUE", "name"),
    "fraction for a whole number": (aid(account_no=1.5), "BAD_VALUE", "account_no"),
    "true for a number": (aid(account_no=True), "BAD_VALUE", "account_no"),
    "no such day": (aid(birth_date="2026-02-30"), "BAD_VALUE", "birth_date"),
    "unknown symbol": (aid(category="SUBURBAN"), "BAD_VALUE", "category"),
    "too many decimals": (aid(amount="1.001"), "BAD_VALUE", "amount"),
    "number beyond 64 bits": (aid(account_no=10**30), "BAD_VALUE", "account_no"),
    "number of 5000 digits": (_line("9" * 5000, account_no="@"), "BAD_REQUEST", ""),
    "number beyond any double": (_line("1e999", score="@"), "BAD_VALUE", "score"),
    "NaN": (_line("NaN", score="@"), "BAD_REQUEST", ""),
    "JSON nested too deep": (_line(json.dumps(_nested(100)), tags="@"), "BAD_REQUEST", ""),
    "JSON nested 100,000 deep": (_line("[" * 100_000, tags="@"), "BAD_REQUEST", ""),
    "a key twice": (_line('1,"score":2', score="@"), "BAD_REQUEST", ""),
    "not UTF-8": (_line('"\\"', name="@").replace(b'"\\"', b'"\xff\xfe"'), "BAD_REQUEST", ""),
    "half a surrogate": (_line('"\\ud800"', name="@"), "BAD_VALUE", "name"),
    "garbage": (b"\x00\x01\x02 garbage", "BAD_REQUEST", ""),
    "oversize": (aid(remark="x" * (901 * 1024)), "TOO_LARGE", ""),
    "event id of control characters": (aid() | {"id": "a\u200bb"}, "BAD_EVENT_ID", "id"),
    "unknown operation": (aid() | {"operation": "upsert"}, "UNKNOWN_OPERATION", "operation"),
}
_used = aid()
#: Accepted, then refused by a lane: told by GET /v1/refusals.
BY_THE_LANE: dict[str, tuple[Any, str, str]] = {
    "wrong region": (aid(registered_town=ELSEWHERE), "OUT_OF_JURISDICTION", "registered_town"),
    "no such region": (aid(registered_town="123456789012"), "UNKNOWN_REGION", "registered_town"),
    "duplicate": (_used, "DUPLICATE", ""),
    "id reused": (_used | {"data": _used["data"] | {"score": 99.0}}, "ID_REUSED", ""),
}


@dataclass
class OverHttp:
    """What was posted and answered."""

    good: list[str] = field(default_factory=list)
    results: dict[str, dict[str, Any]] = field(default_factory=dict)
    ids: dict[str, str] = field(default_factory=dict)
    avro: dict[str, Answer] = field(default_factory=dict)


@pytest.fixture(scope="module")
def over_http(bus: Bus) -> OverHttp:
    sent = OverHttp()
    entries: list[Any] = [_used]
    names: list[str] = ["used"]
    for name, (entry, _, _) in (AT_THE_DOOR | BY_THE_LANE).items():
        good = aid()
        sent.good.append(good["data"]["case_no"])
        entries += [good, entry]
        names += ["good", name]
    sent.good.append(_used["data"]["case_no"])
    answer = bus.publish("city-civil", "aid-decision", entries, mode="per-record")
    assert answer.status == 200, answer.raw
    results = answer.json["results"]
    assert [each["index"] for each in results] == list(range(len(entries)))
    for name, result in zip(names, results, strict=True):
        assert name not in {"good", "used"} or result["outcome"] == "accepted"
        sent.results[name] = result
    schema_id, schema = bus.schema("inbound.aid-decision")
    other_id, _ = bus.schema("inbound.licence-event")
    value = avro(schema_id, schema, _aid_datum())
    for name, body in {
        "no such schema": b"\x00\x7f\xff\xff\xff" + value[5:],
        "schema of another dataset": b"\x00" + other_id.to_bytes(4, "big") + value[5:],
        "garbage": bytes(range(200)),
        "not framed": b"\x07" + value[1:],
        "cut off": value[:-3],
        "something after the end": value + b"\x00",
    }.items():
        path = "/v1/datasets/aid-decision/records"
        sent.avro[name] = bus.ask("city-civil", "producer", path, body=body, headers=AVRO)
    bus.wait_decided()
    return sent


def _aid_datum() -> dict[str, Any]:
    import datetime
    import decimal

    datum = aid()["data"] | {"contact": None, "photo": None, "remark": None, "memo": None}
    return datum | {
        "birth_date": datetime.date.fromisoformat(datum["birth_date"]),
        "amount": decimal.Decimal(datum["amount"]),
    }


@pytest.mark.parametrize("name", AT_THE_DOOR)
def test_refused_at_the_door_with_reason_and_place(over_http: OverHttp, name: str) -> None:
    _, reason, path = AT_THE_DOOR[name]
    result = over_http.results[name]
    assert result["outcome"] == "refused"
    assert (result["problem"]["reason"], result["problem"]["path"]) == (reason, path)
    assert result["problem"]["zh"]
    assert result["problem"]["en"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("no such schema", "UNKNOWN_SCHEMA"),
        ("schema of another dataset", "UNKNOWN_SCHEMA"),
        ("garbage", "UNKNOWN_SCHEMA"),
        ("not framed", "BAD_FRAMING"),
        ("cut off", "MALFORMED"),
        ("something after the end", "MALFORMED"),
    ],
)
def test_avro_that_is_not_a_record_is_refused(over_http: OverHttp, name: str, reason: str) -> None:
    answer = over_http.avro[name]
    assert answer.status == 422
    assert answer.json["errors"][0]["reason"] == reason


@pytest.mark.parametrize("name", BY_THE_LANE)
def test_refused_by_the_lane_and_told_to_its_publisher(
    bus: Bus, over_http: OverHttp, name: str
) -> None:
    _, reason, path = BY_THE_LANE[name]
    result = over_http.results[name]
    assert result["outcome"] == "accepted"
    place = result["partition"], result["offset"]
    told = _told(bus, "city-civil", "aid-decision", place)
    assert [(each["reason"], each["path"], each["id"]) for each in told] == [
        (reason, path, result["id"])
    ]


def test_the_good_records_around_them_flow(bus: Bus, over_http: OverHttp) -> None:
    placed = [
        datum["case_no"]
        for _, datum in decoded(bus, read_all(bus.bootstrap, [bus.topics.delivery("aid-city")]))
    ]
    assert {each: placed.count(each) for each in over_http.good} == dict.fromkeys(over_http.good, 1)


def _told(bus: Bus, system: str, dataset: str, place: tuple[int, int]) -> list[dict[str, Any]]:
    """What GET /v1/refusals tells `system` of the record at that place of inbound."""

    def look() -> list[dict[str, Any]]:
        return [
            each
            for each in bus.refusals(system)
            if (each["dataset"], each["partition"], each["offset"]) == (dataset, *place)
        ]

    with contextlib.suppress(AssertionError):
        return list(until(look, 2, "the refusal is told"))
    return []


# Straight into Kafka.

Headers = list[tuple[str, Any]]
Record = tuple[bytes | None, bytes | None, Headers]
Make = Callable[["Direct"], Record]


@dataclass(frozen=True)
class Direct:
    """What is needed to write a reading by hand."""

    schema_id: int
    schema: Any
    other_id: int

    def record(self, headers: Headers | None = None, **changed: Any) -> Record:
        data = gauge(**changed)
        value = avro(self.schema_id, self.schema, data)
        return data["gauge_id"].encode(), value, list(headers or [])

    def with_value(self, change: Callable[[bytes], bytes | None]) -> Record:
        key, value, headers = self.record()
        assert value is not None
        return key, change(value), headers


def _with_key(direct: Direct, key: bytes | None) -> Record:
    return key, direct.record()[1], []


def _long_form(value: bytes) -> bytes:
    """The length of the first string in two bytes instead of one."""
    assert value[5] < 0x80
    return value[:5] + bytes((value[5] | 0x80, 0)) + value[6:]


def _bad_text(direct: Direct) -> Record:
    key = b"\xff\xfe\xfd" + new_id().encode()
    out = io.BytesIO()
    fastavro.schemaless_writer(out, direct.schema, gauge(gauge_id="?" * len(key)))
    return key, direct_frame(direct.schema_id, out.getvalue().replace(b"?" * len(key), key)), []


def direct_frame(schema_id: int, body: bytes) -> bytes:
    return b"\x00" + schema_id.to_bytes(4, "big") + body


#: name → (record, reason)
DIRECT: dict[str, tuple[Make, str]] = {
    "no such schema": (
        lambda d: d.with_value(lambda value: b"\x00\x7f\xff\xff\xff" + value[5:]),
        "UNKNOWN_SCHEMA",
    ),
    "schema of another dataset": (
        lambda d: d.with_value(lambda value: direct_frame(d.other_id, value[5:])),
        "UNKNOWN_SCHEMA",
    ),
    "garbage": (lambda d: (b"g", b"\xde\xad\xbe\xef" * 50, []), "BAD_FRAMING"),
    "empty value": (lambda d: (b"g", b"", []), "BAD_FRAMING"),
    "framed garbage": (
        lambda d: (b"g", direct_frame(d.schema_id, b"\xff" * 40), []),
        "MALFORMED",
    ),
    "cut off": (lambda d: d.with_value(lambda value: value[:-2]), "MALFORMED"),
    "something after the end": (lambda d: d.with_value(lambda value: value + b"\0"), "MALFORMED"),
    "needlessly long length": (lambda d: d.with_value(_long_form), "NOT_CANONICAL"),
    "a length of 2 to the 62": (
        lambda d: d.with_value(
            lambda value: value[:5] + b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01" + value[6:]
        ),
        "MALFORMED",
    ),
    "not UTF-8": (_bad_text, "MALFORMED"),
    "no value": (lambda d: (b"g", None, []), "NULL_VALUE"),
    "no key": (lambda d: _with_key(d, None), "NULL_KEY"),
    "the key of another record": (lambda d: _with_key(d, b"other"), "WRONG_KEY"),
    "wrong partition": (lambda d: d.record(), "WRONG_PARTITION"),
    "wrong region": (lambda d: d.record(region=ELSEWHERE), "OUT_OF_JURISDICTION"),
    "no such region": (lambda d: d.record(region="000"), "UNKNOWN_REGION"),
    "not a number": (lambda d: d.record(level=float("nan")), "MALFORMED"),
    "event id of control characters": (
        lambda d: d.record([("ce_id", b"a\x00b")]),
        "BAD_EVENT_ID",
    ),
    "two event ids": (lambda d: d.record([("ce_id", b"one"), ("ce_id", b"two")]), "MALFORMED"),
    "33 headers": (lambda d: d.record([(f"h{n}", b"x") for n in range(33)]), "TOO_LARGE"),
    "schema GUID that is none": (
        lambda d: d.record([("__value_schema_id", b"\x01short")]),
        "BAD_FRAMING",
    ),
}


@dataclass
class Written:
    """What was written straight into inbound."""

    records: list[Record]
    places: list[tuple[int, int]]
    names: dict[str, int]
    good: list[str]


@pytest.fixture(scope="module")
def written(bus: Bus) -> Written:
    schema_id, schema = bus.schema("inbound.gauge-reading")
    direct = Direct(schema_id, schema, bus.schema("inbound.aid-decision")[0])
    records: list[Record] = []
    partitions: dict[int, int] = {}
    names: dict[str, int] = {}
    good: list[str] = []

    def add_good(event_id: str) -> Record:
        record = direct.record([("ce_id", event_id.encode())])
        records.append(record)
        assert record[0] is not None
        good.append(record[0].decode())
        return record

    for name, (make, _) in DIRECT.items():
        add_good(new_id())
        record = make(direct)
        names[name] = len(records)
        records.append(record)
        if name == "wrong partition" and record[0] is not None:
            partitions[names[name]] = (partition_of(record[0], LANES) + 1) % LANES
    first = add_good(used := new_id())
    names["duplicate"] = len(records)
    records.append(first)
    names["id reused"] = len(records)
    other = direct.record([("ce_id", used.encode())], gauge_id=first[0].decode(), level=9.5)  # type: ignore[union-attr]
    records.append(other)
    forged = direct.record([("shutong_publisher", b"11441400E2E000004E/city-civil")])
    records.append(forged)
    good.append(forged[0].decode())  # type: ignore[union-attr]
    places = write_direct(bus, "gauge-reading", records, partitions)
    bus.wait_decided()
    return Written(records, places, names, good)


DIRECT_REASONS = {name: reason for name, (_, reason) in DIRECT.items()} | {
    "duplicate": "DUPLICATE",
    "id reused": "ID_REUSED",
}


@pytest.fixture(scope="module")
def quarantined(bus: Bus, written: Written) -> dict[tuple[int, int], tuple[str, QuarantineRecord]]:
    """Place in inbound → reason, and the record as the keyring's key opens it."""
    node = bus.up.node
    secret = node.keyring.secret("quarantine/1")
    found = {}
    for each in read_all(bus.bootstrap, [bus.topics.quarantine]):
        told = read_quarantine_headers(each.headers)
        if told.source.dataset == "gauge-reading":
            record = open_sealed(node.codec, secret, each.value or b"", told.source)
            found[told.source.lane, told.source.offset] = (told.reason.name, record)
    return found


@pytest.mark.parametrize("name", DIRECT_REASONS)
def test_written_straight_into_kafka_it_is_quarantined_with_its_reason(
    written: Written, quarantined: dict[tuple[int, int], Any], name: str
) -> None:
    reason, record = quarantined[written.places[written.names[name]]]
    assert reason == DIRECT_REASONS[name]
    key, value, headers = written.records[written.names[name]]
    assert (record.key, record.value) == (key, value)
    assert [(each.name, each.value) for each in record.headers] == headers


@pytest.mark.parametrize("name", DIRECT_REASONS)
def test_the_only_writer_is_told_of_what_it_wrote_wrongly(
    bus: Bus, written: Written, name: str
) -> None:
    told = _told(bus, "city-water", "gauge-reading", written.places[written.names[name]])
    assert [each["reason"] for each in told] == [DIRECT_REASONS[name]]


def test_good_readings_around_them_flow_once(bus: Bus, written: Written) -> None:
    placed = [
        datum["gauge_id"]
        for _, datum in decoded(bus, read_all(bus.bootstrap, [bus.topics.delivery("gauge-open")]))
    ]
    assert {each: placed.count(each) for each in written.good} == dict.fromkeys(written.good, 1)


@pytest.mark.parametrize("compression", ["none", "lz4"])
def test_kafka_takes_no_record_over_one_mebibyte_however_small_it_arrives(
    bus: Bus, compression: str
) -> None:
    producer = Producer(
        {
            "bootstrap.servers": bus.bootstrap,
            "message.max.bytes": 8 * 1024 * 1024,
            "compression.type": compression,
        }
    )
    found: list[Any] = []
    big = b"\0" * (4 * 1024 * 1024)
    producer.produce(
        bus.topics.inbound("gauge-reading"), big, b"k", on_delivery=lambda e, _: found.append(e)
    )
    producer.flush(20)
    assert [each.code() for each in found] == [KafkaError.MSG_SIZE_TOO_LARGE]
