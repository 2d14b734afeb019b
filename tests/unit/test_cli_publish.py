"""`shutong publish`: what it asks of its input, what it tells of the bus's answers."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from unit.cli_runner import clean_logs, shutong

__all__ = ["clean_logs"]
pytestmark = pytest.mark.usefixtures("clean_logs")
KEY = "stk_" + "a" * 43
ITEM = {"name": "code", "avro": "string", "logical": None, "nullable": False, "symbols": []}


@dataclass
class Bus:
    """A producer service that takes every record but those with code `bad`."""

    url: str = ""
    keys: list[str] = field(default_factory=list)
    codes: list[str] = field(default_factory=list)
    refused: list[dict[str, Any]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    away: int = 0

    def results(self, body: bytes) -> list[dict[str, Any]]:
        found = []
        for line in body.splitlines():
            text = json.dumps(json.loads(line))
            self.codes.append(text)
            refused = {"reason": "QUALITY", "path": "code", "zh": "不对", "en": "wrong"}
            found.append(
                {"outcome": "refused", "problem": refused}
                if '"bad"' in text
                else {"outcome": "accepted"}
            )
        return found


@pytest.fixture
def bus() -> Iterator[Bus]:
    state = Bus()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.keys.append(self.headers["Authorization"])
            if state.away > 0:
                state.away -= 1
                self._answer({}, 503)
                return
            if self.headers["Authorization"] != f"Bearer {KEY}":
                self._answer({"reason": "UNKNOWN_KEY", "zh": "密钥无效", "en": "bad key"}, 401)
            elif self.path.startswith("/v1/refusals"):
                state.asked.append(self.path)
                self._answer({"refusals": state.refused, "next": "cur", "more": False})
            else:
                self._answer({"datasets": [{"id": "births", "items": [ITEM]}]})

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self._answer({"results": state.results(body)})

        def _answer(self, document: dict[str, Any], status: int = 200) -> None:
            data = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        state.url = f"http://127.0.0.1:{server.server_port}"
        yield state
        server.shutdown()
        thread.join()


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "system.key"
    path.touch(mode=0o600)
    path.write_text(f"{KEY}\n")
    return path


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "births.csv"
    path.write_text("code\na\nb\nc\n")
    return path


def publish(rows: Path, key: Path, url: str, *more: str, dataset: str = "births") -> Any:
    return shutong(
        *("publish", str(rows), "--dataset", dataset, "--key-file", str(key), "--url", url, *more)
    )


def test_every_row_is_published_and_counted(bus: Bus, rows: Path, key: Path) -> None:
    done = publish(rows, key, bus.url)
    assert (done.exit_code, done.stderr) == (0, "")
    assert "3 records accepted, 0 refused" in done.stdout
    assert f"shutong refusals --key-file {key} --url {bus.url}\n" in done.stdout
    assert len(bus.codes) == 3
    again = publish(rows, key, bus.url, "--json")
    assert json.loads(again.stdout)["accepted"] == 3
    assert len(bus.codes) == 3, "what was taken is not sent again"


def test_of_a_corrected_file_only_the_new_rows_are_counted_as_accepted(
    bus: Bus, rows: Path, key: Path
) -> None:
    rows.write_text("code\na\nbad\nc\n")
    assert publish(rows, key, bus.url).exit_code == 2
    rows.write_text("code\na\nb\nc\n")
    done = publish(rows, key, bus.url)
    assert "1 records accepted, 0 refused, 2 already accepted before" in done.stdout
    assert "nothing was sent" in publish(rows, key, bus.url).stdout


def test_a_file_without_rows_is_hinted_at(bus: Bus, rows: Path, key: Path) -> None:
    rows.write_text("code\n")
    done = publish(rows, key, bus.url)
    assert (done.exit_code, done.stdout) == (0, "")
    assert "没有数据行" in done.stderr


def test_a_bus_that_is_away_is_said_at_once_in_a_pipe_too(bus: Bus, rows: Path, key: Path) -> None:
    bus.away = 1
    done = publish(rows, key, bus.url)
    assert done.exit_code == 0
    assert "HTTP 503, trying again for up to 30 s" in done.stderr


def test_refusals_are_grouped_by_reason_without_repeats(bus: Bus, key: Path) -> None:
    one = {"dataset": "births", "path": "region", "zh": "区划", "en": "region"}
    bus.refused = [
        one | {"id": "e-1", "reason": "UNKNOWN_REGION", "at": "2026-09-20T00:00:00.000Z"},
        one | {"id": "e-2", "reason": "UNKNOWN_REGION", "at": "2026-09-21T00:00:00.000Z"},
        one | {"id": "e-3", "reason": "BAD_USCC", "at": "2026-09-21T00:00:00.000Z"},
    ]
    asked = ("refusals", "--url", bus.url, "--key-file", str(key))
    done = shutong(*asked)
    assert done.exit_code == 0, done.stderr
    assert done.stdout.index("births UNKNOWN_REGION × 2") < done.stdout.index("BAD_USCC × 1")
    assert "  e-2  2026-09-21T00:00:00.000Z  region\n" in done.stdout
    assert "--since cur" in done.stderr
    assert "exclude=DUPLICATE" in bus.asked[-1]
    later = shutong(*asked, "--since", "2026-09-21", "--reason", "BAD_USCC", "--json")
    assert [each["id"] for each in json.loads(later.stdout)["refusals"]] == ["e-2", "e-3"]
    assert "reason=BAD_USCC" in bus.asked[-1]
    assert "exclude" not in bus.asked[-1]
    shutong(*asked, "--since", "cur")
    assert "since=cur" in bus.asked[-1]


def test_refused_rows_end_with_2_and_are_listed(bus: Bus, rows: Path, key: Path) -> None:
    rows.write_text("code\na\nbad\n")
    done = publish(rows, key, bus.url, "--json")
    assert done.exit_code == 2
    found = json.loads(done.stdout)
    assert (found["accepted"], found["refused"]) == (1, 1)
    report = Path(found["report"]).read_text(encoding="utf-8")
    assert json.loads(report)["line"] == 3
    assert found["report"] in done.stderr


def test_the_key_is_never_shown(bus: Bus, rows: Path, key: Path) -> None:
    key.write_text(f"{KEY}x\n")
    done = publish(rows, key, bus.url)
    assert done.exit_code == 2
    assert "密钥无效" in done.stderr
    assert KEY not in done.output


def test_a_dataset_of_others_is_refused(bus: Bus, rows: Path, key: Path) -> None:
    done = publish(rows, key, bus.url, dataset="deaths")
    assert done.exit_code == 2
    assert "deaths" in done.stderr


@pytest.mark.parametrize("text", ["", "two words", "密钥", "a\nb"])
def test_a_file_without_one_key_is_refused(bus: Bus, rows: Path, key: Path, text: str) -> None:
    key.write_text(text, encoding="utf-8")
    done = publish(rows, key, bus.url)
    assert done.exit_code == 2
    assert "no key file" in done.stderr
    assert bus.keys == []


def test_a_key_file_open_to_others_is_said(bus: Bus, rows: Path, key: Path) -> None:
    key.chmod(0o644)
    done = publish(rows, key, bus.url)
    assert done.exit_code == 0
    assert "chmod 600" in done.stderr


@pytest.mark.parametrize("url", ["http://10.0.0.1:8801", "http://bus.example", "http://[::2]:1"])
def test_a_key_never_travels_readable(rows: Path, key: Path, url: str) -> None:
    done = publish(rows, key, url)
    assert done.exit_code == 2
    assert "not encrypted" in done.stderr


@pytest.mark.parametrize("url", ["bus", "ftp://bus", "http://", "http://[::1", "http://a:port"])
def test_an_address_that_is_none_is_refused(rows: Path, key: Path, url: str) -> None:
    done = publish(rows, key, url)
    assert done.exit_code == 2
    assert "no http(s) address" in done.stderr
