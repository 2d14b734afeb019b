"""The base of every row of the responsibility list: frozen, strict, canonical.

A row is what `control.lists` carries: a JSON object with `kind` and `id`. Its place in a list is
its row id `<kind>/<id>`; its hash is SHA-256 over its RFC 8785 form.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, StringConstraints

from shutong_core.domain.canonical import canonical

#: Ids of datasets, grants, systems.
Identifier = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,47}$")]
#: 12 digits, or `<12 digits>@self` for what a government keeps for itself (省本级).
RegionCode = Annotated[str, StringConstraints(pattern=r"^[0-9]{12}(@self)?$")]
Text = Annotated[str, StringConstraints(min_length=1, max_length=500, strip_whitespace=True)]


class Part(BaseModel):
    """A piece of a row."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Row(Part):
    """One row; subclasses fix `kind`."""

    kind: str
    id: str

    @property
    def row_id(self) -> str:
        """`<kind>/<id>`, unique in a list."""
        return f"{self.kind}/{self.id}"

    def body(self) -> dict[str, Any]:
        """The row as JSON values; unset optional fields are left out."""
        return self.model_dump(mode="json", exclude_none=True)

    def canonical(self) -> bytes:
        """The row's RFC 8785 form."""
        return canonical(self.body())

    def digest(self) -> bytes:
        """SHA-256 over the row's RFC 8785 form (32 bytes)."""
        return hashlib.sha256(self.canonical()).digest()
