#!/usr/bin/env python3
"""Verifies a Shutong audit copy or a proof of one record, with Python's standard library alone.

Written from the pages in docs/formats and from nothing else, so that who does not trust the bus need
not trust its software either. Python 3.9 or newer.

    python shutong_verify.py copy DIR --trust FILE [--known FILE ...] [--level 1|2]
    python shutong_verify.py proof FILE --trust FILE

Exit code 0: holds. 1: something is wrong, the first thing is named first. 2: cannot be read.
"""

from __future__ import annotations

import argparse
import base64
import binascii
import bisect
import functools
import hashlib
import hmac
import json
import os
import re
import struct
import sys

MAX_PART = 2 * 1024 * 1024 + 64 * 1024
ID = re.compile(r"[a-z0-9][a-z0-9-]{0,47}")
ORIGIN = re.compile(r"(.+)/(audit|access)/(0|[1-9][0-9]{0,4})", re.ASCII)


class Bad(Exception):
    """Something that cannot be read as the page says."""


def sha(*parts: bytes) -> bytes:
    whole = hashlib.sha256()
    for part in parts:
        whole.update(part)
    return whole.digest()


# ---------------------------------------------------------------- Ed25519 (RFC 8032, 5.1.7)
_P = 2**255 - 19
_L = 2**252 + 27742317777372353535851937790883648493
_D = -121665 * pow(121666, _P - 2, _P) % _P
_I = pow(2, (_P - 1) // 4, _P)


def _add(a, b):
    t1, t2 = (a[1] - a[0]) * (b[1] - b[0]) % _P, (a[1] + a[0]) * (b[1] + b[0]) % _P
    t3, t4 = 2 * a[3] * b[3] * _D % _P, 2 * a[2] * b[2] % _P
    e, f, g, h = t2 - t1, t4 - t3, t4 + t3, t2 + t1
    return (e * f % _P, g * h % _P, f * g % _P, e * h % _P)


def _times(number, point):
    found = (0, 1, 1, 0)
    while number:
        if number & 1:
            found = _add(found, point)
        point = _add(point, point)
        number >>= 1
    return found


def _x_of(y, odd):
    if y >= _P:
        return None
    square = (y * y - 1) * pow(_D * y * y + 1, _P - 2, _P) % _P
    x = pow(square, (_P + 3) // 8, _P)
    if (x * x - square) % _P:
        x = x * _I % _P
    if (x * x - square) % _P or (x == 0 and odd):
        return None
    return _P - x if x & 1 != odd else x


def _point(data):
    y = int.from_bytes(data, "little")
    x = _x_of(y & (1 << 255) - 1, y >> 255)
    if x is None:
        return None
    y &= (1 << 255) - 1
    return (x, y, 1, x * y % _P)


_GY = 4 * pow(5, _P - 2, _P) % _P
_GX = _x_of(_GY, 0)
_G = (_GX, _GY, 1, _GX * _GY % _P)


@functools.lru_cache(maxsize=10_000)
def ed25519_holds(public: bytes, message: bytes, signature: bytes) -> bool:
    if len(public) != 32 or len(signature) != 64:
        return False
    a, r = _point(public), _point(signature[:32])
    s = int.from_bytes(signature[32:], "little")
    if a is None or r is None or s >= _L:
        return False
    h = int.from_bytes(hashlib.sha512(signature[:32] + public + message).digest(), "little") % _L
    left, right = _times(s, _G), _add(r, _times(h, a))
    same_x = (left[0] * right[2] - right[0] * left[2]) % _P == 0
    return same_x and (left[1] * right[2] - right[1] * left[2]) % _P == 0


# ---------------------------------------------------------------- Merkle trees (RFC 9162, 2.1)
def leaf_hash(data: bytes) -> bytes:
    return sha(b"\x00", data)


def tree_root(hashes) -> bytes:
    level = list(hashes)
    if not level:
        return sha(b"")
    while len(level) > 1:
        above = [sha(b"\x01", a, b) for a, b in zip(level[::2], level[1::2])]
        level = above + level[-1:] if len(level) % 2 else above
    return level[0]


def root_by_path(index: int, size: int, found: bytes, path) -> bytes:
    if not 0 <= index < size:
        raise Bad(f"leaf {index} is not in a tree of {size}")
    last, rest = size - 1, list(path)
    while last:
        if index % 2 or index != last:
            if not rest:
                raise Bad("inclusion proof: too short")
            beside = rest.pop(0)
            found = sha(b"\x01", beside, found) if index % 2 else sha(b"\x01", found, beside)
        index, last = index // 2, last // 2
    if rest:
        raise Bad("inclusion proof: too long")
    return found


class Growing:
    """Root of a tree that grows: the roots of its complete subtrees, largest first."""

    def __init__(self):
        self.size, self.stack = 0, []

    def add(self, leaf: bytes):
        size = self.size
        while size & 1:
            leaf, size = sha(b"\x01", self.stack.pop(), leaf), size >> 1
        self.stack.append(leaf)
        self.size += 1

    def root(self) -> bytes:
        if not self.stack:
            return sha(b"")
        found = self.stack[-1]
        for left in self.stack[-2::-1]:
            found = sha(b"\x01", left, found)
        return found


# ---------------------------------------------------------------- signed notes, checkpoints, trust
def b64(text, size=None) -> bytes:
    try:
        data = base64.b64decode(text, validate=True) if isinstance(text, str) else None
    except (binascii.Error, ValueError):
        data = None
    if data is None or base64.b64encode(data).decode() != text:
        raise Bad("not base64 in its one form")
    if size is not None and len(data) != size:
        raise Bad(f"{len(data)} bytes where {size} are needed")
    return data


def key_id(name: str, typed: bytes) -> bytes:
    return sha(name.encode(), b"\n", typed)[:4]


def parse_note(data: bytes):
    """(text, [(name, key id, signature)])."""
    if len(data) > 64 * 1024:
        raise Bad("a signed note is too long")
    try:
        whole = data.decode()
    except UnicodeDecodeError:
        raise Bad("a signed note is not UTF-8")
    text, found, rest = whole.rpartition("\n\n")
    if not found or not text or not rest.endswith("\n"):
        raise Bad("a signed note needs a blank line and signatures")
    if any(ord(each) < 32 and each != "\n" for each in whole):
        raise Bad("control characters in a signed note")
    signatures = []
    for line in rest[:-1].split("\n"):
        match = re.fullmatch("\u2014 ([^\\s+]{1,255}) (\\S+)", line)
        if not match or len(signatures) >= 64:
            raise Bad("a signature line is malformed")
        data = b64(match[2])
        if len(data) < 5:
            raise Bad("a signature is too short")
        signatures.append((match[1], data[:4], data[4:]))
    return text + "\n", signatures


def parse_checkpoint(text: str):
    """(origin, size, root)."""
    lines = text.split("\n")
    if len(lines) != 4 or lines[3] or not lines[0]:
        raise Bad("a checkpoint has three lines")
    if not re.fullmatch(r"0|[1-9][0-9]{0,18}", lines[1], re.ASCII) or int(lines[1]) >= 2**63:
        raise Bad("a checkpoint's size is no number")
    return lines[0], int(lines[1]), b64(lines[2], 32)


class Trust:
    """The trust bundle."""

    FIELDS = {"format", "cluster", "auditor", "witnesses", "witnesses_needed", "agencies"}

    def __init__(self, data: bytes):
        table = load_json(data)
        if set(table) != self.FIELDS or table["format"] != "shutong-trust-v1":
            raise Bad("this is no shutong-trust-v1 bundle")
        self.cluster = table["cluster"]
        self.auditor = [b64(each, 32) for each in table["auditor"]]
        self.witnesses = [self._vkey(each) for each in table["witnesses"]]
        self.needed = table["witnesses_needed"]
        self.agencies = {
            name: [b64(each, 32) for each in keys] for name, keys in table["agencies"].items()
        }

    @staticmethod
    def _vkey(text: str):
        name, _, rest = text.partition("+")
        mark, _, encoded = rest.partition("+")
        typed = b64(encoded, 33)
        if typed[0] != 4 or key_id(name, typed).hex() != mark:
            raise Bad("a witness's key is not a cosigning key under its name")
        return name, typed

    def rotate(self, record: bytes):
        """Trust the key that a rotation record leads to, or Bad."""
        text, signatures = parse_note(record)
        lines = text.split("\n")
        if len(lines) != 6 or lines[:2] != ["shutong-rotation-v1", self.cluster] or lines[5]:
            raise Bad("no rotation of this bus")
        old, new = b64(lines[2], 32), b64(lines[3], 32)
        keys = [(f"{self.cluster}/auditor", b"\x01" + each) for each in (old, new)]
        if old == new or not lines[4].isdigit() or len(self._by(text, signatures, keys)) != 2:
            raise Bad("a rotation is signed by the old key and the new one")
        if old not in self.auditor:
            raise Bad("the old key of a rotation is not trusted")
        if new not in self.auditor:
            self.auditor.append(new)

    def accept(self, note: bytes, origin: str):
        """(size, root, names of witnesses) of a checkpoint of tree `origin`, or Bad."""
        text, signatures = parse_note(note)
        said, size, root = parse_checkpoint(text)
        match = ORIGIN.fullmatch(origin)
        if said != origin or not match or match[1] != self.cluster:
            raise Bad(f"a checkpoint of {said}, not of {origin}")
        keys = [(origin, b"\x01" + public) for public in self.auditor]
        if not self._by(text, signatures, keys):
            raise Bad("no auditor's key of the trust bundle signed the checkpoint")
        names = self._by(text, signatures, self.witnesses)
        if len(names) < self.needed:
            raise Bad(f"{len(names)} witnesses cosigned, {self.needed} are needed")
        return size, root, names

    @staticmethod
    def _by(text: str, signatures, keys):
        """Names of the keys that signed; Bad if one signed wrongly or twice."""
        found = []
        for name, typed in keys:
            mine = [
                data for who, mark, data in signatures if (who, mark) == (name, key_id(name, typed))
            ]
            if len(mine) > 1:
                raise Bad(f"two signatures by {name}")
            for data in mine:
                message = text.encode()
                if typed[0] == 4:
                    seconds = int.from_bytes(data[:8], "big")
                    message, data = f"cosignature/v1\ntime {seconds}\n{text}".encode(), data[8:]
                if not ed25519_holds(typed[1:], message, data):
                    raise Bad(f"the signature by {name} does not hold")
                found.append(name)
        return found


def load_json(data: bytes):
    try:
        table = json.loads(data)
        json.dumps(table, ensure_ascii=False).encode()  # lone surrogates are no text
    except (ValueError, RecursionError):
        raise Bad("not JSON")
    if not isinstance(table, dict):
        raise Bad("not a JSON object")
    return table


# ---------------------------------------------------------------- blocks
class In:
    """Reads big-endian fields off the front."""

    def __init__(self, data: bytes):
        self.data, self.at = data, 0

    def raw(self, size: int) -> bytes:
        if self.at + size > len(self.data):
            raise Bad("cut off")
        self.at += size
        return self.data[self.at - size : self.at]

    def get(self, form: str):
        found = struct.unpack(">" + form, self.raw(struct.calcsize(">" + form)))
        return found[0] if len(found) == 1 else found

    def text(self) -> str:
        size = self.get("I")
        if size > 255:
            raise Bad("a string is too long")
        try:
            return self.raw(size).decode()
        except UnicodeDecodeError:
            raise Bad("a string is not UTF-8")

    def id(self) -> str:
        found = self.text()
        if not ID.fullmatch(found):
            raise Bad("not an id")
        return found

    def end(self):
        if self.at != len(self.data):
            raise Bad("more bytes than there should be")


def string(text: str) -> bytes:
    return struct.pack(">I", len(text.encode())) + text.encode()


def parse_header(data: bytes) -> dict:
    if len(data) > 4096:
        raise Bad("a header is too long")
    r = In(data)
    if r.get("B") != 1:
        raise Bad("unknown version of a header")
    head = {"cluster": r.text(), "lane": r.get("I"), "sequence": r.get("Q"), "previous": r.raw(32)}
    head["list"], head["list_digest"], head["engine"] = r.get("Q"), r.raw(32), r.text()
    head["decided_ms"] = r.get("Q")
    r.raw(32 + 16)  # division digest, instance
    head["flags"] = r.get("I")
    head["counts"] = r.get("IIIQQ")
    head["body_length"], head["body_hash"] = r.get("I"), r.raw(32)
    r.end()
    if head["sequence"] < 1 or head["flags"] & ~1:
        raise Bad("sequence 0 or unknown flags")
    return head


def bits(bitmap: bytes, rows: int) -> list:
    found = [row for row in range(rows) if bitmap[row >> 3] >> (row & 7) & 1]
    if int.from_bytes(bitmap, "little") >> rows:
        raise Bad("bits beyond the last row")
    return found


BODY_BYTES_MAX = 2 * 1024 * 1024 - 16 * 1024
# Numbers of docs/formats/reasons.md that a block may hold.
REFUSALS = {*range(1, 11), *range(20, 26), *range(30, 35), 40, 41, 50}
WITHHELD = {*range(102, 110)}


def ascending(values) -> bool:
    return all(a < b for a, b in zip(values, values[1:]))


def parse_body(data: bytes) -> dict:
    """The body; Bad for anything but the one form of its content."""
    if len(data) > BODY_BYTES_MAX:
        raise Bad("a body is too long")
    r = In(data)
    body = {"salt": r.raw(16), "publishers": [r.text() for _ in range(r.get("H"))]}
    grants = [r.id() for _ in range(r.get("H"))]
    body["exposed"] = [r.id() for _ in range(r.get("H"))]
    if not ascending([each.encode() for each in grants]) or not ascending(body["exposed"]):
        raise Bad("grants are not ascending")
    who = []
    body["inputs"] = [parse_section(r, body["publishers"], grants, who) for _ in range(r.get("H"))]
    r.end()
    if list(dict.fromkeys(who)) != list(range(len(body["publishers"]))):
        raise Bad("publishers are not in the order of their first row")
    if len(set(body["publishers"])) != len(body["publishers"]):
        raise Bad("a publisher is listed twice")
    used = {each[0] for s in body["inputs"] for each in s["grants"] + s["withheld"]}
    if used != set(grants):
        raise Bad("a grant is listed but not used")
    if len({(s["dataset"], s["loading"]) for s in body["inputs"]}) != len(body["inputs"]):
        raise Bad("an input occurs twice")
    return body


def parse_section(r: In, publishers, grants, all_who) -> dict:
    s = {"dataset": r.id(), "loading": r.text()}
    s["first"], s["next"], rows = r.get("QQI")
    s["rows"] = rows
    deltas = struct.unpack(f">{rows}I", r.raw(4 * rows))
    s["offsets"] = [s["first"] + each for each in deltas]
    who = struct.unpack(f">{rows}H", r.raw(2 * rows))
    if any(each >= len(publishers) for each in who):
        raise Bad("a publisher is not in the dictionary")
    all_who.extend(dict.fromkeys(who))
    if not ascending(deltas) or s["next"] < s["first"]:
        raise Bad("offsets do not ascend")
    if rows and s["offsets"][-1] >= s["next"]:
        raise Bad("an offset is not below the next")
    s["publishers"] = [publishers[each] for each in who]
    s["operations"], s["refusals"] = r.raw(rows), r.raw(rows)
    if any(each > 3 for each in s["operations"]) or set(s["refusals"]) - REFUSALS - {0}:
        raise Bad("unknown operation or reason")
    s["digests"] = r.raw(32 * rows)
    r.raw(16 * sum(r.raw(rows)))  # tokens
    r.raw(8 * len(bits(r.raw((rows + 7) // 8), rows)))  # id hashes
    s["grants"] = parse_columns(r, grants, rows, s["refusals"])
    s["withheld"] = parse_withheld(r, grants, rows, s)
    if s["loading"]:
        named = {each[0] for each in s["grants"] + s["withheld"]}
        if not ID.fullmatch(s["loading"]) or not named <= {s["loading"]}:
            raise Bad("a loading input speaks of another grant than its own")
    return s


def parse_columns(r: In, grants, rows: int, refusals: bytes) -> list:
    found, last = [], -1
    for _ in range(r.get("H")):
        grant, first_k, count, size = r.get("HQIQ")
        chain, allowed = r.raw(32), bits(r.raw((rows + 7) // 8), rows)
        number = r.get("I")
        raw = r.raw(8 * number)
        deferred = [struct.unpack_from(">II", raw, 8 * each) for each in range(number)]
        if not last < grant < len(grants) or len(allowed) != count:
            raise Bad("a grant's column does not add up")
        if not first_k >= 1 or first_k + count >= 2**64 or (not count and (size or not deferred)):
            raise Bad("a grant's column is empty or out of range")
        if any(first >= end or end > rows for first, end in deferred):
            raise Bad("a range of rows is empty or too far")
        if any(a[1] >= b[0] for a, b in zip(deferred, deferred[1:])):
            raise Bad("ranges of rows overlap or touch")
        rest = {row for first, end in deferred for row in range(first, end)}
        if rest.intersection(allowed) or any(refusals[row] for row in (*allowed, *rest)):
            raise Bad("a row has two verdicts")
        last = grant
        found.append((grants[grant], first_k, count, chain, allowed, deferred))
    return found


def parse_withheld(r: In, grants, rows: int, s: dict) -> list:
    number = r.get("I")
    raw, found, last = r.raw(11 * number), [], (-1, 0, 0)
    decided = {
        name: set(allowed).union(*(range(first, end) for first, end in deferred))
        for name, _k, _count, _chain, allowed, deferred in s["grants"]
    }
    for each in range(number):
        grant, reason, first, end = struct.unpack_from(">HBII", raw, 11 * each)
        if grant >= len(grants) or not first < end <= rows or reason not in WITHHELD:
            raise Bad("a withheld run is wrong")
        if grant < last[0] or (grant == last[0] and first < last[1]):
            raise Bad("withheld runs overlap or go back")
        if (grant, first, reason) == last:
            raise Bad("withheld runs that touch are not joined")
        there = decided.get(grants[grant], ())
        if any(s["refusals"][row] or row in there for row in range(first, end)):
            raise Bad("a row has two verdicts")
        last = (grant, end, reason)
        found.append((grants[grant], reason, first, end))
    return found


def row_salts(salt: bytes, rows: int) -> list:
    key = hmac.digest(bytes(32), salt, "sha256")
    found = []
    for group in range(-(-rows // 510)):
        info, last, stream = string("shutong-row-salt-v1") + struct.pack(">I", group), b"", b""
        for counter in range(1, 256):
            if len(stream) >= 16 * min(510, rows - 510 * group):
                break
            last = hmac.digest(key, last + info + bytes((counter,)), "sha256")
            stream += last
        found += [stream[at : at + 16] for at in range(0, len(stream), 16)]
    return found[:rows]


def row_bytes(section: dict) -> list:
    """The rows of a section as their leaves hold them, without salt."""
    verdicts = [{} for _ in range(section["rows"])]
    for grant, first_k, _count, _chain, allowed, deferred in section["grants"]:
        for k, row in enumerate(allowed, first_k):
            verdicts[row][grant] = struct.pack(">BQ", 1, k)
        for first, end in deferred:
            for row in range(first, end):
                verdicts[row][grant] = b"\x03"
    for grant, reason, first, end in section["withheld"]:
        for row in range(first, end):
            verdicts[row][grant] = bytes((2, reason))
    start = string(section["dataset"]) + string(section["loading"])
    return [
        start
        + struct.pack(">Q", section["offsets"][row])
        + string(section["publishers"][row])
        + bytes((section["operations"][row], section["refusals"][row]))
        + section["digests"][32 * row : 32 * row + 32]
        + struct.pack(">H", len(verdicts[row]))
        + b"".join(string(grant) + verdicts[row][grant] for grant in sorted(verdicts[row]))
        for row in range(section["rows"])
    ]


def row_root(body: dict) -> bytes:
    rows = [row for section in body["inputs"] for row in row_bytes(section)]
    salts = row_salts(body["salt"], len(rows))
    return tree_root(sha(b"\x00", salt, row) for salt, row in zip(salts, rows))


def counts_of(body: dict):
    sections = body["inputs"]
    return (
        len(sections),
        sum(s["rows"] for s in sections),
        sum(1 for s in sections for each in s["refusals"] if each),
        sum(column[2] for s in sections for column in s["grants"]),
        sum(end - first for s in sections for column in s["grants"] for first, end in column[5]),
    )


# ---------------------------------------------------------------- files of a copy
def frames(path: str, parts: int):
    name = "/".join(path.split(os.sep)[-2:])
    try:
        stream = open(path, "rb")
    except OSError:
        raise Bad(f"{name}: the file is missing")
    with stream:
        number = 0
        while True:
            found = []
            for at in range(parts):
                head = stream.read(4)
                if not head and at == 0:
                    return
                size = int.from_bytes(head, "big")
                if head == b"\xff\xff\xff\xff":
                    found.append(None)
                    continue
                data = stream.read(size) if len(head) == 4 and size <= MAX_PART else b""
                if len(head) != 4 or len(data) != size:
                    raise Bad(f"{name}: cut off or damaged in record {number}")
                found.append(data)
            yield tuple(found)
            number += 1


def numbered(index: int, width: int) -> str:
    name = f"{index % 1000:03d}"
    while index >= 1000:
        index //= 1000
        name = f"x{index % 1000:03d}/{name}"
    return name if width == 256 else f"{name}.p/{width}"


class Tree:
    """The stored files of one tree."""

    def __init__(self, directory: str):
        self.directory = directory

    def read(self, name: str):
        try:
            with open(os.path.join(self.directory, name), "rb") as stream:
                return stream.read()
        except OSError:
            return None

    def part(self, start: str, index: int, width: int, cut) -> list:
        """The first `width` hashes or leaves, from the full file or the partial one."""
        for there in (256, width):
            data = self.read(f"{start}/{numbered(index, there)}")
            if data is not None:
                found = cut(data)
                if len(found) != there:
                    raise Bad(f"{start}/{index} does not hold {there}")
                return found[:width]
        raise Bad(f"{start}/{index} is missing")

    def tile(self, level: int, index: int, width: int) -> list:
        def cut(data):
            if len(data) % 32:
                raise Bad(f"tile/{level}/{index} is cut off")
            return [data[at : at + 32] for at in range(0, len(data), 32)]

        return self.part(f"tile/{level}", index, width, cut)

    def bundle(self, index: int, width: int) -> list:
        def cut(data):
            found, at = [], 0
            while at < len(data):
                end = at + 2 + int.from_bytes(data[at : at + 2], "big")
                if end > len(data):
                    raise Bad("a bundle of entries is cut off")
                found.append(data[at + 2 : end])
                at = end
            return found

        return self.part("tile/entries", index, width, cut)

    def checkpoint(self) -> bytes:
        found = self.read("checkpoint")
        if found is None:
            raise Bad("there is no checkpoint")
        return found


class Grown:
    """A tree that grows leaf by leaf, beside what was signed and stored of it.

    A leaf that is not known (None) makes it blind: from then on leaves are only counted.
    """

    def __init__(self, check, topic: str, number: int):
        self.check, self.origin = check, check.origin(topic, number)
        self.heads = check.heads.get(self.origin, {})
        self.largest, self.covered = max(self.heads, default=0), 0
        directory = check.path("trees", topic, str(number))
        self.tree = Tree(directory) if os.path.isdir(directory) else None
        self.stored, self.bundle = 0, (-1, [])
        if self.tree is not None:
            try:
                self.stored = parse_checkpoint(parse_note(self.tree.checkpoint())[0])[1]
            except Bad:
                pass  # told where checkpoints are judged
        self.growing, self.leaves, self.unknown = Growing(), [], 0

    @property
    def size(self) -> int:
        return self.growing.size + self.unknown

    @property
    def compared(self) -> bool:
        """Whether there is anything to hold the next leaf against."""
        return not self.unknown and self.size < max(self.stored, self.largest)

    def add(self, leaf):
        if leaf is None or self.unknown:
            self.unknown += 1
            return
        if len(self.leaves) < self.stored:
            self.leaves.append(leaf)
        self.growing.add(leaf)
        known = self.heads.get(self.growing.size)
        if known is not None:
            self.covered = self.growing.size
            self.check.compare(self.origin, self.growing.size, known, self.growing.root())

    def entry(self, index: int):
        """The stored leaf, None if there is none."""
        if self.tree is None or index >= self.stored:
            return None
        number, place = divmod(index, 256)
        if self.bundle[0] != number:
            try:
                found = self.tree.bundle(number, min(256, self.stored - 256 * number))
            except Bad:
                found = []  # the check of the tree's files tells of it
            self.bundle = number, found
        return self.bundle[1][place] if place < len(self.bundle[1]) else None

    def skip(self, leaves: int):
        """The first leaves are past their term: taken from the stored entries, or unknown."""
        for index in range(min(leaves, self.stored)):
            found = self.entry(index)
            if found is None:
                break
            self.add(leaf_hash(found))
        while self.size < min(leaves, self.largest + 1):
            self.add(None)


# ---------------------------------------------------------------- verification of a copy
class CopyCheck:
    """Collects what is wrong: (code, text)."""

    def __init__(self, directory: str, trust: Trust, level: int):
        self.directory, self.trust, self.level = directory, trust, level
        self.wrong, self.checked, self.unchecked = [], [], []
        with open(os.path.join(directory, "copy.json"), "rb") as stream:
            about = load_json(stream.read())
        if (
            set(about) != {"format", "cluster", "lanes", "late"}
            or about["format"] != "shutong-copy-v1"
        ):
            raise Bad("this is no shutong-copy-v1 directory")
        self.lanes, self.late = about["lanes"], set(about["late"])
        if type(self.lanes) is not int or not 1 <= self.lanes <= 1024:
            raise Bad("copy.json: lanes is no number from 1 to 1024")
        self.heads = {}  # origin -> size -> (root, whence)
        self.lists, self.ends, self.chains = {}, {}, {}
        self.no_body = self.blocks = self.rows = self.events = self.agreed = self.records = (
            self.receipts
        ) = 0
        self.processes = {}
        if about["cluster"] != trust.cluster:
            self.bad(
                "place", f"the copy is of {about['cluster']}, the trust bundle of {trust.cluster}"
            )
            self.lanes = 0

    def bad(self, code: str, text: str):
        self.wrong.append((code, text))

    def path(self, *names: str) -> str:
        return os.path.join(self.directory, *names)

    def guarded(self, source):
        try:
            yield from source
        except Bad as error:
            self.bad("copy", str(error))

    def tree(self, topic: str, number: int):
        directory = self.path("trees", topic, str(number))
        return Tree(directory) if os.path.isdir(directory) else None

    def origin(self, topic: str, number: int) -> str:
        return f"{self.trust.cluster}/{topic}/{number}"

    def run(self, known):
        if not self.lanes:
            return
        self.rotations()
        for note in known:
            origin = parse_note(note)[0].split("\n")[0]
            self.add_head(origin, note, "known")
        self.topic_checkpoints()
        for topic in ("audit", "access"):
            for number in range(self.lanes):
                tree = self.tree(topic, number)
                if tree is not None:
                    try:
                        self.add_head(self.origin(topic, number), tree.checkpoint(), "trees")
                    except Bad as error:
                        self.bad("checkpoint", f"trees/{topic}/{number}/checkpoint: {error}")
        for origin, sizes in sorted(self.heads.items()):
            if int(origin.rpartition("/")[2]) >= self.lanes and max(sizes) > 0:
                self.bad("missing", f"{origin}: signed with {max(sizes)} leaves, it is not here")
        for lane in range(self.lanes):
            self.lane(lane)
        for number in range(self.lanes):
            self.access(number)
        if self.level > 1:
            self.deliveries()
        self.tell(known)

    def rotations(self):
        """Keys that rotation records lead to, before anything is held against them."""
        try:
            for number, (key, value) in enumerate(frames(self.path("checkpoints.records"), 2)):
                if key == f"{self.trust.cluster}/rotation".encode():
                    try:
                        self.trust.rotate(value or b"")
                    except Bad as error:
                        self.bad("rotation", f"record {number} of checkpoints: {error}")
        except Bad:
            pass  # told when the file is read again

    def add_head(self, origin: str, note: bytes, whence: str) -> int:
        size, root, _ = self.trust.accept(note, origin)
        before = self.heads.setdefault(origin, {}).setdefault(size, (root, whence))
        if before[0] != root:
            self.bad(
                "fork", f"{origin}: two checkpoints of {size} leaves, in {before[1]} and {whence}"
            )
        return size

    def topic_checkpoints(self):
        last = {}
        source = frames(self.path("checkpoints.records"), 2)
        for number, (key, value) in enumerate(self.guarded(source)):
            origin = (key or b"").decode("utf-8", "replace")
            if origin == f"{self.trust.cluster}/rotation":
                continue
            try:
                size = self.add_head(origin, value or b"", "checkpoints")
            except Bad as error:
                self.bad("checkpoint", f"record {number} of checkpoints: {error}")
                continue
            if size < last.get(origin, 0):
                self.bad("checkpoint-back", f"{origin} steps back to {size} leaves")
            last[origin] = max(size, last.get(origin, 0))

    # -- a tree against its checkpoints and files
    def compare(self, origin: str, size: int, known, root: bytes):
        if known[0] == root:
            self.agreed += 1
        else:
            self.bad(
                "root", f"{origin}: the first {size} leaves are not those that {known[1]} signed"
            )

    def finish_tree(self, grown: Grown):
        origin, size = grown.origin, grown.size
        if 0 in grown.heads:
            self.compare(origin, 0, grown.heads[0], sha(b""))
        if grown.largest > size:
            self.bad("missing", f"{origin}: signed with {grown.largest} leaves, here are {size}")
        if size > grown.covered:
            self.unchecked.append(
                f"{size - grown.covered} leaves of {origin} against a signed checkpoint"
            )
        if grown.tree is not None:
            self.files(origin, grown.tree, grown.leaves[: grown.stored])

    def files(self, origin: str, tree: Tree, leaves: list):
        level, hashes = 0, leaves
        while hashes:
            for index in range(-(-len(hashes) // 256)):
                wanted = hashes[256 * index : 256 * index + 256]
                try:
                    if tree.tile(level, index, len(wanted)) != wanted:
                        self.bad(
                            "tile", f"{origin}: tile/{level}/{index} is not that of the records"
                        )
                    if level == 0:
                        stored = [leaf_hash(each) for each in tree.bundle(index, len(wanted))]
                        if stored != wanted:
                            self.bad(
                                "entry", f"{origin}: tile/entries/{index} differs from the records"
                            )
                except Bad as error:
                    self.bad("tile", f"{origin}: {error}")
            full = range(0, len(hashes) - 255, 256)
            level, hashes = level + 1, [tree_root(hashes[at : at + 256]) for at in full]

    # -- lanes
    def lane(self, lane: int):
        grown, first = Grown(self, "audit", lane), True
        state = {"sequence": 0, "hash": bytes(32), "list": 0, "whole": True}
        state.update(next={}, grants={})
        for header, body in self.guarded(frames(self.path("audit", f"{lane}.blocks"), 2)):
            header = header or b""
            if first and f"audit/{lane}" in self.late:
                self.begin_late(lane, header, state, grown)
            first = False
            parsed = self.block(lane, header, body, state)
            if not grown.compared:
                grown.add(None)
                continue
            root = row_root(parsed) if parsed is not None and self.level > 1 else None
            if root is None:
                entry = grown.entry(grown.size)
                root = None if entry is None or len(entry) <= 32 else entry[-32:]
            if root is None and parsed is not None:
                root = row_root(parsed)
            grown.add(None if root is None else leaf_hash(header + root))
        self.finish_tree(grown)

    def begin_late(self, lane, header, state, grown):
        self.unchecked.append(f"blocks of audit/{lane} before the copy")
        try:
            head = parse_header(header)
        except Bad:
            return
        if head["sequence"] > 1:
            state["whole"] = False
            state["sequence"], state["hash"] = head["sequence"] - 1, head["previous"]
            grown.skip(head["sequence"] - 1)

    def block(self, lane: int, header: bytes, body, state):
        """Checks one block; its body, where there is one that can be read."""
        self.blocks += 1
        try:
            head = parse_header(header)
        except Bad as error:
            self.bad("header", f"lane {lane} block {state['sequence'] + 1}: {error}")
            state.update(sequence=state["sequence"] + 1, hash=sha(header))
            self.forget(state)
            return None
        where = f"lane {lane} block {head['sequence']}"
        if (head["cluster"], head["lane"]) != (self.trust.cluster, lane):
            self.bad("place", f"{where}: of another bus or lane")
        if head["sequence"] != state["sequence"] + 1:
            self.bad("sequence", f"{where}: {state['sequence'] + 1} expected")
        elif head["previous"] != state["hash"]:
            self.bad("previous", f"{where}: does not follow the block before")
        if head["list"] < state["list"]:
            self.bad("list-back", f"{where}: list {head['list']} after {state['list']}")
        if self.lists.setdefault(head["list"], head["list_digest"]) != head["list_digest"]:
            self.bad("list-digest", f"{where}: another digest of list {head['list']}")
        state.update(
            sequence=head["sequence"], hash=sha(header), list=max(state["list"], head["list"])
        )
        self.rows += head["counts"][1]
        if body is None:
            self.no_body += 1
            self.forget(state)
            return None
        return self.body(where, head, body, state, lane)

    @staticmethod
    def forget(state):
        """Where inputs and grants stand is taken up again from the next body."""
        state.update(next={}, grants={}, whole=False)

    def body(self, where: str, head: dict, data: bytes, state, lane: int):
        if len(data) != head["body_length"] or sha(data) != head["body_hash"]:
            self.bad("body-hash", f"{where}: the body differs from its hash")
            self.forget(state)
            return None
        try:
            body = parse_body(data)
        except Bad as error:
            self.bad("body", f"{where}: {error}")
            self.forget(state)
            return None
        if counts_of(body) != head["counts"] or (body["exposed"] and not head["flags"] & 1):
            self.bad("body", f"{where}: counts or flags differ from the body")
        for section in body["inputs"]:
            cursor = (section["dataset"], section["loading"])
            expected = state["next"].get(cursor)
            if expected is not None and section["first"] != expected and not section["loading"]:
                self.bad("input", f"{where}: {section['dataset']} goes on at {section['first']}")
            state["next"][cursor] = section["next"]
            for column in section["grants"]:
                self.column(where, column, state, lane)
        return body

    def column(self, where: str, column, state, lane: int):
        grant, first_k, count, chain = column[:4]
        before = state["grants"].get(grant)
        if before is None and state["whole"]:
            before = (0, self.genesis(grant, lane))
        if before is not None:
            if first_k != before[0] + 1:
                self.bad("grant-sequence", f"{where}: {grant} goes on at {first_k}")
            elif (count == 0) != (chain == before[1]):
                self.bad("grant-chain", f"{where}: {grant}: chain and count disagree")
        state["grants"][grant] = (first_k + count - 1, chain)
        if count:
            self.ends.setdefault((grant, lane), {})[first_k + count - 1] = chain

    def genesis(self, grant: str, lane: int) -> bytes:
        tag = string("shutong-delivery-v1")
        return sha(tag, string(self.trust.cluster), string(grant), struct.pack(">I", lane))

    # -- access events
    def access(self, number: int):
        name, grown = f"access/{number}", Grown(self, "access", number)
        late = name in self.late
        if late:
            self.unchecked.append(f"events of {name} before the copy")
        source = frames(self.path("access", f"{number}.events"), 1)
        for place, (event,) in enumerate(self.guarded(source)):
            event = event or b""
            if late and place == 0:
                self.begin_late_events(name, sha(event), grown)
            try:
                process, sequence, previous = parse_event(event)
                before = self.processes.get(process, (0, bytes(32)))
                new = late and process not in self.processes
                if (sequence, previous) != (before[0] + 1, before[1]) and not new:
                    self.bad("access", f"event {place} of {name}: does not follow the one before")
                self.processes[process] = (sequence, sha(event))
            except Bad as error:
                self.bad("access", f"event {place} of {name}: {error}")
            grown.add(leaf_hash(sha(event)))
            self.events += 1
        self.finish_tree(grown)

    def begin_late_events(self, name, first, grown):
        place = next((n for n in range(grown.stored) if grown.entry(n) == first), None)
        if place is not None:
            grown.skip(place)
        elif grown.stored:
            self.bad("missing", f"{name}: the first event kept is not in the signed tree")
        else:
            grown.add(None)

    # -- deliveries and receipts
    def deliveries(self):
        waiting = self.read_receipts()
        self.sorted_ends = {name: sorted(ends) for name, ends in self.ends.items()}
        root = self.path("delivery")
        there = {}
        for grant in sorted(os.listdir(root)) if os.path.isdir(root) else ():
            for name in os.listdir(os.path.join(root, grant)):
                if re.fullmatch(r"(0|[1-9][0-9]*)\.records", name, re.ASCII) and ID.fullmatch(
                    grant
                ):
                    there.setdefault(grant, []).append(int(name[:-8]))
        for grant in sorted({grant for grant, _ in self.ends} - there.keys()):
            self.bad("no-topic", f"{grant}: no delivery file")
        for grant, numbers in sorted(there.items()):
            for number in sorted(numbers):
                lanes = [lane for lane in range(self.lanes) if lane % len(numbers) == number]
                self.partition(grant, number, lanes, waiting)
        for (grant, lane), by_k in sorted(waiting.items()):
            placed = max(self.ends.get((grant, lane), {0: b""}))
            late = any(name.startswith(f"delivery/{grant}/") for name in self.late)
            for k, chains in sorted(by_k.items()):
                if chains and not (late and k <= placed):
                    self.bad(
                        "receipt-chain", f"{grant} lane {lane}: signed for {k}, placed {placed}"
                    )
                elif chains:
                    self.unchecked.append(f"receipts of {grant} for records past their term")

    def read_receipts(self):
        waiting, unsigned, territories = {}, 0, 0
        source = frames(self.path("receipts.records"), 1)
        for number, (stored,) in enumerate(self.guarded(source)):
            if not stored:
                continue
            try:
                body, signed = parse_receipt(stored, self.trust)
                if body["cluster"] != self.trust.cluster:
                    raise Bad("of another bus")
            except Bad as error:
                self.bad("receipt", f"receipt {number}: {error}")
                continue
            self.receipts += 1
            unsigned += not signed
            if "territory" in body:
                territories += 1
                continue
            ends = waiting.setdefault((body["grant"], body["lane"]), {})
            ends.setdefault(body["to"], []).append(body["chain"])
        if unsigned:
            self.unchecked.append(
                f"signatures of {unsigned} receipts: no key of these agencies given"
            )
        if territories:
            self.unchecked.append(f"{territories} receipts of class grants")
        return waiting

    def partition(self, grant: str, number: int, lanes, waiting):
        late = f"delivery/{grant}/{number}" in self.late
        if late:
            self.unchecked.append(f"records of {grant}/{number} before the copy")
        at = {} if late else {lane: (0, self.genesis(grant, lane)) for lane in lanes}
        segment, outside = None, late
        path = self.path("delivery", grant, f"{number}.records")
        for offset, (mark, key, value) in enumerate(self.guarded(frames(path, 3))):
            self.records += 1
            if mark is not None:
                self.close(grant, segment, at, waiting)
                segment, outside = self.open(grant, offset, mark, lanes, at, late), False
            elif segment is None and not outside:
                self.bad("delivery-outside", f"{grant} offset {offset}: belongs to no segment")
            if segment is not None:
                segment[2] += 1
                for part in (key, value):
                    size = 0xFFFFFFFF if part is None else len(part)
                    segment[3].update(struct.pack(">I", size) + (part or b""))
        self.close(grant, segment, at, waiting)
        for lane in lanes:
            placed = max(self.ends.get((grant, lane), {0: b""}))
            if placed > at.get(lane, (0,))[0] and not (late and lane not in at):
                self.bad(
                    "count", f"{grant} lane {lane}: the audit has {placed}, here are {at[lane][0]}"
                )

    def open(self, grant, offset, mark, lanes, at, late):
        try:
            version, lane, k, chain = struct.unpack(">BIQ32s", mark)
            if version != 1 or k < 1:
                raise Bad("")
        except (struct.error, Bad):
            self.bad("delivery-malformed", f"{grant} offset {offset}: the segment header is wrong")
            return None
        if lane not in lanes:
            self.bad("lane", f"{grant} offset {offset}: lane {lane} does not write here")
        before = at.get(lane)
        if before is None:
            before = (k - 1, chain) if late and k != 1 else (0, self.genesis(grant, lane))
        if k != before[0] + 1:
            self.bad(
                "delivery-sequence", f"{grant} lane {lane}: record {k}, {before[0] + 1} expected"
            )
        elif chain != before[1]:
            self.bad("delivery-chain", f"{grant} lane {lane}: a record before {k} was altered")
        return [lane, k, 0, hashlib.sha256(chain)]

    def close(self, grant, segment, at, waiting):
        if segment is None:
            return
        lane, first, count, running = segment
        last, chain = first + count - 1, running.digest()
        at[lane] = (last, chain)
        ends, ks = self.ends.get((grant, lane), {}), self.sorted_ends.get((grant, lane), [])
        at_end = bisect.bisect_left(ks, first)  # the first block that ends here or later
        inside = ks[at_end] if at_end < len(ks) and ks[at_end] <= last else None
        if last > (ks[-1] if ks else 0):
            self.bad("unaudited", f"{grant} lane {lane}: record {last} is not in the audit")
        if inside is not None and (inside != last or ends[last] != chain):
            self.bad("delivery-audit", f"{grant} lane {lane}: not the records audited up to {last}")
        for claimed in waiting.get((grant, lane), {}).pop(last, ()):
            if claimed != chain.hex():
                self.bad("receipt-chain", f"{grant} lane {lane}: the receipt up to {last} differs")

    def tell(self, known):
        self.checked.append(
            f"level 1: {self.lanes} lanes, {self.blocks} blocks, {self.rows} rows, {self.events} access"
            f" events; trees agree with signed checkpoints at {self.agreed} places"
        )
        if self.level > 1:
            self.checked.append(
                f"level 2: row roots, {self.records} placed records, {self.receipts} receipts"
            )
        else:
            self.unchecked.append("level 2: row roots, deliveries, receipts")
        if self.no_body:
            self.unchecked.append(f"{self.no_body} bodies that were not kept")
        if not known:
            self.unchecked.append(
                "checkpoints kept elsewhere (--known): an old snapshot looks healthy"
            )
        self.unchecked.append("input records against the row digests")


def varint(data: bytes, at: int):
    number = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise Bad("a number of an event is wrong")
        byte = data[at]
        number, at, shift = number | (byte & 127) << shift, at + 1, shift + 7
        if byte < 128:
            if byte == 0 and shift > 7:
                raise Bad("a number of an event is not in its shortest form")
            return (number >> 1) ^ -(number & 1), at


# CRC-64-AVRO of the schema's parsing canonical form, little-endian (docs/formats/wire.md).
EVENT_START = b"\xc3\x01"


def parse_event(data: bytes):
    """(process, sequence, previous) of an access event."""
    if data[:2] != EVENT_START or len(data) < 12:
        raise Bad("not an event in single-object encoding")
    if data[2:10] != event_mark():
        raise Bad("an event of another schema")
    at, texts, numbers = 10, [], []

    def text(at):
        size, at = varint(data, at)
        if size < 0 or at + size > len(data):
            raise Bad("a text of an event is cut off")
        try:
            texts.append(data[at : at + size].decode())
        except UnicodeDecodeError:
            raise Bad("a text of an event is not UTF-8")
        return at + size

    at = text(at)
    number, at = varint(data, at)
    numbers.append(number)
    previous, at = data[at : at + 32], at + 32
    number, at = varint(data, at)  # at_ms
    numbers.append(number)
    for _ in range(4):  # service, actor, action, target
        at = text(at)
    number, at = varint(data, at)  # reason
    numbers.append(number)
    at = text(at)  # detail
    if at != len(data) or len(previous) != 32 or min(numbers) < 0:
        raise Bad("an event is not in its one form")
    return texts[0], numbers[0], previous


EVENT_SCHEMA = (
    '{"name":"cn.shutong.bus.AccessEvent","type":"record","fields":['
    '{"name":"process","type":"string"},{"name":"sequence","type":"long"},'
    '{"name":"previous","type":{"name":"cn.shutong.bus.Hash","type":"fixed","size":32}},'
    '{"name":"at_ms","type":"long"},{"name":"service","type":"string"},'
    '{"name":"actor","type":"string"},{"name":"action","type":"string"},'
    '{"name":"target","type":"string"},{"name":"reason","type":"int"},'
    '{"name":"detail","type":"string"}]}'
)


@functools.cache
def event_mark() -> bytes:
    """The CRC-64-AVRO fingerprint of the event's schema (Avro 1.12, "Schema Fingerprints")."""
    empty = found = 0xC15D213AA4D7A795
    for byte in EVENT_SCHEMA.encode():
        found ^= byte
        for _ in range(8):
            found = found >> 1 ^ (empty if found & 1 else 0)
    return found.to_bytes(8, "little")


def canonical(value) -> bytes:
    """RFC 8785 for what receipts hold: objects of ASCII names, texts, small integers."""
    return json.dumps(value, separators=(",", ":"), sort_keys=True, ensure_ascii=False).encode()


RECEIPT = {"kind", "cluster", "grant", "lane", "from", "to", "chain", "agency", "at_ms"}


def parse_receipt(data: bytes, trust: Trust):
    """(body, whether its signature was checked)."""
    if len(data) > 64 * 1024:
        raise Bad("a receipt is too long")
    whole = load_json(data)
    if set(whole) != {"body", "key", "signature"} or canonical(whole) != data:
        raise Bad("not exactly body, key, signature in RFC 8785 form")
    body = whole["body"]
    if not isinstance(body, dict) or set(body) - {"territory"} != RECEIPT:
        raise Bad("not the members of a delivery receipt")
    texts = all(
        isinstance(body[each], str) for each in ("kind", "cluster", "grant", "chain", "agency")
    )
    numbers = all(
        type(body[each]) is int and body[each] >= 0 for each in ("lane", "from", "to", "at_ms")
    )
    if (
        not texts
        or not numbers
        or body["kind"] != "delivery"
        or not 1 <= body["from"] <= body["to"]
    ):
        raise Bad("a member of the receipt is wrong")
    if not re.fullmatch(r"[0-9a-f]{64}", body["chain"]) or not ID.fullmatch(body["grant"]):
        raise Bad("a member of the receipt is wrong")
    small = all(body[each] < 2**53 for each in ("lane", "from", "to", "at_ms"))
    if not small or not 1 <= len(body["cluster"]) <= 255 or not 1 <= len(body["agency"]) <= 255:
        raise Bad("a member of the receipt is too large")
    if "territory" in body and not re.fullmatch(r"[0-9]{12}(@self)?", str(body["territory"])):
        raise Bad("a territory is no code")
    signature = b64(whole["signature"], 64)
    if not isinstance(whole["key"], str):
        raise Bad("the key of a receipt is no text")
    name, _, mark = whole["key"].rpartition("/")
    organisation = body["agency"].partition("/")[0]
    if name != f"agency/{organisation}":
        raise Bad("signed by a key of another organisation")
    keys = trust.agencies.get(organisation)
    if keys is None:
        return body, False
    for public in keys:
        if sha(public).hex()[:16] == mark and ed25519_holds(public, canonical(body), signature):
            return body, True
    raise Bad("the signature does not hold")


# ---------------------------------------------------------------- proof of one record
FATES = {1: "placed", 2: "not placed", 3: "deferred"}


def check_proof(data: bytes, trust: Trust) -> list:
    """Sentences of what the proof proves, or Bad."""
    table = load_json(data)
    if set(table) != {"format", "checkpoint", "header", "tree_path", "row"}:
        raise Bad("not the fields of a proof")
    row = table["row"]
    if table["format"] != "shutong-proof-v1" or not isinstance(row, dict):
        raise Bad("this is no shutong-proof-v1 file")
    if set(row) != {"bytes", "salt", "index", "rows", "path"} or not isinstance(
        table["checkpoint"], str
    ):
        raise Bad("not the fields of a proof")
    if any(type(row[each]) is not int for each in ("index", "rows")):
        raise Bad("index and rows are numbers")
    note = table["checkpoint"].encode("utf-8", "replace")
    origin = parse_note(note)[0].split("\n")[0]
    size, root, names = trust.accept(note, origin)
    header_bytes = b64(table["header"])
    head = parse_header(header_bytes)
    if origin != f"{head['cluster']}/audit/{head['lane']}":
        raise Bad("the block is of another bus or lane than the checkpoint")
    if row["rows"] != head["counts"][1]:
        raise Bad(f"the block has {head['counts'][1]} rows, the proof speaks of {row['rows']}")
    path = [b64(each, 32) for each in row["path"]]
    leaf = sha(b"\x00", b64(row["salt"], 16), b64(row["bytes"]))
    rows_root = root_by_path(row["index"], row["rows"], leaf, path)
    path = [b64(each, 32) for each in table["tree_path"]]
    found = root_by_path(head["sequence"] - 1, size, leaf_hash(header_bytes + rows_root), path)
    if found != root:
        raise Bad("row and block are not in the tree of the checkpoint")
    said = [
        f"block {head['sequence']} of lane {head['lane']} of {head['cluster']}, in a signed checkpoint of"
        f" {size} blocks" + (f", cosigned by {', '.join(names)}" if names else ""),
        f"decided at {head['decided_ms']} ms by list {head['list']} ({head['list_digest'].hex()})",
    ]
    return said + row_sentences(b64(row["bytes"]))


def row_sentences(data: bytes) -> list:
    r = In(data)
    dataset, loading, offset, publisher = r.id(), r.text(), r.get("Q"), r.text()
    _operation, refusal = r.get("BB")
    r.raw(32)
    said = [
        f"dataset {dataset}, input offset {offset}, publisher {publisher or 'unknown'}{loading and ' loading ' + loading}"
    ]
    if refusal:
        said.append(f"the record was refused, reason {refusal}")
    for _ in range(r.get("H")):
        grant, fate = r.id(), r.get("B")
        if fate not in FATES:
            raise Bad("unknown verdict")
        more = (
            f" as record {r.get('Q')}"
            if fate == 1
            else f", reason {r.get('B')}"
            if fate == 2
            else ""
        )
        said.append(f"grant {grant}: {FATES[fate]}{more}")
    r.end()
    return said


# ---------------------------------------------------------------- command
CANNOT_BE_READ = (Bad, OSError, KeyError, TypeError, AttributeError, ValueError)


def read(path: str) -> bytes:
    try:
        with open(path, "rb") as stream:
            return stream.read()
    except OSError as error:
        raise Bad(f"{path}: {error.strerror}")


def verify_copy(directory: str, trust: bytes, known=(), level: int = 2) -> CopyCheck:
    """All that is wrong with the copy."""
    check = CopyCheck(directory, Trust(trust), level)
    check.run(list(known))
    return check


def main(arguments=None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    copy = commands.add_parser("copy", help="verify an audit copy")
    copy.add_argument("directory")
    copy.add_argument("--known", action="append", default=[], help="a checkpoint kept elsewhere")
    copy.add_argument("--level", type=int, choices=(1, 2), default=2)
    proof = commands.add_parser("proof", help="check the proof of one record")
    proof.add_argument("file")
    for each in (copy, proof):
        each.add_argument("--trust", required=True, help="the trust bundle")
    asked = parser.parse_args(arguments)
    try:
        trust = read(asked.trust)
        if asked.command == "proof":
            try:
                for line in check_proof(read(asked.file), Trust(trust)):
                    print(f"  ok  {line}")
            except Bad as error:
                print(f"The proof does NOT hold: {error}")
                return 1
            return 0
        known = [read(path) for path in asked.known]
        check = verify_copy(asked.directory, trust, known, asked.level)
    except CANNOT_BE_READ as error:
        print(f"cannot be read: {error}", file=sys.stderr)
        return 2
    print(f"NOT verified: {len(check.wrong)} finding(s)" if check.wrong else "Verified.")
    for code, text in check.wrong[:100]:
        print(f"  wrong [{code}] {text}")
    for text in check.checked:
        print(f"  ok    {text}")
    for text in check.unchecked:
        print(f"  not checked: {text}")
    return 1 if check.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
