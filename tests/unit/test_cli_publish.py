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
            if self.headers["Authorization"] != f"Bearer {KEY}":
                self._answer({"reason": "UNKNOWN_KEY", "zh": "密钥无效", "en": "bad key"}, 401)
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
    assert len(bus.codes) == 3
    again = publish(rows, key, bus.url, "--json")
    assert json.loads(again.stdout)["accepted"] == 3
    assert len(bus.codes) == 3, "what was taken is not sent again"


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
