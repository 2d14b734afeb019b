"""The published vectors, read by a second implementation that follows the written page alone.

Nothing of the product's audit code is used to read them here.
"""

from __future__ import annotations

import base64
import hashlib
import json
import struct
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

import make_audit_vectors

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "formats" / "vectors"


def _load(name: str):
    return json.loads((FOLDER / f"audit-{name}.json").read_text(encoding="utf-8"))


def _sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _s(text: str) -> bytes:
    return struct.pack(">I", len(text.encode())) + text.encode()


class _In:
    """Reads struct formats off the front."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def get(self, form: str):
        found = struct.unpack_from(">" + form, self.data, self.at)
        self.at += struct.calcsize(">" + form)
        return found[0] if len(found) == 1 else found

    def raw(self, size: int) -> bytes:
        self.at += size
        assert self.at <= len(self.data)
        return self.data[self.at - size : self.at]

    def text(self) -> str:
        return self.raw(self.get("I")).decode()


@pytest.mark.parametrize("name", sorted(make_audit_vectors.VECTORS))
def test_the_committed_vectors_are_what_the_product_makes(name: str):
    committed = (FOLDER / f"audit-{name}.json").read_text(encoding="utf-8")
    assert committed == make_audit_vectors.text(name)


def _header(data: bytes):
    reader = _In(data)
    assert reader.get("B") == 1
    says = {"cluster": reader.text(), "lane": reader.get("I"), "sequence": reader.get("Q")}
    says["previous"] = reader.raw(32).hex()
    says["list_number"], says["list_digest"] = reader.get("Q"), reader.raw(32).hex()
    says["engine"], says["decided_ms"] = reader.text(), reader.get("Q")
    says["division_digest"], says["instance"] = reader.raw(32).hex(), reader.raw(16).hex()
    says["flags"] = reader.get("I")
    says["counts"] = list(reader.get("IIIQQ"))
    length, digest = reader.get("I"), reader.raw(32)
    assert reader.at == len(data)
    return says, length, digest


def _body(data: bytes):
    reader = _In(data)
    says = {"salt": reader.raw(16).hex()}
    publishers = [reader.text() for _ in range(reader.get("H"))]
    grants = [reader.text() for _ in range(reader.get("H"))]
    says["exposed"] = [reader.text() for _ in range(reader.get("H"))]
    says["inputs"] = [_input(reader, publishers, grants) for _ in range(reader.get("H"))]
    assert reader.at == len(data)
    return says


def _input(reader: _In, publishers: list[str], grants: list[str]):
    says = {"dataset": reader.text(), "loading": reader.text()}
    says["first"], says["next"], rows = reader.get("QQI")
    offsets = [says["first"] + reader.get("I") for _ in range(rows)]
    names = [publishers[reader.get("H")] for _ in range(rows)]
    operations, refusals = reader.raw(rows), reader.raw(rows)
    digests = [reader.raw(32).hex() for _ in range(rows)]
    counts = reader.raw(rows)
    tokens = [[reader.raw(16).hex() for _ in range(count)] for count in counts]
    present = reader.raw((rows + 7) // 8)
    ids = [reader.raw(8).hex() if _bit(present, row) else None for row in range(rows)]
    says["rows"] = [
        {
            "offset": offsets[row],
            "publisher": names[row],
            "digest": digests[row],
            "tokens": tokens[row],
            "id_hash": ids[row],
            "operation": operations[row],
            "refusal": refusals[row],
        }
        for row in range(rows)
    ]
    says["grants"] = [_column(reader, grants, rows) for _ in range(reader.get("H"))]
    says["withheld"] = []
    for _ in range(reader.get("I")):
        grant, reason, first, end = reader.get("HBII")
        says["withheld"].append([grants[grant], reason, first, end])
    return says


def _column(reader: _In, grants: list[str], rows: int):
    grant, first_k, count, size = reader.get("HQIQ")
    chain = reader.raw(32).hex()
    allowed = reader.raw((rows + 7) // 8)
    return {
        "grant": grants[grant],
        "first_k": first_k,
        "count": count,
        "placed_bytes": size,
        "chain_after": chain,
        "allowed_rows": [row for row in range(rows) if _bit(allowed, row)],
        "deferred": [list(reader.get("II")) for _ in range(reader.get("I"))],
    }


def _bit(bitmap: bytes, row: int) -> bool:
    return bool(bitmap[row // 8] & (1 << (row % 8)))


def test_blocks_say_what_the_page_says_they_say():
    vectors = _load("block")
    previous = bytes(32).hex()
    for block in vectors["blocks"]:
        header, body = bytes.fromhex(block["header"]), bytes.fromhex(block["body"])
        says, length, digest = _header(header)
        assert says | _body(body) == block["says"]
        assert (length, digest.hex()) == (len(body), _sha(body))
        assert says["previous"] == previous
        previous = block["header_hash"]
        assert previous == _sha(header)
    assert vectors["head"] == {"sequence": len(vectors["blocks"]), "header_hash": previous}


def _linked(chain: bytes, records) -> bytes:
    whole = hashlib.sha256(chain)
    for record in records:
        for part in record:
            if part is None:
                whole.update(b"\xff\xff\xff\xff")
            else:
                whole.update(struct.pack(">I", len(part) // 2) + bytes.fromhex(part))
    return whole.digest()


def test_chains_are_what_the_page_says():
    vectors = _load("chain")
    for each in vectors["genesis"]:
        data = _s("shutong-delivery-v1") + _s(each["cluster"]) + _s(each["grant"])
        assert each["c"] == _sha(data + struct.pack(">I", each["lane"]))
    each = vectors["territory_genesis"]
    data = _s("shutong-territory-v1") + _s(each["cluster"]) + _s(each["grant"])
    assert each["c"] == _sha(data + _s(each["territory"]) + struct.pack(">I", each["lane"]))
    each = vectors["extend"]
    assert _linked(bytes.fromhex(each["before"]), each["records"]).hex() == each["after"]
    each = vectors["segment"]
    packed = struct.pack(">BIQ32s", 1, each["lane"], each["k"], bytes.fromhex(each["chain"]))
    assert packed.hex() == each["header"]


def test_a_topic_leads_to_its_last_chain_value():
    topic = _load("chain")["topic"]
    data = _s("shutong-delivery-v1") + _s(topic["cluster"]) + _s(topic["grant"])
    chain, k, segment = hashlib.sha256(data + struct.pack(">I", 0)).digest(), 0, []
    for record in topic["records"]:
        if record["segment"] is not None:
            chain = _linked(chain, segment) if segment else chain
            segment = []
            version, lane, first, claimed = struct.unpack(
                ">BIQ32s", bytes.fromhex(record["segment"])
            )
            assert (version, lane, first, claimed) == (1, 0, k + 1, chain)
        segment.append((record["key"], record["value"]))
        k += 1
    assert (k, _linked(chain, segment).hex()) == (topic["k"], topic["chain"])


def test_digests_are_what_the_page_says():
    vectors = _load("digests")
    row = vectors["row_digest"]
    assert row["digest"] == _sha(bytes.fromhex(row["salt"]) + bytes.fromhex(row["body"]))
    each = vectors["id_hash"]
    made = hashlib.blake2b(
        _s(each["publisher"]) + _s(each["dataset"]) + _s(each["event_id"]),
        digest_size=8,
        key=bytes.fromhex(each["key"]),
        person=b"shutong-event-id",
    )
    assert made.hexdigest() == each["hash"]


def test_receipts_are_signed_over_their_body():
    vectors = _load("receipts")
    key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(vectors["public_key"]))
    for stored in vectors["stored"]:
        whole = json.loads(stored)
        # Member names and texts here are ASCII, numbers integers: this is RFC 8785 for them.
        body = json.dumps(whole["body"], separators=(",", ":"), sort_keys=True)
        key.verify(base64.b64decode(whole["signature"]), body.encode())
        assert json.dumps(whole, separators=(",", ":"), sort_keys=True) == stored


def test_access_events_hold_the_hash_of_the_one_before():
    previous = bytes(32)
    for sequence, each in enumerate(_load("access")["events"], 1):
        event = bytes.fromhex(each["event"])
        assert event[:2] == b"\xc3\x01"
        # process: 32 characters (zig-zag 64), then sequence, then the 32 bytes of `previous`
        assert event[10:12] == b"\x40a"
        assert event[43] == sequence * 2
        assert event[44:76] == previous
        previous = hashlib.sha256(event).digest()
        assert each["hash"] == previous.hex()


def _mth(hashes: list[bytes]) -> bytes:
    if len(hashes) == 1:
        return hashes[0]
    half = 1
    while half * 2 < len(hashes):
        half *= 2
    return hashlib.sha256(b"\x01" + _mth(hashes[:half]) + _mth(hashes[half:])).digest()


def _row_salts(salt: str, rows: int) -> list[bytes]:
    assert rows <= 510
    info = _s("shutong-row-salt-v1") + struct.pack(">I", 0)
    stream = HKDF(SHA256(), 255 * 32, None, info).derive(bytes.fromhex(salt))
    return [stream[16 * row : 16 * row + 16] for row in range(rows)]


def _rows(says) -> list[bytes]:
    """Rows of a block as the page on proofs encodes them, from what audit-block.json says."""
    found = []
    for section in says["inputs"]:
        for number, row in enumerate(section["rows"]):
            verdicts = {}
            for column in section["grants"]:
                if number in column["allowed_rows"]:
                    k = column["first_k"] + column["allowed_rows"].index(number)
                    verdicts[column["grant"]] = struct.pack(">BQ", 1, k)
                if any(first <= number < end for first, end in column["deferred"]):
                    verdicts[column["grant"]] = b"\x03"
            for grant, reason, first, end in section["withheld"]:
                if first <= number < end:
                    verdicts[grant] = bytes((2, reason))
            found.append(
                _s(section["dataset"])
                + _s(section["loading"])
                + struct.pack(">Q", row["offset"])
                + _s(row["publisher"])
                + bytes((row["operation"], row["refusal"]))
                + bytes.fromhex(row["digest"])
                + struct.pack(">H", len(verdicts))
                + b"".join(_s(grant) + verdicts[grant] for grant in sorted(verdicts))
            )
    return found


def test_trees_are_what_the_page_says():
    vectors, blocks = _load("trees"), _load("block")["blocks"]
    leaves = []
    for block, row_root in zip(blocks, vectors["row_roots"], strict=True):
        rows = _rows(block["says"])
        salts = _row_salts(block["says"]["salt"], len(rows))
        salted = [b"\x00" + salt + row for salt, row in zip(salts, rows, strict=True)]
        assert _mth([hashlib.sha256(each).digest() for each in salted]).hex() == row_root
        leaf = bytes.fromhex(block["header"]) + bytes.fromhex(row_root)
        leaves.append(hashlib.sha256(b"\x00" + leaf).digest())
    assert [leaf.hex() for leaf in leaves] == vectors["leaf_hashes"]
    assert _mth(leaves).hex() == vectors["root"]


def test_a_shown_row_leads_to_its_root_as_the_page_says():
    vectors = _load("trees")
    row = vectors["row"]
    found = hashlib.sha256(
        b"\x00" + bytes.fromhex(row["salt"]) + bytes.fromhex(row["data"])
    ).digest()
    path = [bytes.fromhex(each) for each in row["path"]]
    index, last = row["index"], row["rows"] - 1
    while last:
        if index % 2 or index != last:
            beside = path.pop(0)
            pair = beside + found if index % 2 else found + beside
            found = hashlib.sha256(b"\x01" + pair).digest()
        index, last = index // 2, last // 2
    assert not path
    assert found.hex() == vectors["row_roots"][row["block"] - 1]


def test_a_checkpoint_is_signed_as_the_page_says():
    vectors = _load("trees")
    text, _, lines = vectors["checkpoint"].rpartition("\n\n")
    text += "\n"
    origin, size, root = text.splitlines()
    says = _load("block")["blocks"][0]["says"]
    assert origin == f"{says['cluster']}/audit/{says['lane']}"
    assert int(size) == len(vectors["leaf_hashes"])
    assert base64.b64decode(root).hex() == vectors["root"]
    for line, vkey in zip(
        lines.splitlines(), (vectors["log_key"], vectors["witness_key"]), strict=True
    ):
        dash, name, encoded = line.split(" ")
        signature, typed = base64.b64decode(encoded), base64.b64decode(vkey.split("+", 2)[2])
        assert (dash, name) == ("\u2014", vkey.partition("+")[0])
        assert signature[:4] == hashlib.sha256(name.encode() + b"\n" + typed).digest()[:4]
        message = text
        if typed[0] == 4:
            message = f"cosignature/v1\ntime {int.from_bytes(signature[4:12], 'big')}\n{text}"
        Ed25519PublicKey.from_public_bytes(typed[1:]).verify(signature[-64:], message.encode())
