"""`shutong audit trust | prove | check-proof`: one record proved to somebody outside."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from shutong_auditor.cosigning import parse_witness
from shutong_auditor.prove import make_proof
from shutong_cli.onrecord import on_record
from shutong_cli.output import (
    AsJson,
    DatasetId,
    InputOffset,
    LaneNumber,
    LoadingGrant,
    console,
    examples,
    print_json,
    safe,
    say,
)
from shutong_cli.reading import require_keyring
from shutong_cli.session import open_session
from shutong_core.audit.acts import ActName
from shutong_core.audit.proof import PROOF_BYTES_MAX, Proof, check_proof, parse_proof
from shutong_core.audit.proofwords import proof_verdict
from shutong_core.audit.rotation import SIGNER
from shutong_core.audit.signednote import NOTE_BYTES_MAX, SignedNote, parse_note
from shutong_core.audit.trust import TRUST_BYTES_MAX, TrustBundle, parse_trust
from shutong_core.domain.errors import Rejected
from shutong_core.runtime.cluster import bus_name
from shutong_core.runtime.node import Node

TrustFile = Annotated[
    Path, typer.Option("--trust", metavar="FILE", help="信任包 Trust bundle, from a way you trust.")
]
Out = Annotated[
    Path | None, typer.Option("--out", metavar="FILE", help="写入文件 Write to a file.")
]


def register(app: typer.Typer) -> None:
    """Adds the commands to the group `audit`."""
    app.command(epilog=examples("shutong audit trust --out bus.trust.json"))(trust)
    app.command(
        epilog=examples("shutong audit prove -d death-certificate -l 3 -o 120 --out p.json")
    )(prove)
    app.command(
        "check-proof", epilog=examples("shutong audit check-proof p.json --trust bus.trust.json")
    )(check)


def trust(out: Out = None) -> None:
    """导出信任包：审计方公钥、见证人公钥。

    Write the trust bundle: the auditor's and the witnesses' public keys. Who is to verify must get
    it by a way that the operator of the bus does not control alone.
    """
    node = open_session()
    bundle = asyncio.run(_bundle(node))
    _put(bundle.encode(), out, "信任包", "the trust bundle")


def prove(
    dataset: DatasetId,
    lane: LaneNumber,
    offset: InputOffset,
    loading: LoadingGrant = "",
    out: Out = None,
) -> None:
    """为一条记录出具证明：投放给谁，或因何未投放。

    Make the proof of what became of one record; the intake receipt names its coordinates. Run on
    the auditor's machine.
    """
    node = open_session()
    made = asyncio.run(_prove(node, (dataset, lane, offset), loading))
    _put(made.encode(), out, "证明", "the proof")


async def _prove(node: Node, place: tuple[str, int, int], loading: str) -> Proof:
    made = await make_proof(node.client, node.topics, node.settings.data_dir, place, loading)
    dataset, lane, offset = place
    detail = f"lane {lane} offset {offset}"
    await on_record(node, ActName.AUDIT_PROVE, f"dataset/{dataset}", detail)
    return made


def check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="证明文件 The proof.")],
    trust_file: TrustFile,
    grant: Annotated[
        str | None, typer.Option(metavar="ID", help="只看这一许可 Only this grant.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """校验证明：只需信任包，不需总线。

    Check a proof; needs the trust bundle and nothing else. Exit code 2 if it does not hold, with
    the first thing that is wrong.
    """
    bundle = read_trust(trust_file)
    try:
        proved = check_proof(parse_proof(read_bytes(file, PROOF_BYTES_MAX)), bundle)
    except Rejected as error:
        raise Rejected(f"证明不成立。 The proof does NOT hold: {error}") from error
    verdict = proof_verdict(proved, grant)
    if as_json:
        print_json(
            {
                "ok": True,
                "bus": proved.tree.cluster,
                "lane": proved.header.lane,
                "block": proved.header.sequence,
                "list_number": proved.header.list_number,
                "list_digest": proved.header.list_digest.hex(),
                "decided_ms": proved.header.decided_ms,
                "dataset": proved.row.dataset,
                "offset": proved.row.offset,
                "publisher": proved.row.publisher,
                "refusal": proved.row.refusal.name if proved.row.refusal else None,
                "verdicts": [
                    {
                        "grant": each.grant,
                        "fate": each.fate.name.lower(),
                        "k": each.k or None,
                        "reason": each.reason.name if each.reason else None,
                    }
                    for each in proved.row.verdicts
                ],
                "cosigned": proved.cosigned,
                "not_checked": [asdict(each) for each in verdict.not_checked],
            }
        )
        return
    for language in ("zh", "en"):
        console().print(safe(verdict.text(language)))


def read_trust(path: Path) -> TrustBundle:
    """The trust bundle in a file. Raises Rejected that says what is wrong."""
    try:
        return parse_trust(read_bytes(path, TRUST_BYTES_MAX))
    except Rejected as error:
        raise Rejected(f"{path}: {error}") from error


def read_note(path: Path) -> SignedNote:
    """The signed note in a file. Raises Rejected that says what is wrong."""
    try:
        return parse_note(read_bytes(path, NOTE_BYTES_MAX))
    except Rejected as error:
        raise Rejected(f"{path}: {error}") from error


async def _bundle(node: Node) -> TrustBundle:
    witnesses = tuple(parse_witness(text).key for text in node.settings.auditor.witnesses)
    require_keyring(node)
    publics = node.keyring.publics(SIGNER)()
    if not publics:
        raise Rejected(
            "密钥环中还没有审计方的公钥：请先启动审计服务。"
            " The keyring has no auditor's key yet: start the auditor first."
        )
    return TrustBundle(
        await bus_name(node.client, node.settings.prefix),
        publics,
        witnesses,
        node.settings.auditor.witnesses_needed,
        _agencies(node),
    )


def _agencies(node: Node) -> dict[str, tuple[bytes, ...]]:
    """Keys trusted for agencies, by organisation."""
    found: dict[str, tuple[bytes, ...]] = {}
    for key_id, public in sorted(node.keyring.trusted().items()):
        kind, _, organisation = key_id.rpartition("/")[0].partition("/")
        if kind == "agency":
            found[organisation] = (*found.get(organisation, ()), public)
    return found


def _put(data: bytes, out: Path | None, zh: str, en: str) -> None:
    if out is None:
        typer.echo(data.decode(), nl=False)
        return
    try:
        out.write_bytes(data)
    except OSError as error:
        raise Rejected(f"{out}: 无法写入 cannot be written ({error.strerror})") from None
    say(f"{zh}已写入 {out}", f"{en} is in {out}")


def read_bytes(path: Path, bytes_max: int) -> bytes:
    """At most `bytes_max` + 1 bytes of a file. Raises Rejected that says what is wrong."""
    try:
        with path.open("rb") as stream:
            return stream.read(bytes_max + 1)
    except OSError as error:
        raise Rejected(f"{path}: 无法读取 cannot be read ({error.strerror})") from None
