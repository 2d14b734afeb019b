"""`shutong demo`: the story once, unattended, every count compared, the audit verified."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import tempfile
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from rich.console import Console

from shutong_auditor.audit_tail import AuditTail
from shutong_auditor.kafka_verify import verify_kafka
from shutong_auditor.tally import OUTSIDE, PLACED, Tally
from shutong_cli.board import matrix
from shutong_cli.history import read_history
from shutong_cli.session import log_to_file
from shutong_cli.stack import Stack, running
from shutong_cli.storyrun import (
    audit_tail,
    decided,
    play,
    prepare_story,
)
from shutong_cli.voice import StoryBars, Voice
from shutong_core.domain.errors import Fatal
from shutong_core.domain.reasons import IMPLIED
from shutong_core.runtime.cluster import bus_name, existing_topics
from shutong_core.runtime.node import Node
from shutong_core.runtime.resources import locate
from shutong_core.runtime.settings import Settings, load_settings
from shutong_story.expected import due, published_differences, pulled_differences
from shutong_story.play import FULL_SPEED, Narrator, Published
from shutong_story.progress import Progress as StoryEvent

EXPECTED = "deploy/samples/story/expected.json"
STORY_LIST = "deploy/samples/story/list.yaml"
DECIDED_S_MAX = 240.0


async def demo(*, keep: bool) -> None:
    """Play and check. Raises Fatal that names every count that is off."""
    voice = Voice(Console())
    expected = json.loads(locate(EXPECTED).read_text(encoding="utf-8"))
    async with _own_place(keep) as settings:
        log_to_file(settings.data_dir)
        differences = await _tell(expected, settings, voice)
    if differences:
        raise Fatal("演示不符 the demo differs:\n  " + "\n  ".join(differences))
    voice.say("逐项一致，审计校验通过", "every count as expected, audit verified")


async def _tell(expected: Mapping[str, Any], settings: Settings, voice: Voice) -> list[str]:
    """Run the bus and the story on it; what differs from `expected`."""
    async with running(settings, locate(STORY_LIST), voice, any_port=True) as stack:
        for address in stack.addresses:
            voice.console.print(f"        {address}", highlight=False)
        voice.say(
            "每镇一份的许可只有示例的两个镇取用，所以取用数少于投放数",
            "of the grants to every town only the sample's two towns read, so fewer records are"
            " fetched than placed",
        )
        async with audit_tail(stack) as tail:
            differences = await _play(stack, tail, expected, settings, voice)
            voice.console.print(matrix(tail.tally))
        with voice.busy("校验审计", "verifying the audit"):
            lists = {step.number: step.digest for step in await read_history(stack.node)}
            verdict = await verify_kafka(
                stack.node.client,
                stack.node.topics,
                stack.node.codec,
                cluster=await bus_name(stack.node.client, stack.node.settings.prefix),
                lists=lists,
            )
        voice.console.print(verdict.text("zh"), verdict.text("en"), sep="\n", highlight=False)
        if not verdict.ok:
            differences.append("审计校验未通过 audit verification failed")
        if not settings.kafka.embedded:
            await stack.supervisor.stop()
            await _remove_topics(stack.node)
        return differences


async def _play(
    stack: Stack,
    tail: AuditTail,
    expected: Mapping[str, Any],
    settings: Settings,
    voice: Voice,
) -> list[str]:
    with voice.busy("生成示例数据", "making the input files"):
        story = await asyncio.to_thread(prepare_story, settings.data_dir / "story", stack)
    narrator = Narrator(story.plan, voice.say)
    bars = StoryBars(story.plan, voice.console, sum(due(expected, story.plan).values()))
    intake: list[Published] = []
    arrived: dict[str, int] = {}

    def tell(event: StoryEvent) -> None:
        narrator.tell(event)
        bars.tell(event)
        bars.follow(tail.rows)

    async def published(result: Published) -> None:
        intake.append(result)
        arrived.update(await tail.arrived())
        await decided(tail, sum(arrived.values()), DECIDED_S_MAX)
        bars.follow(tail.rows, sum(arrived.values()))

    with bars.progress:
        await play(stack, story, FULL_SPEED, tell, published)
    return [
        *published_differences(expected, intake[0]),
        *pulled_differences(expected, story.plan, story.ledger),
        *audit_differences(expected, tail.tally, arrived),
    ]


def audit_differences(
    expected: Mapping[str, Any], tally: Tally, arrived: Mapping[str, int]
) -> list[str]:
    """Where the audit's sums differ from the independent expectation; [] if they agree.

    `arrived`: records per inbound topic. What is there beyond the expectation was sent again by a
    department whose request had an unknown outcome: each of those must be a DUPLICATE.
    """
    found = []
    for dataset, counts in expected["datasets"].items():
        got = tally.datasets[dataset].refused if dataset in tally.datasets else Counter()
        want = Counter(counts["refused"]["lane"])
        want["DUPLICATE"] += arrived[dataset] - counts["reached_inbound"]
        if +got != +want:
            found.append(f"{dataset}: 应退回 expected refusals {+want}, 审计 audit {+got}")
    for grant, counts in expected["grants"].items():
        want = _merged({PLACED: counts["placed"], **counts["withheld"]})
        got = _merged(tally.grant(grant))
        if want != got:
            found.append(f"{grant}: 应为 expected {dict(want)}, 审计 audit {dict(got)}")
    want_flows, got_flows = _expected_flows(expected), _audited_flows(tally)
    found += [
        f"{key}: 应投放 expected {want_flows[key]}, 审计 audit {got_flows[key]}"
        for key in sorted(want_flows.keys() | got_flows.keys(), key=str)
        if want_flows[key] != got_flows[key]
    ]
    return found


def _expected_flows(expected: Mapping[str, Any]) -> Counter[tuple[Any, ...]]:
    """Placed records by grant, provider, level, level, direction."""
    names = ("grant", "provider", "from", "to", "direction")
    flows: Counter[tuple[Any, ...]] = Counter()
    for flow in expected["flows"]:
        if flow["verdict"] == PLACED:
            flows[tuple(flow[name] for name in names)] += flow["count"]
    return flows


def _audited_flows(tally: Tally) -> Counter[tuple[Any, ...]]:
    flows: Counter[tuple[Any, ...]] = Counter()
    for each, count in tally.flows.items():
        if each.verdict == PLACED:
            levels = (each.giver.name.lower(), each.receiver.name.lower())
            flows[each.grant, each.provider, *levels, each.direction] += count
    return flows


def _merged(verdicts: Mapping[str, int]) -> Counter[str]:
    """Verdicts as the audit can tell them: it does not keep region and condition apart."""
    implied = {reason.name for reason in IMPLIED}
    merged: Counter[str] = Counter()
    for name, count in verdicts.items():
        merged[OUTSIDE if name in implied else name] += count
    return +merged


@contextlib.asynccontextmanager
async def _own_place(keep: bool) -> AsyncIterator[Settings]:
    """Settings with a data directory and topic prefix of their own, removed afterwards."""
    directory = Path(tempfile.mkdtemp(prefix="shutong-demo-"))
    try:
        yield load_settings(data_dir=directory, prefix=f"demo-{uuid.uuid4().hex[:8]}")
    finally:
        if not keep:
            await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)


async def _remove_topics(node: Node) -> None:
    admin = AIOKafkaAdminClient(**node.client)
    await admin.start()
    try:
        await admin.delete_topics(sorted(await existing_topics(node.client, node.settings.prefix)))
    finally:
        await admin.close()
