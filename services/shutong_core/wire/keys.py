"""Keys: what an inbound record's key must be, its lane, and the key a subscriber sees.

One string item → its UTF-8 bytes; one other item → its Avro encoding; several → their Avro
encodings joined in schema order. A lane is Kafka's own partition for that key, so that records of
one key written by any client with murmur2 partitioning meet in one lane.
"""

from __future__ import annotations

import hmac
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from io import BytesIO
from typing import Any, Protocol

import fastavro

from shutong_core.domain.errors import Rejected
from shutong_core.wire.encode import encode_shape
from shutong_core.wire.leaftypes import read_plain
from shutong_core.wire.shapes import Nullable

DELIVERED_KEY_BYTES = 16
DELIVERED_KEY_LABEL = b"shutong-key-v1"

# Constants of MurmurHash2 as in org.apache.kafka.common.utils.Utils.murmur2.
_SEED = 0x9747B28C
_M = 0x5BD1E995
_MASK = 0xFFFFFFFF
_POSITIVE = 0x7FFFFFFF
#: Their encodings are lists of other values: too big, and no identity of a record.
_NO_KEY_TYPES = frozenset({"array", "map", "record", "error", "null"})


def murmur2(data: bytes) -> int:
    """Kafka's MurmurHash2 of `data` as an unsigned 32-bit number (Java shows it signed)."""
    length = len(data)
    words, rest = divmod(length, 4)
    h = _SEED ^ (length & _MASK)
    for k in struct.unpack_from(f"<{words}I", data):
        k = k * _M & _MASK  # noqa: PLW2901 - the published algorithm, word by word
        k ^= k >> 24  # noqa: PLW2901
        h = (h * _M & _MASK) ^ (k * _M & _MASK)
    if rest:
        h = (h ^ int.from_bytes(data[length - rest :], "little")) * _M & _MASK
    h ^= h >> 13
    h = h * _M & _MASK
    return h ^ h >> 15


def partition_of(key: bytes, lanes: int) -> int:
    """The partition, 0 … lanes-1, that Kafka's default partitioner gives a non-null key.

    librdkafka does the same under `partitioner=murmur2_random`.
    """
    return (murmur2(key) & _POSITIVE) % lanes


def delivered_key(inbound_key: bytes, all_clear: bool, secret: bytes) -> bytes:
    """The key of a placed record.

    `all_clear`: the grant gives every key item in clear, then it is the inbound key itself.
    Otherwise the first 16 bytes of HMAC-SHA-256 over label and inbound key with the grant's
    `secret`: equal keys stay equal within the grant, nothing can be joined across grants. The
    label keeps it apart from mask *hash*, which uses the same secret: else a hidden key could be
    compared with a masked item.
    """
    if all_clear:
        return inbound_key
    return hmac.digest(secret, DELIVERED_KEY_LABEL + inbound_key, "sha256")[:DELIVERED_KEY_BYTES]


class HasParsedSchema(Protocol):
    """What this module needs of a schema."""

    @property
    def parsed(self) -> Any:
        """The record schema as JSON values."""
        ...


def key_bytes(schema: HasParsedSchema, key_items: Sequence[str], datum: Mapping[str, Any]) -> bytes:
    """The key of one record; callers with many keep a `KeyRule` instead. Raises Rejected."""
    return key_rule(schema.parsed, key_items).key(datum)


@dataclass(frozen=True, slots=True)
class KeyRule:
    """How the key of one schema version is made.

    `items` are the key items in schema order; `as_text` says that the key is the UTF-8 bytes of
    the one string item, otherwise it is the items' Avro encodings joined.
    """

    items: tuple[str, ...]
    as_text: bool
    _types: tuple[Any, ...]

    def key(self, datum: Mapping[str, Any]) -> bytes:
        """The key of `datum`, a record that the codec accepted.

        Raises Rejected naming the item (never its value) if the item is missing or does not fit.
        """
        if self.as_text:
            text = _value(datum, self.items[0])
            if isinstance(text, str):
                try:
                    return text.encode()
                except UnicodeEncodeError as error:
                    raise Rejected(f"key item {self.items[0]} is not valid text") from error
            encoded = _encode(self.items[0], self._types[0], text)
            return _without_length(encoded)
        pairs = zip(self.items, self._types, strict=True)
        return b"".join(_encode(item, avro, _value(datum, item)) for item, avro in pairs)


def key_rule(parsed: Any, key_items: Sequence[str]) -> KeyRule:
    """The rule for record schema `parsed` (JSON values, plain or parsed by fastavro).

    Raises Rejected if there is no key item, one is not a field, one is named twice, or one has a
    type that cannot be a key (array, map, record).
    """
    fields = parsed.get("fields") if isinstance(parsed, Mapping) else None
    if not isinstance(fields, list):
        raise Rejected("a key needs a record schema")
    wanted = set(key_items)
    if not wanted or len(wanted) != len(key_items):
        raise Rejected("key items must be named, each once")
    found: list[tuple[str, Any]] = []
    names: dict[str, Any] = {}
    for field in fields:
        _collect(field["type"], str(parsed.get("namespace", "")), names)
        if field["name"] in wanted:
            found.append((field["name"], _resolved(field["name"], field["type"], names)))
    missing = wanted - {name for name, _ in found}
    if missing:
        raise Rejected(f"key items are not in the schema: {', '.join(sorted(missing))}")
    return KeyRule(
        items=tuple(name for name, _ in found),
        as_text=len(found) == 1 and _type_name(found[0][1]) == "string",
        _types=tuple(fastavro.parse_schema(avro) for _, avro in found),
    )


def _collect(avro: Any, namespace: str, names: dict[str, Any]) -> None:
    """Note named types (enum, fixed) of `avro` so that later fields may refer to them."""
    branches = avro if isinstance(avro, list) else [avro]
    for branch in branches:
        if isinstance(branch, Mapping) and branch.get("type") in {"enum", "fixed"}:
            name = str(branch["name"])
            space = str(branch.get("namespace", namespace))
            full = name if "." in name or not space else f"{space}.{name}"
            names[name] = names[full] = branch
        elif isinstance(branch, Mapping) and branch.get("type") == "record":
            inner = str(branch.get("namespace", namespace))
            for field in branch.get("fields", ()):
                _collect(field["type"], inner, names)
        elif isinstance(branch, Mapping):
            for part in ("items", "values", "type"):
                if isinstance(branch.get(part), Mapping | list):
                    _collect(branch[part], namespace, names)


def _resolved(item: str, avro: Any, names: Mapping[str, Any]) -> Any:
    """`avro` with references to named types replaced by the types."""
    if isinstance(avro, list):
        return [
            branch if _type_name(branch) == "null" else _resolved(item, branch, names)
            for branch in avro
        ]
    if isinstance(avro, str) and avro in names:
        return names[avro]
    if _type_name(avro) in _NO_KEY_TYPES:
        raise Rejected(f"item {item} cannot be a key item: its type is {_type_name(avro)}")
    return avro


def _type_name(avro: Any) -> str:
    """The Avro type's name; `union` for a union."""
    while isinstance(avro, Mapping):
        avro = avro["type"]
    return "union" if isinstance(avro, list) else str(avro)


def _value(datum: Mapping[str, Any], item: str) -> Any:
    try:
        return datum[item]
    except KeyError:
        raise Rejected(f"key item {item} is missing") from None


def _encode(item: str, avro: Any, value: Any) -> bytes:
    out = BytesIO()
    branch = avro[-1] if isinstance(avro, list) else avro
    try:
        if isinstance(value, Decimal) and branch["type"] == "bytes":
            # fastavro writes -128 in two bytes; the body's canonical form, and Java, in one.
            plain = read_plain(branch)
            return encode_shape(Nullable(plain) if isinstance(avro, list) else plain, value)
        fastavro.schemaless_writer(out, avro, value, strict=True)
    except Exception as error:  # fastavro raises what it meets; the values must not be shown
        raise Rejected(f"key item {item} does not fit its type") from error
    return out.getvalue()


def _without_length(encoded: bytes) -> bytes:
    """The text of an Avro string: what follows its length, a varint."""
    start = 0
    while encoded[start] & 0x80:
        start += 1
    return encoded[start + 1 :]
