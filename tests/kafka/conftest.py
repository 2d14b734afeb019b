"""Fixtures of the tests that have an auditor over sample blocks."""

from __future__ import annotations

from pathlib import Path

import pytest

from kafka.audited_bus import AuditedBus
from shutong_core.runtime.kafka_server import EmbeddedKafka


@pytest.fixture
async def bus(
    kafka: EmbeddedKafka, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AuditedBus:
    """Topics without any block yet."""
    made = AuditedBus(kafka, prefix, tmp_path / "data")
    await made.create(monkeypatch)
    return made
