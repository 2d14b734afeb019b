"""Opens the index: a SQLite file in the auditor's directory, or PostgreSQL by URL."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from shutong_core.domain.errors import Fatal

FILE = "index.sqlite3"


def open_index(url: str | None, data_dir: Path, password_file: Path | None = None) -> Engine:
    """The engine of the index.

    Raises Fatal for a URL that is no database known here, or has a password in it: settings hold
    no secrets, `password_file` does.
    """
    if url is None:
        return _sqlite(data_dir / "auditor" / FILE)
    try:
        address = make_url(url)
        if address.drivername == "sqlite" and address.database:
            return _sqlite(Path(address.database))
        return create_engine(_address(address, password_file))
    except (ArgumentError, NoSuchModuleError) as error:
        raise Fatal(
            "SHUTONG_AUDITOR_INDEX_URL 应为 postgresql://用户@主机/库。"
            f" It must be postgresql://user@host/database ({type(error).__name__})."
        ) from None
    except ModuleNotFoundError as error:
        raise Fatal(
            "未安装 PostgreSQL 驱动：pip install 'shutong[postgres]'。"
            f" The driver of PostgreSQL is missing ({error.name}): pip install 'shutong[postgres]'."
        ) from None


def _address(parsed: URL, password_file: Path | None) -> URL:
    if parsed.drivername not in ("postgresql", "postgresql+psycopg"):
        raise ArgumentError("another database")
    if parsed.password is not None:
        raise Fatal(
            "SHUTONG_AUDITOR_INDEX_URL 中不得写口令，请用 SHUTONG_AUDITOR_INDEX_PASSWORD_FILE。"
            " SHUTONG_AUDITOR_INDEX_URL must not hold a password: name the file that does in"
            " SHUTONG_AUDITOR_INDEX_PASSWORD_FILE."
        )
    parsed = parsed.set(drivername="postgresql+psycopg")
    if password_file is None:
        return parsed
    try:
        return parsed.set(password=password_file.read_text(encoding="utf-8").rstrip("\r\n"))
    except OSError as error:
        raise Fatal(f"{password_file}: 无法读取 cannot be read ({error.strerror})") from None


def _sqlite(path: Path) -> Engine:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    # Made here, so that nobody else may read it from its first moment on.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    engine = create_engine(f"sqlite:///{path}")

    @event.listens_for(engine, "connect")
    def _on_connect(connection: Any, _: Any) -> None:
        # Readers go on while the indexer writes; what a loss of power takes is read anew.
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute("PRAGMA busy_timeout=10000")

    return engine
