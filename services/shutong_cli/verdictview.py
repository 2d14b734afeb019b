"""A verdict as commands give it to programs."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from shutong_core.audit.verdict import Verdict


def verdict_json(verdict: Verdict) -> dict[str, Any]:
    """Whether it holds, what is wrong, what was checked, what was not."""
    return {
        "ok": verdict.ok,
        "findings_count": verdict.findings_count,
        "findings": [
            {"code": each.code, "where": each.where, "zh": each.text.zh, "en": each.text.en}
            for each in verdict.findings
        ],
        "checked": [asdict(each) for each in verdict.checked],
        "not_checked": [asdict(each) for each in verdict.not_checked],
    }
