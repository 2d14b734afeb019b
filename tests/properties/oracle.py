"""A second, independent reading of how the list decides, to compare the policy with.

Written from the rules alone; it imports nothing of the product and shares no code with it: own
Avro, own tree, own masks, own identifier checks, conditions answered by SQLite. It knows only the
simple types of `Item.type`, and is slow and plain on purpose.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import math
import sqlite3
import struct
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, timezone
from fractions import Fraction
from typing import Any

EPOCH_DAY = date(1970, 1, 1).toordinal()
INTEGERS = {
    "int": (-(2**31), 2**31 - 1),
    "long": (-(2**63), 2**63 - 1),
    "date": (-719162, 2932896),
    "millis": (-62135596800000, 253402300799999),
}


@dataclass(frozen=True)
class Item:
    """A field: its simple type, whether null is allowed, what an enum or decimal needs."""

    name: str
    type: str  # string enum int long float double boolean decimal date millis bytes
    nullable: bool = False
    symbols: tuple[str, ...] = ()
    precision: int = 12
    scale: int = 2
    share: str | None = None
    grade: str = "general_1"


@dataclass
class World:
    """The list as JSON rows, the schemas by id, the tree as code → parent."""

    lanes: int
    dataset: Mapping[str, Any]
    grants: Sequence[Mapping[str, Any]]
    negatives: Sequence[Mapping[str, Any]]
    organisations: Mapping[str, str]  # USCC → region
    systems: Mapping[str, str]  # system → USCC
    schemas: Mapping[int, tuple[Item, ...]]
    parents: Mapping[str, str]
    levels: Mapping[str, str]
    retired: Mapping[str, str]
    keys: Callable[[str], bytes]
    sql: Mapping[str, tuple[str, tuple[Any, ...]]]  # grant → condition in SQL


@dataclass
class Verdict:
    """What ought to come out."""

    refusal: str | None = None
    path: str = ""
    publisher: str = ""
    event_id: str | None = None
    body: bytes = b""
    tokens: list[bytes] = field(default_factory=list)
    operation: str = "put"
    placed: dict[str, tuple[bytes, bytes, tuple[tuple[str, bytes], ...]]] = field(
        default_factory=dict
    )
    withheld: dict[str, str] = field(default_factory=dict)


class Refused(Exception):  # noqa: N818 - the oracle's own flow
    def __init__(self, reason: str, path: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.path = path


# Avro.


class Bytes:
    def __init__(self, body: bytes) -> None:
        self.left = body

    def take(self, count: int) -> bytes:
        if count > len(self.left):
            raise Refused("MALFORMED")
        head, self.left = self.left[:count], self.left[count:]
        return head

    def varint(self, low: int, high: int) -> int:
        groups = []
        while True:
            byte = self.take(1)[0]
            groups.append(byte & 127)
            if byte < 128:
                break
            if len(groups) == 10:
                raise Refused("MALFORMED")
        if len(groups) > 1 and groups[-1] == 0:
            raise Refused("NOT_CANONICAL")
        raw = sum(group * 128**place for place, group in enumerate(groups))
        value = raw // 2 if raw % 2 == 0 else -(raw // 2) - 1
        if value < low or value > high:
            raise Refused("MALFORMED")
        return value


def read_item(source: Bytes, item: Item) -> Any:
    if item.nullable and source.varint(0, 1) == 0:
        return None
    if item.type in INTEGERS:
        return source.varint(*INTEGERS[item.type])
    if item.type == "enum":
        return item.symbols[source.varint(0, len(item.symbols) - 1)]
    if item.type == "boolean":
        byte = source.take(1)
        if byte not in (b"\0", b"\1"):
            raise Refused("MALFORMED")
        return byte == b"\1"
    if item.type in ("float", "double"):
        wide = item.type == "double"
        value = struct.unpack("<d" if wide else "<f", source.take(8 if wide else 4))[0]
        if math.isnan(value) or math.isinf(value):
            raise Refused("MALFORMED")
        return value
    raw = source.take(source.varint(0, len(source.left)))
    if item.type == "string":
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            raise Refused("MALFORMED") from None
    if item.type == "decimal":
        number = int.from_bytes(raw, "big", signed=True)
        if abs(number) >= 10**item.precision:
            raise Refused("MALFORMED")
        if raw != shortest(number):
            raise Refused("NOT_CANONICAL")
        return Fraction(number, 10**item.scale)
    return raw


def read_record(items: Sequence[Item], body: bytes) -> dict[str, Any]:
    source = Bytes(body)
    datum = {}
    for item in items:
        try:
            datum[item.name] = read_item(source, item)
        except Refused as fault:
            raise Refused(fault.reason, item.name) from None
    if source.left:
        raise Refused("MALFORMED")
    return datum


def shortest(number: int) -> bytes:
    size = 1
    while not -(2 ** (8 * size - 1)) <= number < 2 ** (8 * size - 1):
        size += 1
    return number.to_bytes(size, "big", signed=True)


def write_varint(value: int) -> bytes:
    raw = 2 * value if value >= 0 else -2 * value - 1
    out = []
    while raw >= 128:
        out.append(128 + raw % 128)
        raw //= 128
    return bytes([*out, raw])


def write_value(item: Item, value: Any) -> bytes:
    """Without the union's branch."""
    if item.type in INTEGERS:
        return write_varint(value)
    if item.type == "enum":
        return write_varint(item.symbols.index(value))
    if item.type == "boolean":
        return b"\1" if value else b"\0"
    if item.type == "float":
        return struct.pack("<f", value)
    if item.type == "double":
        return struct.pack("<d", value)
    if item.type == "string":
        raw = value.encode("utf-8")
    elif item.type == "decimal":
        raw = shortest(int(value * 10**item.scale))
    else:
        raw = value
    return write_varint(len(raw)) + raw


def write_item(item: Item, value: Any) -> bytes:
    if not item.nullable:
        return write_value(item, value)
    return b"\0" if value is None else b"\2" + write_value(item, value)


# Regions.


def region_of(world: World, text: Any) -> str | None:
    if not isinstance(text, str):
        return None
    own = text.endswith("@self")
    digits = text[:-5] if own else text
    if len(digits) not in (6, 9, 12):
        return None
    code = (digits + "000000")[:12]
    code = code if code in world.parents else world.retired.get(code, "")
    if code not in world.parents:
        return None
    return code + "@self" if own else code


def lies_in(world: World, inner: str, outer: str) -> bool:
    if inner == outer:
        return True
    if inner.endswith("@self"):
        return inner[:-5] == outer
    parent = world.parents[inner]
    return bool(parent) and lies_in(world, parent, outer)


def in_scope(world: World, grant: Mapping[str, Any], region: str) -> bool:
    wanted = grant.get("requester_class")
    if wanted is None:
        outers = [region_of(world, code) for code in grant["scope"].get("regions", ())]
    else:
        outers = [region_of(world, code) for code in wanted.get("also", ())]
        within = region_of(world, wanted["within"])
        outers += [
            code
            for code in world.parents
            if world.levels[code] == wanted["level"] and within and lies_in(world, code, within)
        ]
    return any(outer is not None and lies_in(world, region, outer) for outer in outers)


# Identifiers.


def born_by_number(text: str) -> date | None:
    digits, check = text[:17], text[17:]
    if len(text) != 18 or not digits.isascii() or not digits.isdigit():
        return None
    weights = [2 ** (17 - place) % 11 for place in range(17)]
    total = sum(int(digit) * weight for digit, weight in zip(digits, weights, strict=True))
    if check != "10X98765432"[total % 11]:
        return None
    try:
        day = date(int(text[6:10]), int(text[10:12]), int(text[12:14]))
    except ValueError:
        return None
    return day if 1850 <= day.year < 2100 else None


def sound_uscc(text: str) -> bool:
    alphabet = "0123456789ABCDEFGHJKLMNPQRTUWXY"
    if len(text) != 18 or any(char not in alphabet for char in text):
        return False
    if not all(char in "0123456789" for char in text[2:8]):
        return False
    total = sum(alphabet.index(char) * 3**place for place, char in enumerate(text[:17]))
    return alphabet[-total % 31] == text[17]


# Keys.


def murmur2(data: bytes) -> int:
    mask = 2**32 - 1
    mixed = (0x9747B28C ^ len(data)) & mask
    whole = len(data) - len(data) % 4
    for start in range(0, whole, 4):
        word = int.from_bytes(data[start : start + 4], "little") * 0x5BD1E995 & mask
        word = (word ^ word >> 24) * 0x5BD1E995 & mask
        mixed = mixed * 0x5BD1E995 & mask ^ word
    rest = data[whole:]
    for place in reversed(range(len(rest))):
        mixed ^= rest[place] << 8 * place
    if rest:
        mixed = mixed * 0x5BD1E995 & mask
    mixed = (mixed ^ mixed >> 13) * 0x5BD1E995 & mask
    return mixed ^ mixed >> 15


def key_of(items: Sequence[Item], names: Sequence[str], datum: Mapping[str, Any]) -> bytes:
    chosen = [item for item in items if item.name in names]
    if len(chosen) == 1 and chosen[0].type == "string" and not chosen[0].nullable:
        return str(datum[chosen[0].name]).encode()
    return b"".join(write_item(item, datum[item.name]) for item in chosen)


# Masks.


def number_text(bound: float) -> str:
    # Only bounds that a finite decimal of few digits writes exactly are generated.
    text = f"{bound:.6f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def mask_value(item: Item, mask: Mapping[str, Any], value: Any, secret: bytes) -> str:
    if mask["mask"] == "keep":
        first, last = mask.get("first", 0), mask.get("last", 0)
        hidden = len(value) - first - last
        return value[:first] + 8 * "*" + value[first + hidden :] if hidden > 0 else 8 * "*"
    if mask["mask"] == "hash":
        digest = hmac.new(secret, write_value(item, value), hashlib.sha256).digest()
        return base64.urlsafe_b64encode(digest[:16]).decode().replace("=", "")
    if mask.get("by"):
        day = date.fromordinal(EPOCH_DAY + value).isoformat()
        return day[:4] if mask["by"] == "year" else day[:7]
    bounds = mask["bounds"]
    exact = item.type not in ("float", "double")
    below = [b for b in bounds if (Fraction(number_text(b)) if exact else b) <= value]
    if not below:
        return "<" + number_text(bounds[0])
    if len(below) == len(bounds):
        return "≥" + number_text(bounds[-1])
    return f"[{number_text(below[-1])},{number_text(bounds[len(below)])})"


# The decision.


def decide(world: World, record: Mapping[str, Any], repeat: str | None, now_ms: int) -> Verdict:
    verdict = Verdict(body=record["value"] or b"")
    try:
        items, datum, schema_id = check_record(world, record, repeat, verdict)
    except Refused as refused:
        verdict.refusal, verdict.path = refused.reason, refused.path
        return verdict
    for grant in world.grants:
        name = grant["id"]
        reason = why_not(world, grant, items, datum, schema_id, now_ms)
        if reason is None:
            verdict.placed[name] = place(world, grant, items, datum, schema_id, record, verdict)
        else:
            verdict.withheld[name] = reason
    return verdict


def text_header(found: Sequence[bytes], chars_max: int) -> str | None:
    if not found:
        return None
    if len(found) > 1:
        raise Refused("MALFORMED")
    text = found[0].decode("utf-8", "replace")
    if not is_visible(text) or len(text) > chars_max:
        raise Refused("MALFORMED")
    return text


def is_visible(text: str) -> bool:
    # Generated headers hold letters, controls and the replacement character only.
    return bool(text) and not any(unicodedata.category(c) == "Cc" or c == "�" for c in text)


def check_record(
    world: World, record: Mapping[str, Any], repeat: str | None, verdict: Verdict
) -> tuple[tuple[Item, ...], dict[str, Any], int]:
    dataset = world.dataset
    named: dict[str, list[bytes]] = {}
    for name, value in record["headers"]:
        named.setdefault(name, []).append(value)
    header_fault: str | None = None
    ce_type: str | None = None
    bad_event_id = False
    size = sum(len(name.encode()) + len(value) for name, value in record["headers"])
    if len(record["headers"]) > 32 or size > 8192:
        header_fault = "TOO_LARGE"
    else:
        try:
            ce_type = text_header(named.get("ce_type", []), 128)
            ids = named.get("ce_id", [])
            if len(ids) > 1 or len(named.get("shutong_publisher", [])) > 1:
                raise Refused("MALFORMED")
            publisher = named.get("shutong_publisher", [b""])[0].decode("utf-8", "replace")
            organisation, _, system = publisher.partition("/")
            if world.systems.get(system) == organisation and organisation in world.organisations:
                verdict.publisher = publisher
            if ids:
                text = ids[0].decode("utf-8", "replace")
                bad_event_id = not is_visible(text) or len(text) > 128 or len(text.encode()) > 255
                verdict.event_id = None if bad_event_id else text
        except Refused as fault:
            header_fault = fault.reason
    allowed: dict[str, list[str]] = {}
    if dataset["provider"] in world.organisations:
        allowed[dataset["provider"]] = [world.organisations[dataset["provider"]]]
    for each in dataset.get("publishers", ()):
        allowed.setdefault(each["organisation"], []).append(each["region"])
    if dataset.get("inbound") == "own_client":
        named = {each["organisation"] for each in dataset.get("publishers", ())}
        writers = [
            f"{owner}/{system}"
            for system, owner in world.systems.items()
            if owner in (named or {dataset["provider"]})
        ]
        verdict.publisher = writers[0] if len(writers) == 1 else ""
    if record["dataset"] != dataset["id"] or dataset.get("nature", "event") != "event":
        raise Refused("DATASET_NOT_IN_FORCE")
    value, key = record["value"], record["key"]
    if value is None:
        raise Refused("NULL_VALUE")
    framed = len(value) >= 5 and value[0] == 0
    if framed and header_fault is None:
        verdict.body = value[5:]
    if key is None:
        raise Refused("NULL_KEY")
    if header_fault is not None:
        raise Refused(header_fault)
    if len(value) + len(key) > 2**20:
        raise Refused("TOO_LARGE")
    if not framed:
        raise Refused("BAD_FRAMING")
    schema_id = struct.unpack(">I", value[1:5])[0]
    if schema_id not in [each["id"] for each in dataset["schemas"]]:
        raise Refused("UNKNOWN_SCHEMA")
    items = world.schemas[schema_id]
    types = {item.name: item for item in items}
    for rule in dataset.get("quality", ()):
        of_text = rule["rule"] in ("id_number", "uscc")
        if of_text and any(types[name].type != "string" for name in rule["items"]):
            raise Refused("RULE_ERROR")
    datum = read_record(items, verdict.body)
    for name in dataset.get("subjects", ()):
        if datum.get(name) is not None:
            digest = hashlib.blake2b(
                datum[name].encode(), digest_size=16, key=world.keys("tokens/1")
            )
            verdict.tokens.append(digest.digest())
    if key != key_of(items, dataset["key"], datum):
        raise Refused("WRONG_KEY")
    if record["partition"] != (murmur2(key) & (2**31 - 1)) % world.lanes:
        raise Refused("WRONG_PARTITION")
    if not verdict.publisher:
        raise Refused("UNKNOWN_PUBLISHER")
    organisation = verdict.publisher.split("/")[0]
    if organisation not in allowed:
        raise Refused("PUBLISHER_NOT_ALLOWED")
    verdict.operation = operation_of(dataset, datum, ce_type)
    role_item = dataset["regions"].get(dataset["provider_role"], "")
    region = region_of(world, datum.get(role_item))
    if region is None:
        raise Refused("UNKNOWN_REGION", role_item)
    outers = [region_of(world, code) for code in allowed[organisation]]
    if not any(outer is not None and lies_in(world, region, outer) for outer in outers):
        raise Refused("OUT_OF_JURISDICTION", role_item)
    if dataset.get("secrecy", "none") != "none" or any(i.grade == "core" for i in items):
        raise Refused("SECRET")
    check_quality(dataset, datum)
    if bad_event_id:
        raise Refused("BAD_EVENT_ID")
    if repeat is not None:
        raise Refused(repeat)
    return items, datum, schema_id


def operation_of(dataset: Mapping[str, Any], datum: Mapping[str, Any], ce_type: str | None) -> str:
    how = dataset.get("operation")
    known = ("put", "correct", "delete")
    if isinstance(how, Mapping):
        told = datum[how["item"]]
        if told is not None and told not in known:
            raise Refused("UNKNOWN_OPERATION", how["item"])
        return told or "put"
    told = "put" if ce_type is None else ce_type.split(".")[-1]
    if how == "ce_type":
        if told not in known:
            raise Refused("UNKNOWN_OPERATION")
        return told
    if told in known[1:]:
        raise Refused("UNKNOWN_OPERATION")
    return "put"


def check_quality(dataset: Mapping[str, Any], datum: Mapping[str, Any]) -> None:
    for rule in dataset.get("quality", ()):
        if rule["rule"] == "sum":
            values = [datum[name] for name in (rule["total"], *rule["parts"])]
            if None in values or values[0] != sum(map(Fraction, values[1:])):
                raise Refused("ITEMS_DISAGREE", rule["total"])
            continue
        for name in rule["items"]:
            value = datum[name]
            if rule["rule"] == "required" and (value is None or value in ("", b"")):
                raise Refused("REQUIRED_MISSING", name)
            if value is None:
                continue
            if rule["rule"] == "id_number" and born_by_number(value) is None:
                raise Refused("BAD_ID_NUMBER", name)
            if rule["rule"] == "uscc" and not sound_uscc(value):
                raise Refused("BAD_USCC", name)


def micros(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1_000_000)


def why_not(
    world: World,
    grant: Mapping[str, Any],
    items: Sequence[Item],
    datum: Mapping[str, Any],
    schema_id: int,
    now_ms: int,
) -> str | None:
    now = now_ms * 1000
    if now < micros(grant["valid_from"]):
        return "NOT_YET_VALID"
    if now >= micros(grant["valid_until"]):
        return "EXPIRED"
    if grant.get("suspended") and now >= micros(grant["suspended"]["since"]):
        return "SUSPENDED"
    flowing = {n for n, mask in grant["items"].items() if mask == "clear" or mask["mask"] != "drop"}
    if any(not row.get("items") or flowing & set(row["items"]) for row in world.negatives):
        return "NEGATIVE_LIST"
    closed = {item.name for item in items if item.share == "not_shared"}
    if world.dataset["share"] == "not_shared" or flowing & closed:
        return "NEGATIVE_LIST"
    if not any(each["schema_id"] == schema_id for each in grant["projections"]):
        return "SCHEMA_NOT_GRANTED"
    region = region_of(world, datum.get(world.dataset["regions"].get(grant["scope"]["role"], "")))
    if region is None:
        return "GRANT_REGION_UNKNOWN"
    if not in_scope(world, grant, region):
        return "REGION_OUT_OF_SCOPE"
    if grant.get("condition"):
        if grant["id"] not in world.sql:
            return "CONDITION_ERROR"
        if not sql_true(world.sql[grant["id"]], items, datum):
            return "CONDITION_NOT_MET"
    if not grant.get("minors") and young(world.dataset, items, datum, now_ms):
        return "MINOR_NOT_GRANTED"
    return None


def young(
    dataset: Mapping[str, Any], items: Sequence[Item], datum: Mapping[str, Any], now_ms: int
) -> bool:
    """A person under 14, or one of whom nothing tells the age."""
    persons = set(dataset.get("subjects", ()))
    telling = set(dataset.get("birth_items", ()))
    for rule in dataset.get("quality", ()):
        if rule["rule"] == "id_number":
            telling |= persons & set(rule["items"])
    if not telling:
        return False
    told = [item for item in items if item.name in telling and datum[item.name] is not None]
    if not told:
        return any(datum.get(name) is not None for name in persons)
    return any(is_minor(item, datum[item.name], now_ms) for item in told)


def sql_true(
    condition: tuple[str, tuple[Any, ...]], items: Sequence[Item], datum: Mapping[str, Any]
) -> bool:
    asked = [item for item in items if item.type in ("string", "enum", "int", "boolean", "double")]
    connection = sqlite3.connect(":memory:")
    try:
        connection.execute(f"CREATE TABLE r ({', '.join(item.name for item in asked)})")
        marks = ", ".join("?" * len(asked))
        values = [datum[item.name] for item in asked]
        connection.execute(f"INSERT INTO r VALUES ({marks})", values)
        found = connection.execute(f"SELECT 1 FROM r WHERE {condition[0]}", condition[1])
        return found.fetchone() is not None
    finally:
        connection.close()


def is_minor(item: Item, value: Any, now_ms: int) -> bool:
    if value is None:
        return False
    day = date.fromordinal(EPOCH_DAY + value) if item.type == "date" else born_by_number(value)
    if day is None:
        return True
    china = datetime.fromtimestamp(now_ms // 1000, timezone(timedelta(hours=8)))
    # 14 from the day after the birthday; in common years 29 February's birthday is the 28th.
    leap = (day.year + 14) % 4 == 0 and ((day.year + 14) % 100 != 0 or (day.year + 14) % 400 == 0)
    last = 28 if (day.month, day.day) == (2, 29) and not leap else day.day
    today = china.date()
    return (today.year, today.month, today.day) <= (day.year + 14, day.month, last)


def place(
    world: World,
    grant: Mapping[str, Any],
    items: Sequence[Item],
    datum: Mapping[str, Any],
    schema_id: int,
    record: Mapping[str, Any],
    verdict: Verdict,
) -> tuple[bytes, bytes, tuple[tuple[str, bytes], ...]]:
    secret = world.keys(f"grant/{grant['id']}/{grant.get('key_epoch', 1)}")
    body = b""
    for item in items:
        mask = grant["items"].get(item.name)
        value = datum[item.name]
        if mask is None or (mask != "clear" and mask["mask"] == "drop"):
            continue
        if mask == "clear":
            body += write_item(item, value)
        else:
            shown = None if value is None else mask_value(item, mask, value, secret)
            body += write_item(Item(item.name, "string", item.nullable), shown)
    ids = [p["delivered_id"] for p in grant["projections"] if p["schema_id"] == schema_id]
    key = record["key"]
    if any(grant["items"].get(name) != "clear" for name in world.dataset["key"]):
        key = hmac.new(secret, b"shutong-key-v1" + key, hashlib.sha256).digest()[:16]
    return (
        key,
        b"\0" + struct.pack(">I", ids[0]) + body,
        headers_of(world, grant, secret, record, verdict),
    )


def headers_of(
    world: World,
    grant: Mapping[str, Any],
    secret: bytes,
    record: Mapping[str, Any],
    verdict: Verdict,
) -> tuple[tuple[str, bytes], ...]:
    if not grant.get("cloudevents"):
        return ()
    name = world.dataset["id"].encode()
    source = b"shutong-ce-id-v1" + struct.pack(">I", len(name)) + name
    source += struct.pack(">IQ", record["partition"], record["offset"])
    digest = hmac.new(secret, source, hashlib.sha256).digest()[:16]
    moment = datetime.fromtimestamp(record["timestamp_ms"] // 1000, timezone.utc)  # noqa: UP017
    time = f"{moment:%Y-%m-%dT%H:%M:%S}.{record['timestamp_ms'] % 1000:03d}Z"
    return (
        ("ce_specversion", b"1.0"),
        ("ce_id", base64.urlsafe_b64encode(digest).rstrip(b"=")),
        ("ce_source", world.dataset["provider"].encode()),
        ("ce_type", name + b"." + verdict.operation.encode()),
        ("ce_time", time.encode()),
    )
