"""Shipped files are found, or their absence is named."""

from __future__ import annotations

import pytest

from shutong_core.domain.errors import Fatal
from shutong_core.runtime.resources import locate, region_table


def test_files_of_the_embedded_kafka_are_found() -> None:
    names = {path.name for path in locate("deploy/kafka").iterdir()}
    assert {"pom.xml", "jars.lock", "server.properties", "log4j2.properties"} <= names


def test_the_division_table_is_loaded_once() -> None:
    table = region_table()
    assert table.get("441424000000") is not None
    assert region_table() is table


def test_a_missing_file_means_an_incomplete_installation() -> None:
    with pytest.raises(Fatal, match="install again"):
        locate("deploy/nothing")
