"""A log line is one JSON object with declared keys; nothing in it can forge another."""

from __future__ import annotations

import asyncio
import gc
import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError
from hypothesis import given
from hypothesis import strategies as st

from shutong_core.domain.errors import Fatal
from shutong_core.runtime.logrepeats import KINDS_MAX, LINES_PER_SPAN, SPAN_S
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


def test_kafka_client_messages_keep_names_and_error_classes(out: io.StringIO) -> None:
    log = logging.getLogger("aiokafka.producer.sender")
    log.warning(
        "Got error on %s, retrying. Error: %s", TopicPartition("t", 3), KafkaError("441424")
    )
    log.error("Unable connect to node with id %s: %s", 1, ConnectionRefusedError(111, "refused"))
    log.warning(
        "Cannot send %r to %s: %r", dict, 7, UnicodeDecodeError("utf8", b"441424", 0, 1, "x")
    )
    log.info("Joined %s with %s", {"a": "441424"}, {TopicPartition("t", 0)})
    assert [line["event"] for line in lines(out)] == [
        "Got error on t:3, retrying. Error: KafkaError",
        "Unable connect to node with id 1: ConnectionRefusedError: [Errno 111] refused",
        "Cannot send dict to 7: UnicodeDecodeError",
        "Joined dict with t:0",
    ]


def test_arguments_of_unknown_libraries_are_never_written(out: io.StringIO) -> None:
    logging.getLogger("h11").warning("cannot read %s", "441424199001011234")
    logging.getLogger("other").error(ValueError("441424199001011234"))
    logging.getLogger("other").error("x" * 5000)
    assert [len(str(line["event"])) for line in lines(out)] == [14, 0, 200]
    assert "441424" not in out.getvalue()


async def test_asyncio_never_quotes_what_an_exception_holds(out: io.StringIO) -> None:
    async def fail() -> None:
        b"441424199001011234\xff".decode()

    def call(value: str) -> None:
        raise ValueError(value)

    task = asyncio.create_task(fail())
    await asyncio.sleep(0)
    del task
    gc.collect()
    asyncio.get_running_loop().call_soon(call, "441424199001011234")
    await asyncio.sleep(0.01)
    assert "441424" not in out.getvalue()
    first, second = lines(out)
    assert first["event"] == "Task exception was never retrieved"
    assert first["error_type"] == "UnicodeDecodeError"
    assert str(second["event"]).startswith("Exception in callback test_asyncio")


def test_lines_that_repeat_are_counted_and_summed_up(
    out: io.StringIO,
) -> None:
    now = [0.0]
    configure_logs("broker", "info", out, lambda: now[0])
    kafka, own = logging.getLogger("aiokafka.client"), structlog.get_logger()
    for node in range(300):
        kafka.error("Unable connect to node with id %s: %s", node, OSError())
        own.warning("list feed interrupted", error_type="KafkaConnectionError")
        own.warning("lane lost", lane=node)
        own.info("lane taken", lane=node)
    said = [line["event"] for line in lines(out)]
    assert sum("Unable connect" in str(each) for each in said) == LINES_PER_SPAN
    assert said.count("list feed interrupted") == LINES_PER_SPAN
    assert said.count("lane lost") == said.count("lane taken") == 300
    now[0] = SPAN_S
    own.warning("list feed interrupted", error_type="KafkaConnectionError")
    summed = {line["event"]: line["count"] for line in lines(out) if "count" in line}
    assert summed == {
        "repeated: Unable connect to node with id %s: %s": 300 - LINES_PER_SPAN,
        "repeated: list feed interrupted": 300 - LINES_PER_SPAN,
    }
    assert lines(out)[-1]["event"] == "list feed interrupted"


def test_what_was_withheld_is_said_at_the_end(out: io.StringIO) -> None:
    for _ in range(9):
        logging.getLogger("aiokafka").error("gone")
    logging.getLogger().handlers[0].flush()
    assert lines(out)[-1]["count"] == 9 - LINES_PER_SPAN


def test_endless_kinds_of_lines_take_no_endless_memory(out: io.StringIO) -> None:
    for number in range(3 * KINDS_MAX):
        logging.getLogger("x").error("kind %d", number)
        logging.getLogger("x").error(f"kind {number}")
    assert len(lines(out)) <= KINDS_MAX + 2 * LINES_PER_SPAN


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
