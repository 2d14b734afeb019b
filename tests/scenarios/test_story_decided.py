"""The story's list passes every check, and the policy decides all its records as expected.

`expected.json` comes from a reading of the law that shares no line with the policy, so this is
two implementations against each other over 65,000 records; no Kafka is needed for that.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from shutong_broker.policy.build import build_policy
from shutong_broker.policy.condition import check_condition
from shutong_broker.policy.model import Decision, InboundRecord, LaneFacts
from shutong_control.allot import allot
from shutong_core.domain.checks import check_list
from shutong_core.domain.direction import direction
from shutong_core.domain.listfile import read_list_file
from shutong_core.domain.regions import RegionTable
from shutong_core.domain.version import ListVersion, next_version
from shutong_core.wire.codec import encode
from shutong_core.wire.framing import frame
from shutong_core.wire.jsonmap import from_json
from shutong_core.wire.keys import key_bytes, partition_of
from shutong_core.wire.schemarecords import Registry
from shutong_core.wire.schemas import Schema
from shutong_core.wire.topics import Topics
from shutong_story.generate import generate, sample_list, sample_table
from shutong_story.plan import Plan

STORY = Path(__file__).resolve().parents[2] / "deploy/samples/story"
NOW_MS = 1_795_000_000_000  # 2026-11-18; verdicts of the story are the same for years
EXPECTED = json.loads((STORY / "expected.json").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Published:
    """The story's list in force, its schemas, the table, the input files."""

    version: ListVersion
    schemas: dict[int, Schema]
    table: RegionTable
    plan: Plan


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Published:
    draft = read_list_file(sample_list(), "list.yaml")
    texts = {
        path: (STORY / path).read_bytes() for paths in draft.schema_files.values() for path in paths
    }
    allotted = allot(draft, texts, Registry(), Topics("story"))
    table = sample_table()
    return Published(
        version=next_version(None, allotted.rows, (), 0),
        schemas={each.id: each.schema for each in allotted.registrations},
        table=table,
        plan=generate(tmp_path_factory.mktemp("story"), table, sample_list()),
    )


def test_the_list_may_be_published(story: Published) -> None:
    found = check_list(story.version, story.schemas, story.table, check_condition)
    assert found == ()


def test_the_list_names_the_division_table_that_ships(story: Published) -> None:
    bus = story.version.bus
    assert (bus.division_table, bus.division_digest) == (
        story.table.date,
        story.table.digest.hex(),
    )


@pytest.mark.slow
@pytest.mark.parametrize("dataset", list(EXPECTED["datasets"]))
def test_every_record_is_decided_as_the_independent_script_expects(
    story: Published, dataset: str
) -> None:
    verdicts: Counter[tuple[str, str]] = Counter()
    directions: Counter[tuple[str, str]] = Counter()
    compass = Compass(story, dataset)
    for datum, decision in decisions(story, dataset):
        assert decision.refusal is None
        for each in decision.placements:
            verdicts[each.grant, "placed"] += 1
            directions[each.grant, compass.of(each.grant, decision.publisher, datum)] += 1
        verdicts.update((each.grant, each.reason.name) for each in decision.withheld)
    flows = [flow for flow in EXPECTED["flows"] if flow["dataset"] == dataset]
    assert verdicts == _sums(flows, "verdict")
    placed = [flow for flow in flows if flow["verdict"] == "placed"]
    assert directions == _sums(placed, "direction")


def test_lane_refusals_of_content_are_as_planned(story: Published) -> None:
    cases = [
        case
        for case in story.plan.bad
        if case.door == "lane" and case.reason in {"OUT_OF_JURISDICTION", "UNKNOWN_REGION"}
    ]
    assert len(cases) == 2
    for case in cases:
        path = story.plan.directory / case.path
        reasons = {d.refusal for _, d in decided(story, case.dataset, case.system, path)}
        assert {reason.name for reason in reasons if reason} == {case.reason}


class Compass:
    """Directions of placed records, each worked out once per grant, publisher and region."""

    def __init__(self, story: Published, dataset: str) -> None:
        row = story.version.dataset(dataset)
        assert row is not None
        self._story, self._dataset = story, row
        self._known: dict[tuple[str, str, str], str] = {}

    def of(self, grant_id: str, publisher: str, datum: dict[str, Any]) -> str:
        """The direction of a record under a grant."""
        grant = self._story.version.grant(grant_id)
        assert grant is not None
        code = datum[self._dataset.regions[grant.scope.role]]
        known = self._known.get((grant_id, publisher, code))
        if known is None:
            table = self._story.table
            region = table.normalise(code)
            assert region is not None
            territory = region if grant.requester_class else None  # towns have nothing below
            known = direction(
                table,
                self._story.version,
                self._dataset,
                grant,
                publisher.partition("/")[0],
                territory,
                region=region,
            )
            self._known[grant_id, publisher, code] = known
        return known


def _sums(flows: list[dict[str, Any]], by: str) -> Counter[tuple[str, str]]:
    sums: Counter[tuple[str, str]] = Counter()
    for flow in flows:
        sums[flow["grant"], flow[by]] += flow["count"]
    return sums


Decided = tuple[dict[str, Any], Decision]


def decisions(story: Published, dataset: str) -> Iterator[Decided]:
    """All good records of one dataset, decided."""
    for entry in story.plan.inputs:
        if entry.dataset == dataset:
            yield from decided(story, dataset, entry.system, story.plan.directory / entry.path)


def decided(story: Published, dataset: str, system: str, path: Path) -> Iterator[Decided]:
    """Each line of a file as the producer service would write it, decided."""
    policy = build_policy(story.version, story.schemas, story.table, _secret)[dataset]
    row, sender = story.version.dataset(dataset), story.version.system(system)
    assert row is not None
    assert sender is not None
    schema_id = row.schemas[-1].id
    schema = story.schemas[schema_id]
    for offset, line in enumerate(path.read_bytes().splitlines()):
        event: dict[str, Any] = json.loads(line)
        datum = from_json(schema, event["data"])
        key = key_bytes(schema, row.key, datum)
        headers = [
            ("ce_id", event["id"].encode()),
            ("shutong_publisher", f"{sender.organisation}/{system}".encode()),
        ]
        if "operation" in event:
            headers.append(("ce_type", f"{dataset}.{event['operation']}".encode()))
        record = InboundRecord(
            dataset=dataset,
            partition=partition_of(key, story.version.bus.lanes),
            offset=offset,
            key=key,
            value=frame(schema_id, encode(schema, datum)),
            headers=tuple(headers),
            timestamp_ms=NOW_MS,
        )
        yield datum, policy.decide(record, LaneFacts(None), NOW_MS)


def _secret(key_id: str) -> bytes:
    return key_id.encode().ljust(32, b".")[:32]
