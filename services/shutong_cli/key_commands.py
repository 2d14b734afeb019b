"""`shutong key …`: API keys by which departmental systems prove who they are."""

from __future__ import annotations

import asyncio
import base64
import os
import time
from pathlib import Path
from typing import Annotated

import typer

from shutong_cli.onrecord import on_record
from shutong_cli.output import examples, new_app, note, say
from shutong_cli.reading import read_in_force, require_keyring
from shutong_cli.session import open_session
from shutong_core.audit.acts import ActName
from shutong_core.audit.rotation import SIGNER, encode_rotation, rotation_key
from shutong_core.domain.errors import Rejected
from shutong_core.runtime.ackedwriter import AckedWriter
from shutong_core.runtime.cluster import bus_name
from shutong_core.runtime.keyring import key_id_of
from shutong_core.runtime.node import Node
from shutong_core.wire.batches import KafkaRecord, RecordBatch

app = new_app("系统的接口密钥。 API keys of departmental systems.")

_PUBLIC_BYTES = 32
_KAFKA_S_MAX = 15.0

System = Annotated[str, typer.Argument(metavar="SYSTEM", help="清单中的系统编号 Id in the list.")]


@app.command(
    epilog=examples("shutong key issue meizhou-yibao", "shutong key issue s1 --out s1.key")
)
def issue(
    system: System,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="写入新文件（0600） Write to a new file."),
    ] = None,
    unchecked: Annotated[
        bool, typer.Option("--unchecked", help="不查清单 Do not look the system up in the list.")
    ] = False,
) -> None:
    """签发一个密钥。密钥只显示这一次，密钥环只存其哈希。

    Issue a key. It is shown only now: the keyring keeps its hash. The list in force must name the
    system.
    """
    node = open_session()
    if not unchecked:
        asyncio.run(_require(node, system))
    stream = None if out is None else _new_file(out)
    _on_record(node, ActName.KEY_ISSUE, f"system/{system}")
    key = node.keyring.issue_api_key(system)
    if stream is None or out is None:
        note(f"{system} 的密钥只显示这一次", f"the key of {system} is shown only now")
        typer.echo(key)
        return
    with os.fdopen(stream, "w", encoding="ascii") as file:
        file.write(key + "\n")
    say(f"{system} 的密钥已写入 {out}", f"the key of {system} is in {out}")


@app.command(epilog=examples("shutong key revoke meizhou-yibao"))
def revoke(system: System) -> None:
    """收回一个系统的全部密钥，各服务立即不再接受。

    Take all keys of a system away; every service on this keyring refuses them from now on.
    """
    node = open_session()
    _on_record(node, ActName.KEY_REVOKE, f"system/{system}")
    count = node.keyring.revoke_api_keys(system)
    if count == 0:
        raise Rejected(f"{system} 没有密钥。 {system} has no key.")
    say(f"已收回 {system} 的 {count} 个密钥", f"{count} keys of {system} are revoked")


@app.command(epilog=examples("shutong key trust 11440000006940140P MCowBQYDK2VwAyEA…="))
def trust(
    organisation: Annotated[str, typer.Argument(metavar="USCC", help="部门 Organisation.")],
    public: Annotated[str, typer.Argument(metavar="BASE64", help="公钥 Its public key.")],
) -> None:
    """信任一个部门的公钥，用于核对它自签的回执。

    Trust the public key by which an agency signs its own receipts (`shutong receipt key`).
    """
    node = open_session()
    try:
        data = base64.b64decode(public, validate=True)
    except ValueError:
        data = b""
    if len(data) != _PUBLIC_BYTES:
        raise Rejected("公钥应为 32 字节的 base64。 A public key is 32 bytes in base64.")
    name = f"agency/{organisation}"
    _on_record(node, ActName.KEY_TRUST, f"{name} {key_id_of(name, data).rpartition('/')[2]}")
    key_id = node.keyring.trust(name, data)
    say(f"已信任 {key_id}", f"{key_id} is trusted")


@app.command(epilog=examples("shutong key rotate"))
def rotate() -> None:
    """轮换审计方的签名密钥，由新旧密钥共同签署轮换记录。

    Replace the auditor's signing key. A record signed by the old key and the new one goes to topic
    checkpoints, so that who trusts the old one can follow. Restart the auditor afterwards; give
    witnesses the new trust bundle.
    """
    node = open_session()
    require_keyring(node)
    key_id = asyncio.run(rotate_auditor(node))
    say(
        f"审计方的新密钥为 {key_id}：请备份，重启审计服务，并向见证人提供新的信任包",
        f"the auditor's new key is {key_id}: back it up, restart the auditor, give witnesses the"
        " new trust bundle",
    )


async def rotate_auditor(node: Node) -> str:
    """Put a new auditor's key in the place of the old one; its id. Raises Retryable, Rejected."""
    cluster = await bus_name(node.client, node.settings.prefix)
    old, new = node.keyring.signer(SIGNER), node.keyring.next_signer(SIGNER)
    if not await on_record(node, ActName.KEY_ROTATE, new.key_id):
        raise Rejected("总线还没有清单。 The bus has no list yet: publish one first.")
    record = encode_rotation(
        cluster, (old.public, old.sign), (new.public, new.sign), int(time.time())
    )
    writer = AckedWriter(node.client)
    await writer.start()
    try:
        await writer.wait_ready(_KAFKA_S_MAX)
        key = KafkaRecord(rotation_key(cluster), record)
        await writer.write([RecordBatch(node.topics.checkpoints, 0, [key])])
    finally:
        await writer.close()
    # Last: until the record stands, the old key is the one that everybody knows.
    await asyncio.to_thread(node.keyring.replace_signer, SIGNER, new)
    return new.key_id


def _on_record(node: Node, name: ActName, target: str) -> None:
    if not asyncio.run(on_record(node, name, target)):
        note("总线还没有清单，此操作未入访问日志", "no list yet: this act is not on record")


async def _require(node: Node, system: str) -> None:
    version, _ = await read_in_force(node)
    if version.system(system) is None:
        raise Rejected(
            f"清单 {version.number} 中没有系统 {system}。"
            f" List {version.number} names no system {system}: see `shutong list show system`."
        )


def _new_file(path: Path) -> int:
    """A descriptor of a new private file: opened first, so that no issued key is lost."""
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise Rejected(f"{path}: 无法新建 cannot be made ({error.strerror})") from None
