"""The texts of the bus's own schemas, from the checkout."""

from __future__ import annotations

from pathlib import Path

from shutong_core.wire.busrecords import BusCodec

FOLDER = Path(__file__).resolve().parents[2] / "schemas" / "bus"
TEXTS = tuple(path.read_text() for path in sorted(FOLDER.glob("*.avsc")))


def codec() -> BusCodec:
    """A codec of all bus schemas."""
    return BusCodec(TEXTS)
