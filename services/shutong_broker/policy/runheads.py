"""What is known of a run of records before their bodies are read, column by column.

Publisher, event id, key, lane, frame and size are looked at for all records at once; the run ends
before the first record where one of them is not as it mostly is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import itemgetter

from shutong_broker.policy.head import HeadReader, Told
from shutong_broker.policy.lanehash import lanes_of
from shutong_broker.policy.model import InboundRecord, Operation
from shutong_core.wire.topics import INBOUND_BYTES_MAX

_key, _value, _headers = itemgetter(3), itemgetter(4), itemgetter(5)
#: Of a longer key the lane is worked out only once the key is known to be right: hashing takes
#: 40 ns a byte, and what a run looks at beyond its end it looks at again.
KEY_BYTES_MAX = 1024


class RunHeads:
    """The first of some records of one input, all with the frame's `prefix`.

    `rows` gives key, body, told head and lane of each. An event id's hash is None where there is
    no id or no publisher.
    """

    __slots__ = ("_bodies", "_keys", "_lanes", "_told", "id_hashes")

    def __init__(
        self, records: Sequence[InboundRecord], prefix: bytes, lanes: int, reader: HeadReader
    ) -> None:
        self._told, self.id_hashes = reader.columns(list(map(_headers, records)))
        self._keys = list(map(_key, records))
        values = _sound(self._keys, list(map(_value, records)), prefix)
        self._lanes = lanes_of(self._keys[: len(values)], lanes)
        size = len(prefix)
        self._bodies = [value[size:] for value in values]

    @property
    def rows(self) -> Iterable[tuple[bytes | None, bytes, Told, int]]:
        """Row by row: key, body, what the head tells, lane."""
        return zip(self._keys, self._bodies, self._told, self._lanes, strict=False)

    def publishers(self, rows: int) -> list[str]:
        """Of the first rows."""
        return [told[0] for told in self._told[:rows]]

    def operations(self, rows: int) -> list[Operation]:
        """Of the first rows, as their headers tell."""
        return [told[1] for told in self._told[:rows]]


def _sound(
    keys: Sequence[bytes | None], values: Sequence[bytes | None], prefix: bytes
) -> list[bytes]:
    """The values before the first that is null, framed otherwise or too large, or whose key is."""
    try:
        sound = [each for each in values if each is not None and each.startswith(prefix)]
        longest = max(map(len, keys))  # type: ignore[arg-type]
        largest = max(map(len, sound)) + longest
    except (TypeError, ValueError):  # a null among the keys, or no value left
        sound, longest, largest = [], 0, 0
    if len(sound) == len(values) and longest <= KEY_BYTES_MAX and largest <= INBOUND_BYTES_MAX:
        return sound
    sound = []
    for key, value in zip(keys, values, strict=True):
        if value is None or value[: len(prefix)] != prefix:
            break
        size = len(key or b"")
        if size > KEY_BYTES_MAX or size + len(value) > INBOUND_BYTES_MAX:
            break
        sound.append(value)
    return sound
