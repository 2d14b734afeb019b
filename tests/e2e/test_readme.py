"""README's commands for publishing and reading, run as they stand there, on the sample's list."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.whole_bus import Bus
from shutong_core.runtime.settings import Settings

ROOT = Path(__file__).parents[2]
README, README_ZH = ROOT / "README.md", ROOT / "README.zh-CN.md"
PUBLISH, SUBSCRIBE = "key issue wuhua-civil", "key issue mz-insurance"


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bus]:
    """A bus of its own with the sample's list."""
    made = Bus(
        Settings(data_dir=tmp_path_factory.mktemp("readme"), prefix="readme"),
        ROOT / "deploy/samples/story/list.yaml",
    )
    made.start()
    try:
        yield made
    finally:
        made.stop()


def shown(page: Path, command: str) -> str:
    """The shell block of a page that has `command` in it."""
    blocks = re.findall(r"```sh\n(.*?)```", page.read_text(encoding="utf-8"), re.S)
    (found,) = [each for each in blocks if command in each]
    return str(found)


def run(bus: Bus, block: str) -> list[str]:
    """The lines that the block prints."""
    for port, service in ((8801, "producer"), (8802, "consumer"), (8803, "control")):
        block = block.replace(f"http://127.0.0.1:{port}", bus.url(service))
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("SHUTONG_")},
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "SHUTONG_DATA_DIR": str(bus.settings.data_dir),
        "SHUTONG_PREFIX": bus.settings.prefix,
    }
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=environment,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.skipif(
    not all(map(shutil.which, ("bash", "curl", "jq"))), reason="curl or jq is missing"
)
def test_what_readme_publishes_is_what_readme_reads(sample: Bus) -> None:
    publish = shown(README, PUBLISH)
    (sent,) = [json.loads(line) for line in publish.splitlines() if line.startswith("{")]
    answer = json.loads("\n".join(run(sample, publish)))
    assert [(each["id"], each["outcome"]) for each in answer["results"]] == [
        (sent["id"], "accepted")
    ]
    assert answer["receipt"]["signature"]

    first, *rest = [json.loads(line) for line in run(sample, shown(README, SUBSCRIBE))]
    for item, value in first["data"].items():
        assert value == sent["data"].get(item)
    assert first["data"]["household_no"] == sent["data"]["household_no"]
    assert "monthly_amount" not in first["data"]
    page, receipts = rest
    assert page["records"] == []
    assert receipts["receipts"]


@pytest.mark.parametrize("command", [PUBLISH, SUBSCRIBE, "list history"])
def test_both_languages_show_the_same_commands(command: str) -> None:
    def bare(page: Path) -> list[str]:
        return [re.sub(r"\s+# .*", "", line) for line in shown(page, command).splitlines()]

    assert bare(README) == bare(README_ZH)
