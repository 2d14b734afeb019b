"""Which Avro schemas are admitted: every rule a schema must pass before it is used or stored.

The rules keep out what makes decoders disagree, loop or explode (recursion, zero-width items,
look-alike names, defaults of another branch) before any Avro library sees the text. This module
takes the text apart; `visit` holds the rules about types.
"""

from __future__ import annotations

from typing import Any

from shutong_core.domain.canonical import canonical
from shutong_core.wire.findings import FINDINGS_MAX, TEXT_BYTES_MAX, Finding, Reading
from shutong_core.wire.strictjson import NotJson, loads
from shutong_core.wire.visit import Visitor

__all__ = ["Finding", "lint_schema", "read_schema"]


def lint_schema(text: bytes | str) -> tuple[Finding, ...]:
    """All rules that the schema `text` breaks (at most FINDINGS_MAX); empty = admitted."""
    return tuple(read_schema(text).findings)


def read_schema(text: bytes | str) -> Reading:
    """Lint `text` and, where it is sound, give its shape and metadata. Raises nothing."""
    reading = Reading()
    parsed = _load(text, reading)
    if parsed is not None:
        reading.parsed = parsed
        Visitor(reading).top(parsed)
        del reading.findings[FINDINGS_MAX:]
    return reading


def _load(text: bytes | str, reading: Reading) -> dict[str, Any] | None:
    """The schema as JSON values, or None with the reason in the findings."""
    try:
        raw = text.encode() if isinstance(text, str) else text
        if len(raw) > TEXT_BYTES_MAX:
            reading.found(
                "",
                f"模式文本超过 {TEXT_BYTES_MAX} 字节",
                f"the schema text is longer than {TEXT_BYTES_MAX} bytes",
            )
            return None
        parsed = loads(raw)
        # What cannot be written canonically has no identity (RFC 8785, I-JSON).
        canonical(parsed)
    except NotJson as error:
        zh, en = f"不是可用的 JSON 文本：{error.zh}", f"not usable as JSON text: {error.en}"
        reading.found("", zh, en)
        return None
    except ValueError:
        reading.found(
            "",
            "有数字超出 ±2^53，或文本含不成对的代理字符",
            "a number is beyond ±2^53, or text has lone surrogates",
        )
        return None
    if not isinstance(parsed, dict) or parsed.get("type") != "record":
        reading.found("", "顶层必须是 record", "the top level must be a record")
        return None
    return parsed
