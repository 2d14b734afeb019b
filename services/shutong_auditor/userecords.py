"""Records of use (使用记录, 条例 Art. 29): what a requester did with what it was given.

They live in the database of the index, in a table that `--rebuild` does not touch: no topic holds
them. The SHA-256 of each stands in an access event, and so in a tree, before it is stored.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from dataclasses import dataclass
from datetime import date
from typing import Annotated, Any

import rfc8785
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from sqlalchemy import (
    BigInteger,
    Column,
    Engine,
    Index,
    MetaData,
    String,
    Table,
    Text,
    delete,
    insert,
    or_,
    select,
)

from shutong_auditor.index.indexer import day_of
from shutong_auditor.index.retention import require_past_term
from shutong_core.domain.errors import Rejected
from shutong_core.domain.rows import Identifier

METADATA = MetaData()
USE_RECORDS = Table(
    "use_records",
    METADATA,
    Column("id", String(32), primary_key=True),
    Column("day", String(10), nullable=False),  # of the filing, in China's time
    Column("at_ms", BigInteger, nullable=False),
    Column("grant_id", String(48), nullable=False),
    Column("dataset", String(48), nullable=False),
    Column("provider", String(18), nullable=False),
    Column("requester", String(18), nullable=False),
    Column("actor", String(80), nullable=False),
    Column("first_day", String(10), nullable=False),
    Column("last_day", String(10), nullable=False),
    Column("scenario", Text, nullable=False),
    Column("process", Text, nullable=False),
    Column("effect", Text, nullable=False),
    Column("storage", Text, nullable=False),
    Column("destruction", Text, nullable=False),
    Column("digest", String(64), nullable=False),
    Index("use_records_grant", "grant_id", "day"),
    Index("use_records_sides", "requester", "provider"),
)
#: Records of one answer.
LINES_MAX = 1_000
#: An identity number would stay for years; it has no place in here.
_NUMBER = re.compile(r"[0-9]{17}[0-9Xx]")
_Day = Annotated[str, Field(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$")]
_Words = Annotated[str, Field(min_length=1, max_length=4_000)]


class Use(BaseModel):
    """What a requester files about a grant of its own."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    grant: Identifier
    first_day: _Day
    last_day: _Day
    scenario: _Words  # 使用场景
    process: _Words  # 使用过程
    effect: _Words  # 应用成效
    storage: _Words  # 存储情况
    destruction: _Words  # 销毁情况

    @model_validator(mode="after")
    def _sensible(self) -> Use:
        if date.fromisoformat(self.first_day) > date.fromisoformat(self.last_day):
            raise ValueError("first_day is after last_day")
        for name in ("scenario", "process", "effect", "storage", "destruction"):
            text = getattr(self, name)
            if "\x00" in text or not text.strip():
                raise ValueError(f"{name} is empty")
            if _NUMBER.search(text):
                raise ValueError(f"{name} holds an identity number")
        return self


@dataclass(frozen=True, slots=True)
class Filed:
    """A record of use with who filed it, and the digest that its access event has."""

    id: str
    at_ms: int
    actor: str
    requester: str
    dataset: str
    provider: str
    use: Use
    digest: str


def parse_use(value: Any) -> Use:
    """The record in `value` (JSON). Raises Rejected that names the fields which are wrong."""
    try:
        return Use.model_validate(value)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
        names = sorted({".".join(map(str, each["loc"])) or each["msg"] for each in found})
        raise Rejected(f"使用记录有误 the record of use is wrong: {', '.join(names)}") from None


def filed(
    use: Use, actor: str, requester: str, side: tuple[str, str], at_ms: int, record_id: str = ""
) -> Filed:
    """The record as it will be stored; `side`: dataset and its provider."""
    record_id = record_id or uuid.uuid4().hex
    dataset, provider = side
    whole = {
        "id": record_id,
        "at_ms": at_ms,
        "actor": actor,
        "requester": requester,
        "dataset": dataset,
        "provider": provider,
        **use.model_dump(),
    }
    digest = hashlib.sha256(rfc8785.dumps(whole)).hexdigest()
    return Filed(record_id, at_ms, actor, requester, dataset, provider, use, digest)


class UseRecords:
    """The table of them."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        METADATA.create_all(engine)

    def add(self, record: Filed) -> None:
        """Store it. Its access event must have been written before."""
        use = record.use.model_dump()
        row = {
            "id": record.id,
            "day": day_of(record.at_ms),
            "at_ms": record.at_ms,
            "actor": record.actor,
            "requester": record.requester,
            "dataset": record.dataset,
            "provider": record.provider,
            "grant_id": use.pop("grant"),
            "digest": record.digest,
            **use,
        }
        with self._engine.begin() as connection:
            connection.execute(insert(USE_RECORDS), row)

    def organisations(self) -> frozenset[str]:
        """All requesters and providers that there are records of."""
        with self._engine.connect() as connection:
            return frozenset(
                uscc
                for column in (USE_RECORDS.c.requester, USE_RECORDS.c.provider)
                for uscc in connection.execute(select(column).distinct()).scalars()
            )

    def find(
        self, sides: frozenset[str] | None, grant: str | None = None, skip: int = 0
    ) -> tuple[list[dict[str, Any]], bool]:
        """Records with one of `sides` as requester or provider (None: all), newest first.

        Also whether there are more beyond `LINES_MAX`.
        """
        table = USE_RECORDS.c
        asked = select(USE_RECORDS).order_by(table.at_ms.desc(), table.id)
        if grant is not None:
            asked = asked.where(table.grant_id == grant)
        if sides is not None:
            asked = asked.where(or_(table.requester.in_(sides), table.provider.in_(sides)))
        with self._engine.connect() as connection:
            found = connection.execute(asked.limit(LINES_MAX + 1).offset(skip)).mappings().all()
        return [dict(each) for each in found[:LINES_MAX]], len(found) > LINES_MAX

    def purge(self, before: date, today: date, term_days: int) -> int:
        """Take out what was filed before a day. Raises Rejected within the term."""
        require_past_term(before, today, term_days)
        with self._engine.begin() as connection:
            gone = connection.execute(
                delete(USE_RECORDS).where(USE_RECORDS.c.day < before.isoformat())
            )
        return int(gone.rowcount)
