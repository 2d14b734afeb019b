"""Publishes a list file: from the file to the list that Kafka confirms to be in force.

Here, above control and broker, is where their parts meet: the checks of a list ask the broker's
condition compiler, because what that cannot compile must not get into a list.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

from shutong_broker.policy.condition import check_condition
from shutong_cli.history import require_own_bus
from shutong_cli.onrecord import command_actor
from shutong_cli.reading import following, read_current
from shutong_control.draftfile import read_draft
from shutong_control.listacts import list_acts
from shutong_control.publish import Check, Draft, Prepared, Publisher, prepare
from shutong_core.domain.checks import check_list
from shutong_core.domain.errors import Fatal, Retryable
from shutong_core.domain.findings import Finding
from shutong_core.domain.regions import RegionTable
from shutong_core.domain.version import ListVersion
from shutong_core.runtime.actlog import act_batches
from shutong_core.runtime.cluster import Difference, ensure_topics, partitions_of
from shutong_core.runtime.listfeed import ListFeed
from shutong_core.runtime.node import Node
from shutong_core.runtime.transaction import Fenced
from shutong_core.wire.schemarecords import Registration
from shutong_core.wire.schemas import Schema
from shutong_core.wire.topics import TopicSpec, control_specs

IN_FORCE_S_MAX = 30.0


@dataclass(frozen=True, slots=True)
class RowChanges:
    """Row ids that a version adds, changes, removes against the one before."""

    added: tuple[str, ...]
    changed: tuple[str, ...]
    removed: tuple[str, ...]

    @classmethod
    def of(cls, prepared: Prepared) -> RowChanges:
        """What `prepared` changes in the list before it."""
        held = prepared.previous.rows if prepared.previous else {}
        put = [row.row_id for row in prepared.upserts]
        return cls(
            added=tuple(row_id for row_id in put if row_id not in held),
            changed=tuple(row_id for row_id in put if row_id in held),
            removed=prepared.removals,
        )


@dataclass(frozen=True, slots=True)
class PublishReport:
    """What publishing a list file did, or (`dry_run`) would do.

    `version` is in force afterwards; `changes` is None if the file says what was in force already.
    `topics_different` are there, but not as the list asks: they are never changed here.
    """

    version: ListVersion
    dry_run: bool
    changes: RowChanges | None
    registrations: tuple[Registration, ...]
    topics_made: tuple[str, ...]
    topics_different: tuple[Difference, ...]
    keyring_made: Path | None = None

    def sentence(self) -> tuple[str, str]:
        """What happened, in one sentence (zh, en)."""
        number, digest = self.version.number, self.version.digest.hex()[:16]
        if self.changes is None:
            return (
                f"没有变化：清单 {number}（{digest}…）已经生效",
                f"nothing changed: list {number} ({digest}…) is in force already",
            )
        added, changed, removed = map(len, astuple(self.changes))
        zh, en = ("将生效", "would be in force") if self.dry_run else ("已生效", "is in force")
        return (
            f"清单 {number}（{digest}…）{zh}：行数新增 {added}、变更 {changed}、移除 {removed}",
            f"list {number} ({digest}…) {en}: rows {added} new, {changed} changed, {removed} gone",
        )


async def publish_list_file(
    node: Node, path: Path, dry_run: bool = False, *, overrule: bool = False
) -> PublishReport:
    """Put the list file in force, or with `dry_run` say what that would change.

    Raises ListRefused (a Rejected) with every problem and its place, Retryable if Kafka does not
    answer or another publisher came in between, Fatal if cluster or keyring forbid it. After any
    of them the list in force is the one before or, whole, this one: publishing again is safe.
    `overrule`: publish although the next list is there already under a key not trusted here.
    """
    draft = await asyncio.to_thread(read_draft, path)
    if dry_run:
        prepared, version = await foresee(node, draft)
        made = await _missing(node, node.topics_to_make(version))
        return _report(version, prepared, made=made, dry_run=True)
    keyring = node.settings.keyring_dir
    keyring_is_new = not keyring.exists()
    if keyring_is_new:
        await require_own_bus(node)
    # Asked for first: the feed trusts only what the keyring knows.
    signer = node.keyring.signer("control")
    topics = _TopicMaking(node)
    await topics.ensure(control_specs(node.topics, *node.settings.replication))
    async with following(node) as feed:
        publisher = Publisher(
            node.client,
            node.topics,
            feed,
            signer,
            list_check(node.table, lambda: feed.version),
            topics.ensure_for,
            now_ms,
            overrule=overrule,
            acts=lambda prepared: act_batches(
                "cli",
                node.topics.access,
                prepared.version.bus.lanes,
                list_acts(prepared, command_actor(), now_ms()),
                node.codec.encode,
            ),
        )
        try:
            prepared = await publisher.publish(draft)
        except Fenced as error:
            raise Retryable(
                "另一个发布者同时在发布，本次未写入任何内容，请重新执行。"
                " Another publisher came in between; nothing was written: run it again."
            ) from error
        if prepared is not None:
            version = await _in_force(feed, prepared.version)
        elif feed.version is not None:
            version = feed.version
            await topics.ensure_for(version)  # makes anew what somebody deleted
        else:
            raise Fatal("an empty list cannot be published")
    return _report(
        version,
        prepared,
        made=topics.made,
        different=topics.different,
        keyring_made=keyring if keyring_is_new else None,
    )


async def foresee(node: Node, draft: Draft) -> tuple[Prepared | None, ListVersion]:
    """What publishing `draft` would change (None: nothing), and the list that would be in force.

    Changes nothing. Raises as `publish_list_file`.
    """
    held, registry = await read_current(node)
    prepared = prepare(
        draft, registry, held, node.topics, list_check(node.table, lambda: held), now_ms()
    )
    version = prepared.version if prepared else held
    if version is None:
        raise Fatal("an empty list cannot be published")
    return prepared, version


def list_check(table: RegionTable, held: Callable[[], ListVersion | None]) -> Check:
    """The checks across rows for a list that is to follow what `held` says when it is checked."""

    def check(version: ListVersion, schemas: Mapping[int, Schema]) -> Sequence[Finding]:
        return check_list(version, schemas, table, check_condition, held())

    return check


def now_ms() -> int:
    """Wall-clock time in milliseconds since 1970: what a list calls its moment of effect."""
    return time.time_ns() // 1_000_000


class _TopicMaking:
    """Makes topics and remembers which were missing and which differ."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self.made: tuple[str, ...] = ()
        self.different: tuple[Difference, ...] = ()

    async def ensure(self, specs: Iterable[TopicSpec]) -> None:
        wanted = tuple(specs)
        self.made += await _missing(self._node, wanted)
        self.different = await ensure_topics(self._node.client, wanted)

    async def ensure_for(self, version: ListVersion) -> None:
        await self.ensure(self._node.topics_to_make(version))


async def _missing(node: Node, specs: Iterable[TopicSpec]) -> tuple[str, ...]:
    names = [spec.name for spec in specs]
    there = await partitions_of(node.client, names)
    return tuple(name for name in names if name not in there)


async def _in_force(feed: ListFeed, written: ListVersion) -> ListVersion:
    """The list once the feed shows `written` or one after it."""
    try:
        async with asyncio.timeout(IN_FORCE_S_MAX):
            version = await feed.wait_change(written.number - 1)
    except TimeoutError:
        raise Retryable(
            f"清单 {written.number} 已写入，但 {IN_FORCE_S_MAX:g} 秒内未见生效：{feed.problem}。"
            f" List {written.number} was written, but is not seen in force: {feed.problem}"
        ) from None
    if version.number == written.number and version.digest != written.digest:
        raise Fatal(
            f"清单 {written.number} 不是本次发布的内容，请检查是否有其他发布者。"
            f" List {written.number} in force is not what was written here: who else publishes?"
        )
    # A still newer list may be in force by now; the report is about the one written here.
    return written


def _report(
    version: ListVersion,
    prepared: Prepared | None,
    *,
    made: tuple[str, ...],
    different: tuple[Difference, ...] = (),
    keyring_made: Path | None = None,
    dry_run: bool = False,
) -> PublishReport:
    return PublishReport(
        version=version,
        dry_run=dry_run,
        changes=None if prepared is None else RowChanges.of(prepared),
        registrations=() if prepared is None else prepared.allotted.registrations,
        topics_made=made,
        topics_different=different,
        keyring_made=keyring_made,
    )
