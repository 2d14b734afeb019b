"""Finds the files that ship with the product, in a checkout as in an installed wheel.

In a checkout they lie at the root (`schemas/`, `deploy/`); a wheel carries them under
`shutong_core/_files/`. Files of the package itself lie in `shutong_core/files/` in both.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from shutong_core.domain.errors import Fatal
from shutong_core.domain.regions import RegionTable, parse_table

_PACKAGE = Path(__file__).resolve().parents[1]
_CHECKOUT = _PACKAGE.parents[1]


def locate(relative: str) -> Path:
    """The file or directory `relative`, e.g. `deploy/kafka` or `schemas/bus`.

    Raises Fatal if it is in neither place: the installation is incomplete.
    """
    for root in (_PACKAGE / "_files", _CHECKOUT):
        found = root / relative
        if found.exists():
            return found
    raise Fatal(
        f"安装不完整：缺少 {relative}，请重新安装。"
        f" The installation is incomplete: {relative} is missing; install again."
    )


def package_file(name: str) -> Path:
    """A file of `shutong_core/files/`. Raises Fatal if it is missing."""
    found = _PACKAGE / "files" / name
    if not found.exists():
        raise Fatal(f"安装不完整：缺少 {name}。 The installation is incomplete: {name} is missing.")
    return found


@cache
def bus_schema(name: str) -> str:
    """Text of `schemas/bus/<name>.avsc`: a schema of the bus's own records."""
    return locate(f"schemas/bus/{name}.avsc").read_text(encoding="utf-8")


@cache
def region_table() -> RegionTable:
    """The division table that ships with the product (about 45,000 regions; parsed once)."""
    return parse_table(package_file("divisions-2023-06-30.tsv.xz").read_bytes())
