"""`shutong audit replay`: one past decision made again, from Kafka alone; nothing is written."""

from __future__ import annotations

import asyncio
from itertools import islice

import typer
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from shutong_auditor.rowsearch import FoundRow, find_row, first_at
from shutong_broker.policy.build import build_policy
from shutong_broker.policy.model import DatasetPolicy, InboundRecord
from shutong_cli.history import read_version
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
)
from shutong_cli.reading import read_in_force
from shutong_cli.replay import Audited, replay
from shutong_cli.session import open_session
from shutong_cli.verdictview import verdict_json
from shutong_core.audit.rowtree import parse_row, prove_row
from shutong_core.audit.verdict import Verdict
from shutong_core.domain.errors import Rejected, Retryable
from shutong_core.runtime.consumers import reading_committed
from shutong_core.runtime.lifecycle import EXIT_FATAL
from shutong_core.runtime.node import Node

READ_S_MAX = 30.0


def register(app: typer.Typer) -> None:
    """Adds the command to the group `audit`."""
    app.command("replay", epilog=examples("shutong audit replay -d death-certificate -l 3 -o 120"))(
        again
    )


def again(
    dataset: DatasetId,
    lane: LaneNumber,
    offset: InputOffset,
    loading: LoadingGrant = "",
    as_json: AsJson = False,
) -> None:
    """依当时的清单重新裁决一条记录，与审计比对。

    Decide a record again by the list and at the time that its audit block names, with the plain
    interpreter, and compare with the audit. Says which of region and condition withheld it. Needs
    the keyring and the record, which must not be past its term. Exit code 1 if they differ.
    """
    node = open_session()
    verdict = asyncio.run(replayed(node, (dataset, lane, offset), loading))
    if as_json:
        print_json(verdict_json(verdict))
    else:
        for language in ("zh", "en"):
            console().print(safe(verdict.text(language)))
    if not verdict.ok:
        raise typer.Exit(EXIT_FATAL)


async def replayed(node: Node, place: tuple[str, int, int], loading: str) -> Verdict:
    """The verdict on the decision about the record at `place` (dataset, lane, input offset).

    Raises Rejected if record, list or audit are not there to decide it again, Retryable.
    """
    found = await find_row(node.client, node.topics, place, loading)
    record = await _inbound(node, place)
    return replay(await _policy(node, found, place[0]), record, _audited(found, loading))


def _audited(found: FoundRow, loading: str) -> Audited:
    body, header = found.body, found.header
    row = next(islice(body.rows(body.inputs[found.section]), found.row, None))
    told = parse_row(prove_row(body, found.section, found.row).row)
    return Audited(
        row, told.verdicts, body.salt, header.decided_ms, header.lane, header.sequence, loading
    )


async def _policy(node: Node, found: FoundRow, dataset: str) -> DatasetPolicy | None:
    header = found.header
    if header.division_digest != node.table.digest:
        raise Rejected(
            "当时的区划表不是本机这一份，无法重新裁决。"
            " That decision was made with another table of divisions than this node has."
        )
    version = await read_version(node, header.list_number)
    if version.digest != header.list_digest:
        raise Rejected(
            f"清单第 {header.list_number} 版与块中的摘要不符：请执行 shutong audit verify --kafka。"
            f" List {header.list_number} is not the one that the block names: verify the audit."
        )
    _, registry = await read_in_force(node)
    policies = build_policy(version, registry.schemas, node.table, node.keyring.secret)
    return policies.get(dataset)


async def _inbound(node: Node, place: tuple[str, int, int]) -> InboundRecord:
    """The record itself. Raises Rejected if it is past its term, Retryable."""
    dataset, lane, offset = place
    partition = TopicPartition(node.topics.inbound(dataset), lane)
    try:
        async with (
            asyncio.timeout(READ_S_MAX),
            reading_committed(node.client, max_partition_fetch_bytes=2 * 1024 * 1024) as reader,
        ):
            found = await first_at(reader, partition, offset)
    except (KafkaError, TimeoutError) as error:
        raise Retryable(f"the record cannot be read: {type(error).__name__}") from error
    if found is None or found.offset != offset:
        raise Rejected(
            f"{dataset} 分道 {lane} 偏移 {offset} 的记录已过保存期，无法重新裁决。"
            f" The record at {dataset} lane {lane} offset {offset} is past its term."
        )
    headers = tuple(found.headers)
    return InboundRecord(dataset, lane, offset, found.key, found.value, headers, found.timestamp)
