"""Tables of the index: one row a block, and per block its sums; no record, token or identifier.

Nothing in here is evidence: each row names the block that is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Engine,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    create_engine,
    event,
)

#: Raised when the tables change: the index is then made anew, which takes nothing but time.
VERSION = 1
METADATA = MetaData()


def _block() -> tuple[Column[Any], ...]:
    return (
        Column("lane", Integer, nullable=False),
        Column("sequence", BigInteger, nullable=False),
        Column("day", String(10), nullable=False),  # of the decision, in China's time
        Column("decided_ms", BigInteger, nullable=False),
        Column("list_number", BigInteger, nullable=False),
        Column("dataset", String(48), nullable=False),
    )


ABOUT = Table(
    "about",
    METADATA,
    Column("version", Integer, nullable=False),
    Column("cluster", String(255), nullable=False),
)
BLOCKS = Table(
    "blocks",
    METADATA,
    Column("lane", Integer, primary_key=True, autoincrement=False),
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("next_offset", BigInteger, nullable=False),
    Column("header_hash", LargeBinary(32), nullable=False),
    Column("list_number", BigInteger, nullable=False),
    Column("decided_ms", BigInteger, nullable=False),
    Column("rows", Integer, nullable=False),
    Column("refused", Integer, nullable=False),
    Column("placed", BigInteger, nullable=False),
)
#: What publishers brought in: outcome `passed`, or the reason of the refusal.
INTAKES = Table(
    "intakes",
    METADATA,
    *_block(),
    Column("publisher", String(18), nullable=False),  # organisation
    Column("outcome", String(40), nullable=False),
    Column("count", BigInteger, nullable=False),
    Index("intakes_day", "day", "publisher", "dataset"),
)
#: What grants received, or not: verdict `placed`, `outside`, or a reason.
FLOWS = Table(
    "flows",
    METADATA,
    *_block(),
    Column("grant_id", String(48), nullable=False),
    Column("provider", String(18), nullable=False),  # the giving organisation
    Column("requester", String(18), nullable=False),  # "" of a class grant
    Column("giver", Integer, nullable=False),  # level, 0 nation … 4 town
    Column("receiver", Integer, nullable=False),
    Column("direction", String(8), nullable=False),  # "" where a class has several
    Column("verdict", String(40), nullable=False),
    Column("count", BigInteger, nullable=False),
    Index("flows_day", "day", "verdict"),
    Index("flows_grant", "grant_id", "day"),
    Index("flows_provider", "provider", "day"),
    Index("flows_requester", "requester", "day"),
)
#: Which records of a grant a block placed, and the chain after them.
PLACEMENTS = Table(
    "placements",
    METADATA,
    *_block(),
    Column("grant_id", String(48), nullable=False),
    Column("first_k", BigInteger, nullable=False),
    Column("last_k", BigInteger, nullable=False),
    Column("chain_after", LargeBinary(32), nullable=False),  # delivery chain after last_k
    Index("placements_day", "day", "grant_id", "lane"),
    Index("placements_k", "grant_id", "lane", "last_k"),
)


def open_index(url: str | None, data_dir: Path) -> Engine:
    """The engine of the index; without `url` a SQLite file in the auditor's directory."""
    if url is None:
        directory = data_dir / "auditor"
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        url = f"sqlite:///{directory / 'index.sqlite3'}"
    engine = create_engine(url)
    if engine.dialect.name == "sqlite":

        @event.listens_for(engine, "connect")
        def _on_connect(connection: Any, _: Any) -> None:
            # Readers go on while the indexer writes; what a loss of power takes is read anew.
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
            connection.execute("PRAGMA busy_timeout=10000")

    return engine
