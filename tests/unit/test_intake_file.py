"""Publishing a file: stable ids, nothing sent twice in vain, every refusal on its line."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest

from shutong_core.domain.errors import Rejected, Retryable
from shutong_core.wire.csvrows import CsvRejected
from shutong_producer import filememory
from shutong_producer.csvfile import Progress, Published, publish_file
from shutong_producer.datashape import field_list
from shutong_producer.fileprogress import read_position
from unit.intake_world import data
from unit.policy_world import schema

URL = "http://bus"
COLUMNS = [name for name, value in data().items() if value is not None]


class CrashError(Exception):
    """The process dies."""


class FakeBus:
    """Answers as the producer service does; refuses what has `name` = bad."""

    def __init__(self) -> None:
        self.taken: list[str] = []
        self.requests = 0
        self.last: dict[str, Any] = {}
        self.before: Callable[[int], httpx2.Response | None] = lambda _: None

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        if request.headers.get("authorization") != "Bearer key-1":
            return httpx2.Response(401, json={"reason": "UNAUTHENTICATED", "zh": "无", "en": "no"})
        if request.method == "GET":
            found = [{"id": "d", "items": field_list(schema())}]
            return httpx2.Response(200, json={"datasets": found})
        self.requests += 1
        if (answer := self.before(self.requests)) is not None:
            return answer
        results = []
        for index, line in enumerate(request.content.splitlines()):
            entry = self.last = json.loads(line)
            if entry["data"].get("name") == "bad":
                problem = {"reason": "BAD_VALUE", "path": "name", "zh": "错", "en": "wrong"}
                results.append(
                    {"index": index, "id": entry["id"], "outcome": "refused", "problem": problem}
                )
            else:
                self.taken.append(entry["id"])
                results.append({"index": index, "id": entry["id"], "outcome": "accepted"})
        return httpx2.Response(200, json={"results": results})


@pytest.fixture
def bus() -> FakeBus:
    return FakeBus()


def csv_file(tmp_path: Path, rows: int = 10, bad: tuple[int, ...] = ()) -> Path:
    lines = [",".join(COLUMNS)]
    for number in range(rows):
        values = data(decision_no=f"MZ-{number}", name="bad" if number in bad else "示例")
        lines.append(",".join(str(values[name]) for name in COLUMNS))
    path = tmp_path / "records.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8-sig")
    return path


async def publish(path: Path, bus: FakeBus, **more: Any) -> Published:
    more.setdefault("patience_s", 2.0)
    key = more.pop("key", "key-1")
    dataset = more.pop("dataset", "d")
    async with httpx2.AsyncClient(transport=httpx2.MockTransport(bus)) as client:
        return await publish_file(path, dataset, URL, key, client=client, **more)


def report(path: Path) -> list[dict[str, Any]]:
    found = path.with_name(path.name + ".refused.ndjson")
    return [json.loads(line) for line in found.read_text().splitlines()] if found.exists() else []


async def test_every_row_is_sent_once_with_an_id_of_its_own(tmp_path: Path, bus: FakeBus) -> None:
    path = csv_file(tmp_path)
    seen: list[Progress] = []
    done = await publish(path, bus, batch_records=4, on_progress=seen.append)
    assert (done.accepted, done.refused, done.report) == (10, 0, None)
    assert len(set(bus.taken)) == 10
    assert bus.taken[0].endswith("-2")  # the header is line 1
    assert [each.accepted for each in seen] == [4, 8, 10]
    assert seen[-1].read_bytes == seen[-1].total_bytes


async def test_a_second_run_sends_nothing(tmp_path: Path, bus: FakeBus) -> None:
    path = csv_file(tmp_path)
    first = await publish(path, bus)
    assert first.sent == 10
    assert await publish(path, bus) == replace(first, sent=0)
    assert bus.requests == 1


def edit(path: Path, old: str, new: str) -> None:
    path.write_text(path.read_text("utf-8-sig").replace(old, new), encoding="utf-8-sig")


async def test_of_a_corrected_file_only_rows_not_accepted_before_are_sent(
    tmp_path: Path, bus: FakeBus
) -> None:
    path = csv_file(tmp_path, bad=(1, 4))
    assert (await publish(path, bus, batch_records=3)).refused == 2
    edit(path, "bad", "good")
    done = await publish(path, bus, batch_records=3)
    assert (done.accepted, done.refused, done.known, done.sent) == (2, 0, 8, 2)
    assert report(path) == []
    assert (len(bus.taken), len(set(bus.taken))) == (10, 10)


async def test_a_row_that_went_and_came_back_is_a_new_record(tmp_path: Path, bus: FakeBus) -> None:
    path = csv_file(tmp_path, rows=3)
    for old, new in (("MZ-1", "MZ-x"), ("MZ-x", "MZ-1"), ("MZ-1", "MZ-x")):
        await publish(path, bus)
        edit(path, old, new)
    assert (await publish(path, bus)).known == 2
    assert (len(bus.taken), len(set(bus.taken))) == (6, 6)


async def test_equal_rows_are_records_of_their_own(tmp_path: Path, bus: FakeBus) -> None:
    path = csv_file(tmp_path, rows=1)
    row = path.read_text("utf-8-sig").splitlines()[1]
    assert (await publish(path, bus)).accepted == 1
    edit(path, row, f"{row}\n{row}")
    done = await publish(path, bus)
    assert (done.accepted, done.known) == (1, 1)
    assert len(set(bus.taken)) == 2


async def test_a_crash_in_a_corrected_file_sends_nothing_under_another_id(
    tmp_path: Path, bus: FakeBus
) -> None:
    path = csv_file(tmp_path, bad=(1, 4))
    await publish(path, bus, batch_records=3)
    edit(path, "bad", "good")

    def crash(here: str) -> None:
        if here == "after-ack":
            raise CrashError

    with pytest.raises(CrashError):
        await publish(path, bus, batch_records=3, failpoint=crash)
    done = await publish(path, bus, batch_records=3)
    assert (done.accepted, done.known) == (2, 8)
    assert len(set(bus.taken)) == 10


async def test_without_its_position_or_at_another_bus_every_row_is_sent(
    tmp_path: Path, bus: FakeBus
) -> None:
    path = csv_file(tmp_path, rows=3)
    await publish(path, bus)
    path.with_name("records.csv.position").unlink()
    assert (await publish(path, bus)).sent == 3
    assert len(set(bus.taken)) == 3, "under the same ids, so the bus takes them once"
    edit(path, "MZ-1", "MZ-x")
    async with httpx2.AsyncClient(transport=httpx2.MockTransport(bus)) as client:
        done = await publish_file(path, "d", "http://other", "key-1", client=client)
    assert (done.sent, done.known) == (3, 0)


async def test_rows_beyond_the_limit_are_sent_with_every_version(
    tmp_path: Path, bus: FakeBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filememory, "ROWS_MAX", 4)
    path = csv_file(tmp_path, rows=6)
    for old, new in zip("0abcde", "abcdef", strict=True):
        await publish(path, bus)
        edit(path, f"MZ-{old},", f"MZ-{new},")
    done = await publish(path, bus)
    assert (done.known, done.sent) == (3, 3)
    assert len(set(bus.taken)) == len(bus.taken)


async def test_a_fault_that_is_waited_out_is_told_once_and_at_once(
    tmp_path: Path, bus: FakeBus
) -> None:
    heard: list[tuple[str, float]] = []
    bus.before = lambda n: httpx2.Response(503) if n <= 2 else None
    await publish(csv_file(tmp_path), bus, on_fault=lambda *told: heard.append(told))
    assert heard == [("HTTP 503", 2.0)]


async def test_the_same_content_elsewhere_has_the_same_ids(tmp_path: Path, bus: FakeBus) -> None:
    (tmp_path / "other").mkdir()
    await publish(csv_file(tmp_path), bus)
    await publish(csv_file(tmp_path / "other"), bus)
    assert bus.taken[:10] == bus.taken[10:]


async def test_refused_rows_are_reported_by_line_without_values(
    tmp_path: Path, bus: FakeBus
) -> None:
    path = csv_file(tmp_path, bad=(0, 7))
    done = await publish(path, bus, batch_records=3)
    assert (done.accepted, done.refused) == (8, 2)
    assert [(each["line"], each["reason"], each["path"]) for each in report(path)] == [
        (2, "BAD_VALUE", "name"),
        (9, "BAD_VALUE", "name"),
    ]


@pytest.mark.parametrize("step", ["after-ack", "between-batches"])
async def test_after_a_crash_it_goes_on_and_reports_nothing_twice(
    tmp_path: Path, bus: FakeBus, step: str
) -> None:
    path = csv_file(tmp_path, bad=(1, 4, 8))
    reached = 0

    def crash(here: str) -> None:
        nonlocal reached
        reached += here == step
        if here == step and reached == 2:
            raise CrashError

    with pytest.raises(CrashError):
        await publish(path, bus, batch_records=3, failpoint=crash)
    done = await publish(path, bus, batch_records=3)
    assert (done.accepted, done.refused) == (7, 3)
    assert len(set(bus.taken)) == 7
    assert [each["line"] for each in report(path)] == [3, 6, 10]


async def test_passing_faults_are_tried_again_and_others_are_not(
    tmp_path: Path, bus: FakeBus
) -> None:
    path = csv_file(tmp_path)
    busy = httpx2.Response(503, headers={"retry-after": "0"}, json={})
    bus.before = lambda n: busy if n <= 2 else None
    assert (await publish(path, bus)).accepted == 10
    assert bus.requests == 3
    with pytest.raises(Rejected, match="UNAUTHENTICATED"):
        await publish(csv_file(tmp_path, rows=3), bus, key="wrong")
    with pytest.raises(Rejected, match="dataset"):
        await publish(path, bus, dataset="not-mine")


async def test_when_the_bus_stays_away_it_says_how_to_go_on(tmp_path: Path, bus: FakeBus) -> None:
    path = csv_file(tmp_path)
    bus.before = lambda n: httpx2.Response(503) if n > 1 else None
    with pytest.raises(Retryable, match="run again"):
        await publish(path, bus, batch_records=5, patience_s=0.5)
    bus.before = lambda _: None
    assert (await publish(path, bus)).accepted == 10
    assert len(bus.taken) == 10


async def test_ids_may_come_from_a_column(tmp_path: Path, bus: FakeBus) -> None:
    await publish(csv_file(tmp_path, rows=2), bus, id_column="decision_no")
    assert bus.taken == ["MZ-0", "MZ-1"]
    with pytest.raises(Rejected, match="no_such"):
        await publish(csv_file(tmp_path, rows=3), bus, id_column="no_such")


async def test_a_column_that_is_no_item_may_hold_the_ids(tmp_path: Path, bus: FakeBus) -> None:
    path = tmp_path / "records.csv"
    values = ",".join(str(data()[name]) for name in COLUMNS)
    path.write_text(f"id,{','.join(COLUMNS)}\ne-7,{values}\n,{values}\n")
    done = await publish(path, bus, id_column="id")
    assert (done.accepted, done.refused, bus.taken) == (1, 1, ["e-7"])
    assert "id" not in bus.last["data"]
    lines = tmp_path / "records.ndjson"
    lines.write_bytes(b"\xef\xbb\xbf" + json.dumps({"id": "e-8"} | data()).encode())
    assert (await publish(lines, bus, id_column="id")).accepted == 1
    assert (bus.taken[-1], "id" in bus.last["data"]) == ("e-8", False)
    lines.write_bytes(b'\n{"a":\n')
    assert (await publish(lines, bus)).refused == 1
    told = report(lines)[0]
    assert (told["line"], told["en"][:15]) == (2, "not proper JSON")
    assert "at character 6" in told["en"]


async def test_ndjson_lines_are_events_or_bare_items(tmp_path: Path, bus: FakeBus) -> None:
    path = tmp_path / "records.ndjson"
    lines: list[Any] = [{"id": "own", "data": data()}, data(), [1]]
    raw = b"".join(json.dumps(each).encode() + b"\n" for each in lines)
    path.write_bytes(raw + b'{"a":1,"a":2}\n\n' + b"x" * 2_000_000 + b"\n" + b'{"name":"bad"}')
    done = await publish(path, bus)
    assert (done.accepted, done.refused) == (2, 4)
    assert bus.taken[0] == "own"
    assert [each["line"] for each in report(path)] == [3, 4, 6, 7]


async def test_where_csv_cannot_be_read_on_the_rows_before_are_published(
    tmp_path: Path, bus: FakeBus
) -> None:
    path = csv_file(tmp_path, rows=3)
    path.write_bytes(path.read_bytes() + b'"never closed\n')
    for _ in range(2):
        with pytest.raises(CsvRejected):
            await publish(path, bus)
        assert len(bus.taken) == 3
        assert [each["line"] for each in report(path)] == [5]


async def test_a_foreign_state_file_is_not_overwritten(tmp_path: Path, bus: FakeBus) -> None:
    path = csv_file(tmp_path)
    state = tmp_path / "precious.txt"
    state.write_text("mine")
    with pytest.raises(Rejected, match="precious"):
        await publish(path, bus, state=state)
    assert state.read_text() == "mine"
    with pytest.raises(Rejected, match="name must end"):
        await publish(state, bus)
    with pytest.raises(Rejected, match="cannot be read"):
        await publish(tmp_path / "absent.csv", bus)


def test_a_changed_file_begins_anew(tmp_path: Path) -> None:
    state = tmp_path / "s"
    kept = {"file_digest": "a", "dataset": "d", "line": 9, "accepted": 9, "refused": 0}
    state.write_text(json.dumps({**kept, "report_bytes": 0}))
    assert read_position(state, "a", "d").line == 9
    assert read_position(state, "b", "d").line == 0
