"""What is published for the canary tests: each record, where it must go, and all that can be seen.

Every record's canaries are named after it. `Sent.placed` says by hand, from the list file, to
which grants the record belongs.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import fastavro
from confluent_kafka import Producer

from e2e.canaries import Canary, Mint
from e2e.kafka_reading import Stored, read_all, topic_names
from e2e.whole_bus import LANES, SERVICES, Bus
from shutong_core.wire.keys import partition_of

#: Items of each grant in clear; nothing else of a record may be seen by its reader.
CLEAR = {
    "aid-city": {"case_no", "name", "id_number", "birth_date", "amount", "account_no", "tags"},
    "aid-masked": set(),
    "aid-urban": {"name", "remark"},
    "aid-towns": {"name", "id_number"},
    "licence-market": {"series", "holder"},
    "gauge-open": {"gauge_id", "level", "count"},
    "gauge-levels": {"level"},
}
#: All items of what each grant's reader gets.
ITEMS = {
    "aid-city": CLEAR["aid-city"] | {"category", "registered_town"},
    "aid-masked": CLEAR["aid-city"] | {"category", "registered_town", "score", "remark"},
    "aid-urban": {"name", "remark", "residence"},
    "aid-towns": {"name", "id_number", "registered_town"},
    "licence-market": {"series", "holder", "issued_at", "region"},
    "gauge-open": {"gauge_id", "level", "count", "region", "operation"},
    "gauge-levels": {"level", "operation"},
}
READERS = {
    "aid-city": ("city-medical",),
    "aid-masked": ("province-statistics",),
    "aid-urban": ("city-education",),
    "aid-towns": ("town-one", "town-two"),
    "licence-market": ("county-market",),
    "gauge-open": ("province-water",),
    "gauge-levels": ("province-statistics",),
}
TOWN_ONE, TOWN_TWO = "441402102000", "441402103000"
OTHER_COUNTY_TOWN, OTHER_COUNTY = "441403101000", "441403000000"
ELSEWHERE = "440103001000"  # another city: outside the publisher's jurisdiction
SYSTEMS = ("city-civil", "city-water", *sorted({one for all_ in READERS.values() for one in all_}))


@dataclass(frozen=True)
class Sent:
    """One record: its canaries' name, dataset, where it must be placed, its lane's verdict."""

    name: str
    dataset: str
    placed: frozenset[str] = frozenset()
    refused: str = ""
    town: str = ""
    data: Any = None


@dataclass
class Scene:
    """All that was sent, and where to look."""

    bus: Bus
    mint: Mint = field(default_factory=lambda: Mint(20261123))
    sent: list[Sent] = field(default_factory=list)

    def play(self) -> None:
        """Publish everything, have it decided and read by everybody who may and may not."""
        self._aid()
        self._licences()
        self._gauges()
        self._turned_away()
        self.bus.wait_decided()
        self._everybody_reads()

    # What is sent.

    def aid(self, name: str, town: str, **changed: Any) -> dict[str, Any]:
        """The JSON form of an aid decision whose every item is a canary where it can be."""
        mint = self.mint
        birth = mint.day(name, "birth_date", changed.pop("born", 1950))
        data = {
            "case_no": mint.text(name, "case_no"),
            "name": mint.text(name, "name", lead="石"),
            "id_number": mint.id_number(name, "id_number", birth),
            "birth_date": birth.isoformat(),
            "category": "URBAN",
            "amount": str(mint.amount(name, "amount")),
            "account_no": mint.number(name, "account_no"),
            "score": mint.real(name, "score", changed.pop("score", 50)),
            "tags": [mint.text(name, "tags") for _ in range(2)],
            "contact": {
                "phone": mint.text(name, "contact"),
                "extra": {mint.text(name, "contact"): mint.text(name, "contact")},
            },
            "photo": _base64(mint.octets(name, "photo")),
            "remark": mint.text(name, "remark"),
            "memo": mint.text(name, "memo"),
            "registered_town": town,
            "residence": OTHER_COUNTY_TOWN,
        }
        return {"id": mint.text(name, "event id"), "data": data | changed}

    def _aid(self) -> None:
        everywhere = {"aid-city", "aid-masked", "aid-urban", "aid-towns"}
        plan: list[tuple[str, str, dict[str, Any], set[str], str]] = [
            ("town-one", TOWN_ONE, {}, everywhere, ""),
            ("town-two", TOWN_TWO, {}, everywhere, ""),
            ("rural", TOWN_TWO, {"category": "RURAL"}, everywhere - {"aid-urban"}, ""),
            ("low-score", TOWN_ONE, {"score": 1}, everywhere - {"aid-urban"}, ""),
            ("lives-elsewhere", TOWN_ONE, {"residence": ELSEWHERE}, everywhere - {"aid-urban"}, ""),
            ("other-county", OTHER_COUNTY_TOWN, {}, everywhere - {"aid-towns"}, ""),
            ("child", TOWN_ONE, {"born": 2020}, set(), ""),
            ("out-of-region", ELSEWHERE, {}, set(), "OUT_OF_JURISDICTION"),
            ("no-region", "999999999999", {}, set(), "UNKNOWN_REGION"),
        ]
        entries: list[Any] = []
        for name, town, changed, placed, refused in plan:
            entry = self.aid(name, town, **changed)
            entries.append(entry)
            data = entry["data"]
            self.sent.append(Sent(name, "aid-decision", frozenset(placed), refused, town, data))
        answer = self.bus.publish("city-civil", "aid-decision", entries)
        assert answer.status == 200, answer.raw

    def _licences(self) -> None:
        entries: list[Any] = []
        for operation, region, placed in (
            ("put", OTHER_COUNTY, {"licence-market"}),
            ("correct", OTHER_COUNTY, {"licence-market"}),
            ("delete", OTHER_COUNTY, {"licence-market"}),
            ("put", "441402000000", set()),
        ):
            name = f"licence-{len(entries)}"
            data = {
                "serial": self.mint.number(name, "serial"),
                "series": self.mint.text(name, "series"),
                "holder": self.mint.text(name, "holder"),
                "inspector": self.mint.text(name, "inspector"),
                "issued_at": "2026-01-02T03:04:05+08:00",
                "region": region,
            }
            event_id = self.mint.text(name, "event id")
            entries.append({"id": event_id, "operation": operation, "data": data})
            self.sent.append(Sent(name, "licence-event", frozenset(placed), "", region, data))
        answer = self.bus.publish("city-civil", "licence-event", entries)
        assert answer.status == 200, answer.raw

    def _gauges(self) -> None:
        """Written straight into Kafka by the water department, with headers meant to do harm."""
        schema_id, schema = self.bus.schema("inbound.gauge-reading")
        records = []
        for index, region in enumerate((OTHER_COUNTY, "441402000000", ELSEWHERE)):
            name = f"gauge-{index}"
            data = {
                "gauge_id": self.mint.text(name, "gauge_id"),
                "level": self.mint.real(name, "level", 7),
                "count": self.mint.number(name, "count"),
                "note": self.mint.text(name, "note"),
                "region": region,
                "operation": ("put", "correct", "put")[index],
            }
            refused = "OUT_OF_JURISDICTION" if region == ELSEWHERE else ""
            placed = frozenset() if refused else frozenset({"gauge-open", "gauge-levels"})
            self.sent.append(Sent(name, "gauge-reading", placed, refused, region, data))
            value = avro(schema_id, schema, data)
            records.append((data["gauge_id"].encode(), value, self._hostile_headers(name)))
        write_direct(self.bus, "gauge-reading", records)

    def _hostile_headers(self, name: str) -> list[tuple[str, bytes]]:
        text, fraction = self.mint.text, self.mint.number(name, "header ce_time") % 10**9
        return [
            ("ce_id", text(name, "event id").encode()),
            ("ce_specversion", text(name, "header").encode()),
            ("ce_source", text(name, "header").encode()),
            ("ce_subject", text(name, "header").encode()),
            ("ce_type", f"{text(name, 'header')}.put".encode()),
            ("ce_time", f"2026-01-01T00:00:00.{fraction:09d}Z".encode()),
            ("traceparent", text(name, "header").encode()),
            (text(name, "header"), text(name, "header").encode()),
            ("shutong_segment", b"\x01" + text(name, "header").encode()),
            ("shutong_publisher", f"11441400E2E000004E/{text(name, 'header')}".encode()),
            ("publisher", text(name, "header").encode()),
            ("reason", text(name, "header").encode()),
            ("not-utf-8", b"\xff\xfe" + text(name, "header").encode()),
        ]

    def _turned_away(self) -> None:
        """What the door refuses: it may not even leave a trace of a value."""
        bus = self.bus
        wrong = self.aid("door-check-digit", TOWN_ONE)
        number = wrong["data"]["id_number"]
        wrong["data"]["id_number"] = number[:-1] + ("1" if number[-1] != "1" else "2")
        assert bus.publish("city-civil", "aid-decision", [wrong]).status == 422
        foreign = self.aid("door-foreign", TOWN_ONE)
        assert bus.publish("city-water", "aid-decision", [foreign]).status == 403
        nobody = self.aid("door-nobody", TOWN_ONE)
        assert bus.publish("", "aid-decision", [nobody]).status == 401
        broken = json.dumps(self.aid("door-broken", TOWN_ONE))[:-3].encode()
        assert bus.publish("city-civil", "aid-decision", [broken]).status == 422
        own = {"id": self.mint.text("door-own", "event id"), "data": {}}
        own["data"] = {"gauge_id": self.mint.text("door-own", "gauge_id")}
        assert bus.publish("city-water", "gauge-reading", [own]).status in {400, 403, 409}
        path = self.mint.text("door-path", "path")
        assert bus.publish("city-civil", path, [{"data": {}}]).status in {403, 404}
        wrong_key = {"Authorization": f"Bearer stk_{self.mint.text('door-key', 'API key')}"}
        for service, path in (
            ("consumer", "/v1/grants/aid-city/records"),
            ("producer", "/v1/refusals"),
        ):
            assert bus.ask("", service, path, headers=wrong_key).status == 401

    def _everybody_reads(self) -> None:
        bus = self.bus
        for system in SYSTEMS:
            for grant, readers in READERS.items():
                answer = bus.pull(system, grant, limit=1000)
                assert (answer.status == 200) == (system in readers), (system, grant, answer)
                if answer.status == 200:
                    cursor = json.dumps({"cursor": answer.json["next_cursor"]}).encode()
                    receipt = bus.ask(
                        system, "consumer", f"/v1/grants/{grant}/receipts", body=cursor
                    )
                    assert receipt.status == 200, receipt.raw
            for path in ("/v1/refusals", "/v1/datasets", "/openapi.json"):
                bus.ask(system, "producer", path)
        for path in ("/v1/grants/aid-city/records", "/v1/refusals", "/subjects", "/"):
            for service in ("consumer", "producer", "control"):
                bus.ask("", service, path)

    # Where to look.

    def hay(self) -> dict[str, bytes]:
        """Every place by its name: topics, answers, logs, metrics, files."""
        bus = self.bus
        found: dict[str, list[bytes]] = {}
        names = topic_names(bus.bootstrap, bus.topics.prefix)
        for name in names:
            found[_place(bus, name)] = []
        # Uncommitted records are what a client sees that does not ask for committed ones.
        for each in read_all(bus.bootstrap, names, committed=False):
            found[_place(bus, each.topic)].append(each.raw)
        for service in SERVICES:
            for path in ("/metrics", "/readyz?verbose", "/livez"):
                bus.ask("", service, path, admin=True)
        for answer in bus.answers:
            where = f"answer {answer.service} {answer.who or '-'} {answer.path.partition('?')[0]}"
            found.setdefault(where, []).append(answer.raw)
        data_dir = bus.settings.data_dir
        for file in sorted(each for each in data_dir.rglob("*") if each.is_file()):
            inside = file.relative_to(data_dir)
            # Kafka's own files hold the topics, which are read above; its log is text for people.
            if inside.parts[0] != "kafka" or inside.parts[:2] == ("kafka", "logs"):
                found.setdefault(f"file {inside}", []).append(file.read_bytes())
        return {place: b"\x00\xff\x00".join(parts) for place, parts in found.items()}

    def allowed(self, canary: Canary) -> set[str]:
        """The places where a canary may be."""
        sent = next((each for each in self.sent if each.name == canary.record), None)
        if canary.item == "path":  # who asked for what is an act, and acts are kept
            # … and the auditor's index says again what topic access says.
            return {"topic access"} | {f"file auditor/index.sqlite3{end}" for end in ("", "-wal")}
        own = "city-water" if canary.record.startswith("gauge") else "city-civil"
        told = {f"answer producer {own} /v1/refusals"}
        if canary.item == "event id" and sent is None and canary.record == "door-check-digit":
            return {f"answer producer {own} /v1/datasets/aid-decision/records"}
        if sent is None:
            return set()
        found = self.required(canary) | {f"topic inbound.{sent.dataset}"}
        if canary.item == "event id":
            found |= {f"answer producer {own} /v1/datasets/{sent.dataset}/records"}
            found |= told | {"topic quarantine"} if sent.refused else set()
        for grant in sent.placed:
            if canary.item in CLEAR[grant]:
                found |= {
                    f"answer consumer {one} /v1/grants/{grant}/records" for one in READERS[grant]
                }
        if sent.dataset == "aid-decision":
            other = {TOWN_ONE: "town-two", TOWN_TWO: "town-one"}.get(sent.town)
            found -= {f"answer consumer {other} /v1/grants/aid-towns/records"}
        return found

    def refuse_leaks(self, found: Mapping[str, set[Canary]]) -> None:
        """AssertionError that names each place with the canaries that may not be there."""
        told = [
            f"{place}: {', '.join(names)}"
            for place, here in found.items()
            if (names := sorted(str(each) for each in here if place not in self.allowed(each)))
        ]
        assert not told, "\n".join(["leaked:", *told])

    def required(self, canary: Canary) -> set[str]:
        """The places where a canary must be: where it was granted in clear."""
        found = set()
        for sent in self.sent:
            for grant in sent.placed if sent.name == canary.record else ():
                if canary.item in CLEAR[grant]:
                    found.add(f"topic delivery.{grant}")
                    found |= {
                        f"answer consumer {one} /v1/grants/{grant}/records"
                        for one in self._readers(grant, sent)
                    }
        return found

    def _readers(self, grant: str, sent: Sent) -> Iterable[str]:
        if grant != "aid-towns":
            return READERS[grant]
        return {TOWN_ONE: ("town-one",), TOWN_TWO: ("town-two",)}[sent.town]


def avro(schema_id: int, schema: Any, data: Any) -> bytes:
    """A framed Avro value, made by fastavro."""
    out = io.BytesIO()
    fastavro.schemaless_writer(out, schema, data)
    return b"\x00" + schema_id.to_bytes(4, "big") + out.getvalue()


def write_direct(
    bus: Bus,
    dataset: str,
    records: list[tuple[bytes | None, bytes | None, list[tuple[str, Any]]]],
    partitions: dict[int, int] | None = None,
) -> list[tuple[int, int]]:
    """Write into inbound as an own client does; (partition, offset) of each record.

    `partitions`: record index → a partition other than the key's.
    """
    producer = Producer(
        {"bootstrap.servers": bus.bootstrap, "partitioner": "murmur2_random", "acks": "all"}
    )
    places: dict[int, tuple[int, int]] = {}
    for index, (key, value, headers) in enumerate(records):

        def noted(error: Any, message: Any, index: int = index) -> None:
            assert error is None, error
            places[index] = (message.partition(), message.offset())

        lane = partition_of(key, LANES) if key is not None else 0
        lane = (partitions or {}).get(index, lane)
        producer.produce(
            bus.topics.inbound(dataset), value, key, lane, noted, headers=list(headers)
        )
    assert producer.flush(20) == 0
    return [places[index] for index in range(len(records))]


def decoded(bus: Bus, records: Iterable[Stored]) -> list[tuple[Stored, dict[str, Any]]]:
    """Records with their values read by fastavro and the registered schema."""
    schemas = bus.schemas()
    found = []
    for each in records:
        assert each.value is not None
        assert each.value[:1] == b"\x00"
        schema = schemas[int.from_bytes(each.value[1:5], "big")]
        datum = fastavro.schemaless_reader(io.BytesIO(each.value[5:]), schema)
        found.append((each, datum))
    return found


def _base64(raw: bytes) -> str:
    import base64

    return base64.b64encode(raw).decode()


def _place(bus: Bus, topic: str) -> str:
    return f"topic {topic.removeprefix(bus.topics.prefix + '.')}"
