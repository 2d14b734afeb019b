"""Tables of the index: blocks, their sums, access events; no record, token or identifier.

Nothing in here is evidence: each row names the block that is.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)

#: Raised when the tables change: the index is then made anew, which takes nothing but time.
VERSION = 2
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
#: What publishers brought in on a day: outcome `passed`, or the reason of the refusal.
INTAKES = Table(
    "intakes",
    METADATA,
    Column("day", String(10), primary_key=True),
    Column("publisher", String(18), primary_key=True),  # organisation
    Column("dataset", String(48), primary_key=True),
    Column("outcome", String(40), primary_key=True),
    Column("list_number", BigInteger, primary_key=True, autoincrement=False),
    Column("first_ms", BigInteger, nullable=False),
    Column("last_ms", BigInteger, nullable=False),
    Column("count", BigInteger, nullable=False),
)
#: What a flow is about, in this order in both tables below.
FLOW_COLUMNS = (
    ("dataset", String(48)),
    ("grant_id", String(48)),
    ("publisher", String(18)),  # who wrote
    ("provider", String(18)),  # the giving organisation: the publisher, but for return flow
    ("requester", String(18)),  # "" of a class grant
    ("giver", Integer),  # level, 0 nation … 4 town
    ("receiver", Integer),
    ("direction", String(8)),  # "" where a class has several
    ("verdict", String(40)),  # `placed`, `outside`, or a reason
)
#: What grants received, or not, block by block.
FLOWS = Table(
    "flows",
    METADATA,
    *(column for column in _block() if column.name != "dataset"),
    *(Column(name, kind, nullable=False) for name, kind in FLOW_COLUMNS),
    Column("count", BigInteger, nullable=False),
    Index("flows_day", "day", "verdict"),
    Index("flows_grant", "grant_id", "day"),
)
#: The same, summed by day and list: a year is asked in the time of a day.
DAYS = Table(
    "days",
    METADATA,
    Column("day", String(10), primary_key=True),
    Column("list_number", BigInteger, primary_key=True, autoincrement=False),
    *(Column(name, kind, primary_key=True, autoincrement=False) for name, kind in FLOW_COLUMNS),
    Column("count", BigInteger, nullable=False),
    Index("days_provider", "provider", "day"),
    Index("days_publisher", "publisher", "day"),
    Index("days_requester", "requester", "day"),
    Index("days_grant", "grant_id", "day"),
)
#: Access events: refused and privileged requests, acts of administration.
EVENTS = Table(
    "events",
    METADATA,
    Column("number", Integer, primary_key=True, autoincrement=False),  # partition
    Column("offset", BigInteger, primary_key=True, autoincrement=False),
    Column("event_hash", LargeBinary(32), nullable=False),
    Column("day", String(10), nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("service", Text, nullable=False),
    Column("process", Text, nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("actor", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("reason", String(40), nullable=False),  # "" if nothing was refused
    Column("detail", Text, nullable=False),
    Index("events_day", "day", "action"),
    Index("events_target", "target", "day"),
    Index("events_actor", "actor", "day"),
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
