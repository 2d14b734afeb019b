"""Writes docs/formats/vectors/: run it after a change of a format, then read the difference.

Usage: python tests/make_audit_vectors.py
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from audit_samples import CLUSTER, PUBLISHER, filled, sample_lane
from shutong_core.audit.access import AccessChain, Act, event_hash
from shutong_core.audit.block import header_hash, id_hash, parse_body, parse_header, row_digest
from shutong_core.audit.chain import Segment, extend, genesis, territory_genesis
from shutong_core.audit.checkpoint import AUDIT, Checkpoint, TreeName
from shutong_core.audit.intake import Refused, RequestReceipt, Taken, encode_request_receipt
from shutong_core.audit.merkle import leaf_hash, root_of
from shutong_core.audit.receipts import DeliveryReceipt, encode_receipt
from shutong_core.audit.rowtree import block_leaf, prove_row, row_root
from shutong_core.audit.signednote import Algorithm, NoteKey, cosign, with_signatures
from shutong_core.domain.reasons import Reason
from shutong_core.wire.busrecords import BusCodec

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "formats" / "vectors"
SIGNING_SEED = bytes(range(32))
AT_MS = 1_780_000_000_000


def blocks() -> dict[str, Any]:
    """A lane of three blocks: stored bytes, and what they say."""
    lane = sample_lane(3, rows=6)
    out = []
    for block in lane.blocks:
        head, body = parse_header(block.header), parse_body(block.body)
        out.append(
            {
                "header": block.header.hex(),
                "body": block.body.hex(),
                "header_hash": header_hash(block.header).hex(),
                "says": {
                    "cluster": head.cluster,
                    "lane": head.lane,
                    "sequence": head.sequence,
                    "previous": head.previous.hex(),
                    "list_number": head.list_number,
                    "list_digest": head.list_digest.hex(),
                    "engine": head.engine,
                    "decided_ms": head.decided_ms,
                    "division_digest": head.division_digest.hex(),
                    "instance": head.instance.hex(),
                    "flags": head.flags,
                    "counts": [head.inputs, head.rows, head.refused, head.placed, head.deferred],
                    "salt": body.salt.hex(),
                    "exposed": list(body.exposed),
                    "inputs": [_section(body, section) for section in body.inputs],
                },
            }
        )
    return {"head": {"sequence": 3, "header_hash": lane.previous.hex()}, "blocks": out}


def _section(body: Any, section: Any) -> dict[str, Any]:
    return {
        "dataset": section.dataset,
        "loading": section.loading,
        "first": section.first,
        "next": section.next,
        "rows": [
            {
                "offset": row.offset,
                "publisher": row.publisher,
                "digest": row.digest.hex(),
                "tokens": [token.hex() for token in row.tokens],
                "id_hash": row.id_hash.hex() if row.id_hash else None,
                "operation": int(row.operation),
                "refusal": row.refusal.number if row.refusal else 0,
            }
            for row in body.rows(section)
        ],
        "grants": [
            {
                "grant": column.grant,
                "first_k": column.first_k,
                "count": column.count,
                "placed_bytes": column.placed_bytes,
                "chain_after": column.chain_after.hex(),
                "allowed_rows": [
                    row for row in range(section.rows) if column.allowed[row // 8] >> row % 8 & 1
                ],
                "deferred": [list(span) for span in column.deferred],
            }
            for column in section.grants
        ],
        "withheld": [
            [run.grant, run.reason.number, run.first, run.end] for run in section.withheld
        ],
    }


def chains() -> dict[str, Any]:
    """c0 of a grant and of a territory, segments, and a whole topic of one lane."""
    lane = sample_lane(2, rows=6)
    grant = "deaths-city"
    start = genesis(CLUSTER, grant, 0)
    records = [(b"key", b"value"), (None, b""), (b"", None)]
    return {
        "genesis": [
            {"cluster": CLUSTER, "grant": grant, "lane": at, "c": genesis(CLUSTER, grant, at).hex()}
            for at in (0, 11)
        ],
        "territory_genesis": {
            "cluster": CLUSTER,
            "grant": grant,
            "territory": "330106000000",
            "lane": 2,
            "c": territory_genesis(CLUSTER, grant, "330106000000", 2).hex(),
        },
        "extend": {
            "before": start.hex(),
            "records": [[part.hex() if part is not None else None for part in r] for r in records],
            "after": extend(start, records).hex(),
        },
        "segment": {
            "lane": 3,
            "k": 70_000,
            "chain": filled("chain", 32).hex(),
            "header": Segment(3, 70_000, filled("chain", 32)).encode().hex(),
        },
        "topic": {
            "cluster": CLUSTER,
            "grant": grant,
            "records": [
                {
                    "segment": headers[0][1].hex() if headers else None,
                    "key": key.hex() if key is not None else None,
                    "value": value.hex() if value is not None else None,
                }
                for headers, key, value in lane.deliveries[grant]
            ],
            "k": lane.heads[grant][0],
            "chain": lane.heads[grant][1].hex(),
        },
    }


def digests() -> dict[str, Any]:
    """Row digest and id hash."""
    key = filled("key", 32)
    return {
        "row_digest": {
            "salt": filled("salt", 16).hex(),
            "body": b"avro body".hex(),
            "digest": row_digest(filled("salt", 16), b"avro body").hex(),
        },
        "id_hash": {
            "publisher": PUBLISHER,
            "dataset": "deaths",
            "event_id": "D-2026-000017",
            "key": key.hex(),
            "hash": id_hash(PUBLISHER, "deaths", "D-2026-000017", key).hex(),
        },
    }


def receipts() -> dict[str, Any]:
    """One receipt of each kind, as stored."""
    key = Ed25519PrivateKey.from_private_bytes(SIGNING_SEED)
    delivery = DeliveryReceipt(
        cluster=CLUSTER,
        grant="deaths-city",
        lane=3,
        first=1,
        last=40,
        chain=filled("chain", 32).hex(),
        agency="11330100002489514D/social-1",
        at_ms=AT_MS,
    )
    digest = hashlib.sha256(b"body").hexdigest()
    intake = RequestReceipt(
        cluster=CLUSTER,
        dataset="deaths",
        publisher=PUBLISHER,
        accepted=(Taken(index=1, id="D-2026-000018", partition=3, offset=17, digest=digest),),
        refused=(
            Refused(
                index=0,
                id="D-2026-000017",
                reasons=("REQUIRED_MISSING", "BAD_ID_NUMBER"),
                digest=digest,
            ),
        ),
        at_ms=AT_MS,
    )
    territory = delivery.model_copy(update={"territory": "330106000000"})
    public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    return {
        "public_key": public.hex(),
        "stored": [
            encode_receipt(delivery, "vector-key", key.sign).decode(),
            encode_receipt(territory, "vector-key", key.sign).decode(),
            encode_request_receipt(intake, "vector-key", key.sign).decode(),
        ],
    }


def access() -> dict[str, Any]:
    """Three chained access events, as stored."""
    texts = [path.read_text() for path in sorted((ROOT / "schemas" / "bus").glob("*.avsc"))]
    codec = BusCodec(texts)
    chain, events = AccessChain("consumer", "ab" * 16), []
    acts = [
        Act(AT_MS, PUBLISHER, "pull", "deaths-city", Reason.NOT_YOUR_GRANT, client="127.0.0.1"),
        Act(AT_MS + 1, "", "pull", "", Reason.UNAUTHENTICATED),
        Act(AT_MS + 2, "operator", "halt grant", "deaths-city", detail="紧急停用"),
    ]
    for act in acts:
        encoded, chain = chain.next(act, codec.encode)
        events.append({"event": encoded.hex(), "hash": event_hash(encoded).hex()})
    return {"events": events}


def trees() -> dict[str, Any]:
    """The tree of the lane in audit-block.json, one row with its proof, a cosigned checkpoint."""
    lane = sample_lane(3, rows=6)
    bodies = [parse_body(block.body) for block in lane.blocks]
    roots = [row_root(body) for body in bodies]
    leaves = [
        leaf_hash(block_leaf(block.header, root))
        for block, root in zip(lane.blocks, roots, strict=True)
    ]
    tree = TreeName(CLUSTER, AUDIT, lane.lane)
    log = Ed25519PrivateKey.from_private_bytes(SIGNING_SEED)
    witness = Ed25519PrivateKey.from_private_bytes(SIGNING_SEED[::-1])
    key = tree.key(log.public_key().public_bytes_raw())
    theirs = NoteKey(
        "witness.example", witness.public_key().public_bytes_raw(), Algorithm.COSIGNATURE
    )
    note = Checkpoint(tree.origin, len(leaves), root_of(leaves)).sign(key, log.sign)
    cosigned = with_signatures(note, [cosign(note.text, theirs, witness.sign, AT_MS // 1000)])
    proof = prove_row(bodies[1], 1, 4)
    return {
        "row_roots": [root.hex() for root in roots],
        "leaf_hashes": [leaf.hex() for leaf in leaves],
        "root": root_of(leaves).hex(),
        "row": {
            "block": 2,
            "index": proof.index,
            "rows": proof.rows,
            "data": proof.row.hex(),
            "salt": proof.salt.hex(),
            "path": [each.hex() for each in proof.path],
        },
        "log_key": key.vkey,
        "witness_key": theirs.vkey,
        "checkpoint": cosigned.encode().decode(),
    }


VECTORS = {
    "block": blocks,
    "chain": chains,
    "digests": digests,
    "receipts": receipts,
    "access": access,
    "trees": trees,
}


def text(name: str) -> str:
    """The file of one vector set."""
    return json.dumps(VECTORS[name](), ensure_ascii=False, indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for each in VECTORS:
        (FOLDER / f"audit-{each}.json").write_text(text(each), encoding="utf-8")
