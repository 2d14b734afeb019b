"""Commands against a real Kafka: publish, look, register, issue keys, verify."""

from __future__ import annotations

import json
import shutil
import stat
from pathlib import Path
from typing import Any

import pytest

from e2e.kafka_reading import read_all
from shutong_core.audit.access import AccessVerifier
from shutong_core.domain.errors import Retryable
from shutong_core.runtime.kafka_server import EmbeddedKafka
from shutong_core.runtime.keyring import Keyring
from shutong_core.runtime.node import bus_codec
from shutong_core.wire.busrecords import AccessEvent
from unit.cli_runner import clean_logs, shutong

__all__ = ["clean_logs"]
pytestmark = [pytest.mark.kafka, pytest.mark.usefixtures("clean_logs")]
STORY = Path(__file__).resolve().parents[2] / "deploy/samples/story"
ENVIRONMENT = {"KAFKA_REPLICATION": "1", "KAFKA_MIN_ISR": "1"}


@pytest.fixture
def data(
    kafka: EmbeddedKafka, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """The data directory of a node of its own on the session's Kafka."""
    given = ENVIRONMENT | {
        "PREFIX": prefix,
        "DATA_DIR": str(tmp_path / "data"),
        "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
    }
    for name, value in given.items():
        monkeypatch.setenv(f"SHUTONG_{name}", value)
    return tmp_path / "data"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A copy of the sample list that a test may change."""
    shutil.copytree(STORY, tmp_path / "story")
    return tmp_path / "story" / "list.yaml"


def change_a_grant(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    new = text.replace("scenario: 省内统计报表的区划对照", "scenario: 省内统计年报的区划对照")
    file.write_text(new, encoding="utf-8")


def answer(*arguments: str) -> Any:
    """What a command prints as JSON; it must succeed and print nothing else."""
    done = shutong(*arguments, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_a_list_is_published_looked_at_and_changed(data: Path, file: Path) -> None:
    foreseen = answer("list", "publish", str(file), "--dry-run")
    assert (foreseen["number"], foreseen["dry_run"]) == (1, True)
    assert not data.exists()

    first = shutong("list", "publish", str(file))
    assert first.exit_code == 0, first.output
    assert f"keyring {data / 'keyring'} was made" in " ".join(first.stderr.split())
    assert "list 1 (" in first.stdout

    again = shutong("list", "publish", str(file))
    assert (again.exit_code, again.stderr) == (0, "")
    assert "没有变化" in again.stdout
    assert "nothing changed" in again.stdout

    shown = answer("list", "show", "grant")
    assert shown["number"] == 1
    assert {row["kind"] for row in shown["rows"]} == {"grant"}
    assert "allowance-towns" in shutong("list", "show", "grant").stdout
    datasets = shutong("list", "show", "dataset").stdout
    assert "provider 广东省民政厅（示例） [gd-civil]" in datasets
    assert "publisher 五华县民政局（示例） [wuhua-civil]" in datasets
    systems = shutong("list", "show", "system").stdout
    assert "publishes subsistence-allowance" in systems
    assert "allowance-meizhou-medical-aid" in systems
    assert shutong("list", "show", "nonsense").exit_code == 2

    change_a_grant(file)
    told = answer("list", "diff", str(file))
    assert told == {
        "added": [],
        "changed": {
            "grant/divisions-guangdong": {
                "scenario": ["省内统计报表的区划对照", "省内统计年报的区划对照"]
            }
        },
        "removed": [],
    }
    assert "→ 省内统计年报的区划对照" in shutong("list", "diff", str(file)).stdout

    second = answer("list", "publish", str(file))
    assert (second["number"], second["changed"]) == (2, ["grant/divisions-guangdong"])
    steps = answer("list", "history")
    assert [(step["number"], step["changed"]) for step in steps] == [(1, len(shown_rows())), (2, 1)]
    assert steps[1]["digest"] == second["digest"]
    assert "same as list 2" in shutong("list", "diff", str(file)).stdout


def shown_rows() -> list[Any]:
    found: list[Any] = answer("list", "show")["rows"]
    return found


def test_a_refused_list_leaves_the_one_in_force_and_exits_with_2(data: Path, file: Path) -> None:
    assert shutong("list", "publish", str(file)).exit_code == 0
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace("purpose: statistics", "purpose: nobody-knows"), encoding="utf-8")
    done = shutong("list", "publish", str(file))
    assert done.exit_code == 2
    assert f"{file}:" in done.stderr
    assert "nobody-knows" in done.stderr
    assert answer("list", "show")["number"] == 1


def test_keys_are_issued_only_to_systems_of_the_list(
    data: Path, file: Path, tmp_path: Path
) -> None:
    too_early = shutong("key", "issue", "anybody")
    assert too_early.exit_code == 2
    assert "shutong list publish" in too_early.stderr
    assert shutong("list", "publish", str(file)).exit_code == 0
    assert shutong("key", "issue", "nobody").exit_code == 2
    system = answer("list", "show", "system")["rows"][0]["id"]
    key = shutong("key", "issue", system).stdout.strip()
    lookup = Keyring(data / "keyring").api_keys().lookup
    assert lookup(key) == system
    out = tmp_path / "system.key"
    told = shutong("key", "issue", system, "--out", str(out))
    assert told.exit_code == 0
    assert lookup(out.read_text().strip()) == system
    assert out.read_text().strip() not in told.output
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert shutong("key", "issue", system, "--out", str(out)).exit_code == 2
    assert "2 keys" in shutong("key", "revoke", system).stdout
    assert lookup(key) is None
    assert shutong("key", "revoke", system).exit_code == 2


def test_a_schema_is_registered_once_and_the_list_takes_its_id(
    data: Path, prefix: str, file: Path
) -> None:
    schema = str(file.parent / "schemas" / "subsistence-allowance.avsc")
    subject = f"{prefix}.inbound.subsistence-allowance-value"
    made = answer("schema", "add", schema, "--subject", subject)
    assert (made["id"], made["version"], made["new"]) == (1, 1, True)
    assert answer("schema", "add", schema, "--subject", subject) == made | {"new": False}
    assert shutong("list", "publish", str(file)).exit_code == 0
    rows = answer("list", "show", "dataset")["rows"]
    ids = {row["id"]: [each["id"] for each in row["schemas"]] for row in rows}
    assert ids["subsistence-allowance"] == [1]
    assert sorted(number for each in ids.values() for number in each)[0] == 1
    assert len({number for each in ids.values() for number in each}) == len(ids)


def test_an_incompatible_or_misplaced_schema_is_refused(
    data: Path, prefix: str, file: Path
) -> None:
    schema = file.parent / "schemas" / "subsistence-allowance.avsc"
    subject = f"{prefix}.inbound.subsistence-allowance-value"
    assert shutong("schema", "add", str(schema), "--subject", subject).exit_code == 0
    found = json.loads(schema.read_text(encoding="utf-8"))
    dropped = found["fields"].pop()
    schema.write_text(json.dumps(found), encoding="utf-8")
    done = shutong("schema", "add", str(schema), "--subject", subject)
    if "default" not in dropped:
        assert done.exit_code == 2
        assert dropped["name"] in done.stderr
    for wrong in ("nonsense", f"{prefix}.delivery.x-value", "other.inbound.x-value"):
        assert shutong("schema", "add", str(schema), "--subject", wrong).exit_code == 2


def test_the_audit_of_a_bus_that_did_nothing_verifies_and_says_what_was_not_checked(
    data: Path, file: Path
) -> None:
    nothing = shutong("audit", "verify", "--kafka")
    assert nothing.exit_code == 1
    assert shutong("audit", "verify").exit_code == 2
    assert shutong("list", "publish", str(file)).exit_code == 0
    verdict = answer("audit", "verify", "--kafka", "--level", "1")
    assert verdict["ok"]
    assert verdict["not_checked"]
    told = shutong("audit", "verify", "--kafka")
    assert told.exit_code == 0
    assert "校验通过" in told.stdout
    assert "Verified." in told.stdout


def test_a_running_embedded_kafka_is_found_in_the_data_directory(
    kafka: EmbeddedKafka,
    data: Path,
    file: Path,
    prefix: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("SHUTONG_KAFKA_BOOTSTRAP_SERVERS")
    assert shutong("kafka", "status").exit_code == 1
    data.mkdir()
    (data / "kafka").symlink_to(kafka.data_dir)
    found = answer("kafka", "status")
    assert (found["running"], found["address"]) == (True, kafka.bootstrap_servers)
    assert found["pid"] == kafka.pid
    assert shutong("list", "publish", str(file)).exit_code == 0
    assert answer("kafka", "status")["topics"] > 10


@pytest.mark.usefixtures("data")
def test_verifying_a_grant_that_no_list_has_is_refused(file: Path) -> None:
    assert shutong("list", "publish", str(file)).exit_code == 0
    done = shutong("audit", "verify", "--kafka", "--grant", "nosuch")
    assert done.exit_code == 2, done.output
    assert "List 1 has no grant nosuch" in done.stderr
    assert "Verified" not in done.stdout


def test_the_policy_of_the_list_in_force_is_explained_without_its_keys(
    data: Path, file: Path
) -> None:
    assert shutong("policy", "explain", "subsistence-allowance").exit_code == 2
    assert shutong("list", "publish", str(file)).exit_code == 0
    told = answer("policy", "explain", "subsistence-allowance", "--grant", "allowance-statistics")
    assert told["list"]["number"] == 1
    (grant,) = told["grants"]
    assert grant["items"]["id_number"] == "keep 6+0"
    offline = answer("policy", "explain", "subsistence-allowance", "--file", str(file))
    assert told["source"] == offline["source"]
    shown = shutong("policy", "explain", "subsistence-allowance").stdout
    ring = Keyring(data / "keyring")
    for key_id in ("grant/allowance-statistics/1", "tokens/1", "event-ids/1"):
        secret = ring.secret(key_id)
        assert secret.hex() not in shown
        assert repr(secret) not in shown
    assert "def " in told["source"]


def acts(kafka: EmbeddedKafka, prefix: str) -> list[AccessEvent]:
    """What stands on topic access, each chain checked."""
    codec = bus_codec()
    verifier = AccessVerifier(lambda raw: codec.decode_as(AccessEvent, raw))
    stored = read_all(kafka.bootstrap_servers, [f"{prefix}.access"])
    assert [verifier.feed(each.value or b"") for each in stored] == [None] * len(stored)
    events = [codec.decode_as(AccessEvent, each.value or b"") for each in stored]
    return sorted(events, key=lambda each: (each.at_ms, each.sequence))


def test_every_act_of_a_command_is_on_record_before_or_with_its_effect(
    data: Path, file: Path, kafka: EmbeddedKafka, prefix: str
) -> None:
    done = shutong("key", "issue", "wuhua-civil", "--unchecked")
    assert "not on record" in done.stderr
    shutong("list", "publish", str(file))
    grants = {row["id"] for row in answer("list", "show", "grant")["rows"]}
    first = acts(kafka, prefix)
    assert (first[0].action, first[0].target) == ("list.activate", "list/1")
    digest = answer("list", "history")[0]["digest"]
    assert digest in first[0].detail
    assert {each.target for each in first[1:]} == {f"grant/{grant}" for grant in grants}
    assert {each.action for each in first[1:]} == {"grant.add"}
    assert {each.actor.split("/")[0] for each in first} == {"cli"}

    shutong("list", "publish", str(file))
    assert len(acts(kafka, prefix)) == len(first), "nothing changed, so nothing was done"

    text = file.read_text(encoding="utf-8")
    marked = "    scenario: 省内统计报表的区划对照\n"
    assert text.count(marked) == 1
    held = marked + '    suspended: {since: "2026-11-01T00:00:00+08:00", reason: 核查}\n'
    file.write_text(text.replace(marked, held), encoding="utf-8")
    assert shutong("list", "publish", str(file)).exit_code == 0
    file.write_text(text, encoding="utf-8")
    assert shutong("list", "publish", str(file)).exit_code == 0
    assert shutong("key", "issue", "wuhua-civil").exit_code == 0
    assert shutong("key", "revoke", "wuhua-civil").exit_code == 0
    later = [(each.action, each.target) for each in acts(kafka, prefix)[len(first) :]]
    assert later == [
        ("list.activate", "list/2"),
        ("grant.suspend", "grant/divisions-guangdong"),
        ("list.activate", "list/3"),
        ("grant.resume", "grant/divisions-guangdong"),
        ("key.issue", "system/wuhua-civil"),
        ("key.revoke", "system/wuhua-civil"),
    ]


def test_an_act_that_cannot_be_put_on_record_is_not_done(
    data: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutong("list", "publish", str(file))
    before = (data / "keyring" / "trust.json").read_bytes()

    async def refuse(*_: object, **__: object) -> bool:
        raise Retryable("the act could not be put on record")

    monkeypatch.setattr("shutong_cli.onrecord.write_act", refuse)
    done = shutong("key", "issue", "wuhua-civil", "--unchecked")
    assert done.exit_code == 75
    assert "stk_" not in done.output
    assert not (data / "keyring" / "api-keys.json").exists()
    assert (data / "keyring" / "trust.json").read_bytes() == before
