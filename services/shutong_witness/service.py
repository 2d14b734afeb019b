"""Builds a witness from its parts and runs it until asked to stop; it needs no Kafka."""

from __future__ import annotations

from pathlib import Path

import structlog

from shutong_core.audit.signednote import Algorithm, NoteKey
from shutong_core.audit.trust import TRUST_BYTES_MAX, TrustBundle, parse_trust
from shutong_core.domain.errors import Fatal, Rejected
from shutong_core.runtime.health import admin_server
from shutong_core.runtime.httpserver import HttpServer
from shutong_core.runtime.lifecycle import Stop
from shutong_core.runtime.node import Node
from shutong_witness.app import Witness, make_app
from shutong_witness.memory import WitnessMemory

SERVICE = "witness"
#: Name of the signing key of cosignatures.
SIGNER = "witness"
_log = structlog.stdlib.get_logger(__name__)


def make_witness(node: Node) -> Witness:
    """The witness of this node. Raises Fatal if its trust bundle or its memory is damaged."""
    settings = node.settings
    trust = read_trust(settings.witness.trust)
    signer = node.keyring.signer(SIGNER)
    key = NoteKey(settings.witness.name, signer.public, Algorithm.COSIGNATURE)
    memory = WitnessMemory(settings.data_dir / "witness")
    return Witness(key, signer.sign, memory, trust.keys)


def read_trust(path: Path | None) -> TrustBundle:
    """The trust bundle in that file. Raises Fatal that says what to do."""
    if path is None:
        raise Fatal(
            "请用 SHUTONG_WITNESS_TRUST 指明所见证总线的信任包（shutong audit trust 导出）。"
            " Set SHUTONG_WITNESS_TRUST to the trust bundle of the bus that is witnessed: its"
            " auditor makes it by `shutong audit trust`."
        )
    try:
        with path.open("rb") as stream:
            return parse_trust(stream.read(TRUST_BYTES_MAX + 1))
    except OSError as error:
        raise Fatal(f"{path}: 无法读取 cannot be read ({error.strerror})") from None
    except Rejected as error:
        raise Fatal(f"{path}: {error}") from error


async def serve(node: Node, stop: Stop) -> None:
    """Run until `stop`. Raises Fatal where a port is taken or a file is damaged."""
    settings, witness = node.settings.witness, make_witness(node)
    http = HttpServer(make_app(witness, node.metrics), settings.http, node.settings.limits.drain_s)
    admin = admin_server(node.health, node.metrics, settings.admin)
    await admin.start()
    try:
        await http.start()
        _log.info("listening", url=http.url, key_id=witness.key.vkey)
        while not await stop.wait(1.0):
            node.health.beat("main loop", within_s=30)
            node.metrics.set("shutong_witnessed_trees", witness.memory.trees)
    finally:
        await http.stop()
        await admin.stop()
