"""`shutong receipt …`: an agency that reads Kafka itself countersigns what it read."""

from __future__ import annotations

import asyncio
import base64
import os
import time
from pathlib import Path
from typing import Annotated

import typer
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shutong_cli.output import examples, new_app, note, say
from shutong_cli.session import open_session
from shutong_core.audit.ownreceipts import (
    STATE_BYTES_MAX,
    ChainBroken,
    OwnReceipts,
    OwnState,
    parse_state,
)
from shutong_core.audit.receipts import encode_receipt
from shutong_core.domain.errors import Fatal, Rejected, Retryable
from shutong_core.runtime.ackedwriter import AckedWriter, Unacknowledged
from shutong_core.runtime.cluster import bus_name, partitions_of
from shutong_core.runtime.consumers import reading_committed
from shutong_core.runtime.durablefile import write_durably
from shutong_core.runtime.keyring import key_id_of
from shutong_core.runtime.node import Node
from shutong_core.wire.batches import KafkaRecord, RecordBatch

app = new_app("部门自签回执。 Receipts of agencies that read Kafka themselves.")
Agency = Annotated[
    str, typer.Option("--agency", metavar="USCC/SYSTEM", help="谁签收 Who countersigns.")
]


@app.callback()
def receipt() -> None:
    """部门自签回执。 Receipts of agencies that read Kafka themselves."""


@app.command(epilog=examples("shutong receipt key --out agency.pem"))
def key(
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="新文件（0600） New file.")],
) -> None:
    """生成部门的签名密钥，显示其公钥。

    Make the agency's signing key; its public key goes to the bus: `shutong key trust`.
    """
    private = Ed25519PrivateKey.generate()
    text = private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    try:
        descriptor = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise Rejected(f"{out}: 无法新建 cannot be made ({error.strerror})") from None
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(text)
    note(f"私钥在 {out}，公钥如下", f"the private key is in {out}, the public one is")
    typer.echo(base64.b64encode(private.public_key().public_bytes_raw()).decode())


@app.command(
    epilog=examples("shutong receipt follow --grant births-police --agency USCC/reader --key a.pem")
)
def follow(
    grant: Annotated[str, typer.Option(metavar="ID", help="许可 Grant.")],
    agency: Agency,
    key_file: Annotated[Path, typer.Option("--key", metavar="FILE", help="私钥 Private key.")],
    state_file: Annotated[
        Path | None, typer.Option("--state", metavar="FILE", help="进度 Where it stands.")
    ] = None,
) -> None:
    """读完投放主题中现有的记录，校验投放链，为整段签收。

    Read what stands in the delivery topic, recompute its chain, countersign whole segments. Run it
    again for more; it goes on where it stood. Exit code 1 if the records do not fit the chain:
    nothing is countersigned then.
    """
    private = _private(key_file)
    state = state_file or key_file.with_suffix(f".{grant}.json")
    node = open_session()
    try:
        signed, late = asyncio.run(countersign(node, grant, agency, private, state))
    except ChainBroken as error:
        raise Fatal(str(error)) from error
    if late:
        lanes = ", ".join(map(str, sorted(late)))
        note(
            f"分道 {lanes} 从中途开始：此前的记录未读，不签收",
            f"lanes {lanes} were taken up late: what was before is not countersigned",
        )
    say(f"{grant}：签收 {signed} 条", f"{grant}: {signed} records countersigned")


async def countersign(
    node: Node, grant: str, agency: str, private: Ed25519PrivateKey, path: Path
) -> tuple[int, set[int]]:
    """Read what stands there, write receipts, store where to go on in `path`.

    Returns how many records were countersigned, and the lanes taken up late. Raises ChainBroken.
    """
    cluster = await bus_name(node.client, node.settings.prefix)
    topic = node.topics.delivery(grant)
    partitions = (await partitions_of(node.client, [topic])).get(topic, 0)
    if not partitions:
        raise Rejected(f"没有主题 {topic}。 There is no topic {topic}, or it may not be read.")
    keeper = OwnReceipts(cluster, grant, agency, await asyncio.to_thread(_load, path))
    await _read(node, topic, partitions, keeper)
    made = keeper.receipts(int(time.time() * 1000))
    organisation = agency.partition("/")[0]
    key_id = key_id_of(f"agency/{organisation}", private.public_key().public_bytes_raw())
    records = [
        KafkaRecord(f"{grant}//{each.lane}".encode(), encode_receipt(each, key_id, private.sign))
        for each in made
    ]
    if records:
        await _write(node, records)
    # Only now: what was signed twice after a crash is true twice, what was skipped is lost.
    await asyncio.to_thread(write_durably, path, keeper.state.encode())
    return sum(each.last - each.first + 1 for each in made), keeper.late


async def _read(node: Node, topic: str, partitions: int, keeper: OwnReceipts) -> None:
    try:
        async with reading_committed(
            node.client, max_partition_fetch_bytes=4 * 1024 * 1024
        ) as consumer:
            for number in range(partitions):
                place = TopicPartition(topic, number)
                consumer.assign([place])
                first = (await consumer.beginning_offsets([place]))[place]
                end = (await consumer.end_offsets([place]))[place]
                consumer.seek(place, keeper.begin(number, first))
                while await consumer.position(place) < end:
                    for record in (await consumer.getmany(place, timeout_ms=200)).get(place, ()):
                        keeper.feed(number, record.offset, record.headers, record.key, record.value)
                keeper.at_end(number, await consumer.position(place))
    except KafkaError as error:
        raise Retryable(f"{topic} cannot be read: {type(error).__name__}") from error


async def _write(node: Node, records: list[KafkaRecord]) -> None:
    writer = AckedWriter(node.client)
    await writer.start()
    try:
        await writer.wait_ready(15)
        await writer.write([RecordBatch(node.topics.receipts, 0, records)])
    except Unacknowledged as error:
        raise Retryable(f"the receipts were not acknowledged: {error}") from error
    finally:
        await writer.close()


def _load(path: Path) -> OwnState | None:
    try:
        with path.open("rb") as stream:
            return parse_state(stream.read(STATE_BYTES_MAX + 1))
    except FileNotFoundError:
        return None
    except Rejected as error:
        raise Rejected(f"{path}: {error}") from error


def _private(path: Path) -> Ed25519PrivateKey:
    try:
        found = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError):
        found = None
    if not isinstance(found, Ed25519PrivateKey):
        raise Rejected(f"{path} 不是 Ed25519 私钥。 {path} is no Ed25519 private key.")
    return found
