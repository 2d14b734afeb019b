"""A log line is one JSON object with declared keys; nothing in it can forge another."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from shutong_core.domain.errors import Fatal
from shutong_core.runtime.logs import LINE_CHARS_MAX, configure_logs, render


@pytest.fixture
def out() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    configure_logs("broker", "info", stream)
    yield stream
    structlog.reset_defaults()
    root.handlers[:], root.level = handlers, level


def lines(out: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_a_line_starts_with_time_level_service_event(out: io.StringIO) -> None:
    structlog.get_logger().info("lane taken", lane=3)
    [line] = lines(out)
    assert list(line) == ["ts", "level", "service", "event", "lane"]
    assert line["service"] == "broker"
    assert line["lane"] == 3


def test_the_value_of_an_undeclared_key_is_never_written(out: io.StringIO) -> None:
    structlog.get_logger().warning("oops", record={"id_number": "441424199001011234"})
    [line] = lines(out)
    assert line["undeclared"] == ["record"]
    assert "441424" not in out.getvalue()


def test_the_text_of_a_foreign_exception_is_not_written_but_its_place_is(
    out: io.StringIO,
) -> None:
    try:
        int("441424199001011234x")
    except ValueError:
        structlog.get_logger().exception("cannot read")
    [line] = lines(out)
    assert line["error_type"] == "ValueError"
    assert "441424" not in out.getvalue()
    assert "test_logs.py" in str(line["frames"])


def test_our_own_faults_say_their_text(out: io.StringIO) -> None:
    structlog.get_logger().error("fatal", exc_info=Fatal("disk is full"))
    assert lines(out)[0]["error"] == "disk is full"


def test_other_libraries_log_in_the_same_form(out: io.StringIO) -> None:
    logging.getLogger("aiokafka.conn").warning("cannot connect to %s\n{}", "x")
    [line] = lines(out)
    assert line["logger"] == "aiokafka.conn"
    assert line["event"] == "cannot connect to x\\u000a{}"


def test_a_level_below_the_threshold_is_silent(out: io.StringIO) -> None:
    structlog.get_logger().debug("noise")
    logging.getLogger("aiokafka").debug("noise")
    assert out.getvalue() == ""


@given(st.text(max_size=300), st.text(max_size=300))
def test_no_input_can_break_a_line_or_leave_its_string(message: str, value: str) -> None:
    text = render("broker", "info", message, {"error": value})
    assert len(text.splitlines()) == 1
    assert set(json.loads(text)) == {"ts", "level", "service", "event", "error"}
    assert not any(ord(char) < 0x20 or 0x7F <= ord(char) < 0xA0 for char in text)


def test_a_forged_line_and_a_terminal_sequence_come_out_as_text() -> None:
    text = render("broker", "info", 'x\n{"level":"error"}\x1b[2J\u202e\x9b', {})
    assert "\n" not in text
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "\x9b" not in text


def test_lines_are_capped() -> None:
    text = render("broker", "info", "m" * 10_000, {"reasons": ["x" * 5_000] * 50})
    assert len(text) <= LINE_CHARS_MAX
    assert json.loads(text)["truncated_chars"] > LINE_CHARS_MAX


def test_numbers_that_json_lacks_become_text() -> None:
    found = json.loads(render("b", "info", "m", {"seconds": float("nan"), "bytes": float("inf")}))
    assert (found["seconds"], found["bytes"]) == ("nan", "inf")
