"""Logs: one JSON object a line on stdout, fixed keys, never a record's values.

Rule: a value is written only under a declared key; of an undeclared one only the name is written.
Control characters are escaped and lengths capped, so no input can forge a line or a terminal
sequence. Messages of other libraries go the same way, without arguments that could quote data.
What repeats itself is written a few times and then counted.
"""

from __future__ import annotations

import contextlib
import json
import logging
import sys
import time
import traceback
from collections.abc import Callable, Mapping, MutableMapping
from datetime import UTC, datetime
from typing import Any, TextIO

import structlog

from shutong_core.domain.errors import ShutongError
from shutong_core.runtime import foreignlogs
from shutong_core.runtime.logrepeats import SPAN_S, Repeats

VALUE_CHARS_MAX = 2_000
LINE_CHARS_MAX = 8_000
FRAMES_MAX = 12
#: Every key whose value may be logged. None of them ever holds a value of a record.
LOG_KEYS = frozenset(
    {
        "action",
        "address",
        "api_key_id",
        "attempt",
        "bytes",
        "check",
        "cluster",
        "code",
        "count",
        "dataset",
        "deadline_s",
        "duration_s",
        "error",
        "error_type",
        "field",
        "frames",
        "grant",
        "group",
        "host",
        "key_id",
        "lane",
        "lanes",
        "limit",
        "list_digest",
        "list_number",
        "logger",
        "method",
        "mode",
        "name",
        "offset",
        "organisation",
        "partition",
        "path",
        "pid",
        "port",
        "prefix",
        "problem",
        "profile",
        "reason",
        "reasons",
        "records",
        "remedy",
        "schema_id",
        "seconds",
        "sequence",
        "service",
        "signal",
        "size",
        "state",
        "status",
        "step",
        "subject_name",
        "system",
        "task",
        "topic",
        "topics",
        "total",
        "transactional_id",
        "url",
        "version",
        "zh",
    }
)
_ORDER = ("ts", "level", "service", "event")
# C0, DEL, C1, line and paragraph separators, bidirectional overrides: what could forge a line or
# make it look other than it is.
_CONTROL = {
    code: f"\\u{code:04x}"
    for code in (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029, *range(0x202A, 0x202F))
} | {code: f"\\u{code:04x}" for code in (*range(0x2066, 0x206A), 0x200E, 0x200F, 0xFEFF)}


def configure_logs(
    service: str,
    level: str = "info",
    stream: TextIO | None = None,
    monotonic: Callable[[], float] = time.monotonic,
) -> None:
    """Send structlog and the standard library's logging to `stream` (default stdout) as JSON."""
    threshold = logging.getLevelNamesMapping()[level.upper()]
    out = stream or sys.stdout
    lines = _Lines(service, out, monotonic)
    structlog.configure(
        processors=[
            structlog.stdlib.add_log_level,
            _Finish(lines),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.PrintLoggerFactory(out),
        cache_logger_on_first_use=False,
    )
    handler = _Forward(lines)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(threshold, logging.INFO))
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "aiokafka"):
        logger = logging.getLogger(name)
        logger.handlers[:] = []
        logger.propagate = True
    # One line a request with the client's address is the access topic's matter, not the log's.
    logging.getLogger("uvicorn.access").disabled = True


#: What tells one of our lines from another of the same event.
_KIND = ("error_type", "lane", "dataset", "grant", "topic", "step", "task", "code")
_REPEATING = frozenset({"warning", "error", "critical"})


class _Lines:
    """Where both ways of logging meet: the stream, and what was withheld from it."""

    def __init__(
        self, service: str, stream: TextIO, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self.service = service
        self._stream = stream
        self._repeats = Repeats(monotonic)

    def admit(self, logger: str, text: str, level: str, kind: tuple[str, ...] = ()) -> bool:
        """False if enough lines of this kind were written; says first what was withheld before."""
        self.say_withheld()
        return self._repeats.admit((logger, text, level, kind), text)

    def say_withheld(self, *, everything: bool = False) -> None:
        """Write one line for each kind of which lines were withheld."""
        for each in self._repeats.over(everything=everything):
            fields = {"count": each.count, "seconds": SPAN_S}
            self.write(render(self.service, "warning", f"repeated: {each.label}", fields))

    def write(self, line: str) -> None:
        self._stream.write(line + "\n")
        self._stream.flush()


class _Finish:
    """The last structlog processor: a finished line."""

    def __init__(self, lines: _Lines) -> None:
        self._lines = lines

    def __call__(self, _: Any, __: str, event: MutableMapping[str, Any]) -> str:
        level = str(event.pop("level", "info"))
        message = str(event.pop("event", ""))
        kind = tuple(str(event.get(key, ""))[:200] for key in _KIND)
        if level in _REPEATING and not self._lines.admit("", message, level, kind):
            raise structlog.DropEvent
        return render(self._lines.service, level, message, event)


class _Forward(logging.Handler):
    """Carries records of the standard library's logging into the same form."""

    def __init__(self, lines: _Lines) -> None:
        super().__init__()
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        level = record.levelname.lower()
        if not self._lines.admit(record.name, foreignlogs.template(record), level):
            return
        fields: dict[str, Any] = {"logger": record.name}
        if record.exc_info and record.exc_info[1] is not None:
            fields["exc_info"] = record.exc_info[1]
        self._lines.write(render(self._lines.service, level, foreignlogs.message(record), fields))

    def flush(self) -> None:
        """At the end (logging.shutdown): say what was withheld and not said yet."""
        with contextlib.suppress(ValueError):  # the stream may be closed by then
            self._lines.say_withheld(everything=True)


def render(service: str, level: str, message: str, fields: Mapping[str, Any]) -> str:
    """One line of JSON without its line feed."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    line: dict[str, Any] = dict(zip(_ORDER, (now, level, service, _clean(message)), strict=True))
    undeclared = []
    for key, value in fields.items():
        if key == "exc_info":
            line |= _fault(value)
        elif key in LOG_KEYS and key not in line:
            line[key] = _clean(value)
        elif key not in line:
            undeclared.append(key)
    if undeclared:
        line["undeclared"] = _clean(sorted(undeclared))
    text = _dump(line)
    if len(text) > LINE_CHARS_MAX:
        kept = {key: line[key] for key in _ORDER}
        text = _dump(kept | {"truncated_chars": len(text)})
    return text


def _dump(line: Mapping[str, Any]) -> str:
    return json.dumps(line, ensure_ascii=False, separators=(",", ":"))


def _clean(value: Any) -> Any:
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        # JSON has no NaN and no infinity.
        return value if abs(value) < float("inf") else str(value)
    if isinstance(value, list | tuple | set | frozenset):
        return [_clean(each) for each in list(value)[:50]]
    text = value.hex() if isinstance(value, bytes) else str(value)
    text = text.encode("utf-8", "backslashreplace").decode("utf-8")[:VALUE_CHARS_MAX]
    return text.translate(_CONTROL)


def _fault(value: Any) -> dict[str, Any]:
    """Type and place of an exception; its text only if it is our own, for others may quote data."""
    fault = sys.exc_info()[1] if value is True else value
    if isinstance(fault, tuple):
        fault = fault[1]
    if not isinstance(fault, BaseException):
        return {}
    frames = traceback.extract_tb(fault.__traceback__)[-FRAMES_MAX:]
    found: dict[str, Any] = {
        "error_type": type(fault).__name__,
        "frames": [_clean(f"{each.filename}:{each.lineno} {each.name}") for each in frames],
    }
    if isinstance(fault, ShutongError | OSError):
        found["error"] = _clean(str(fault))
    return found
