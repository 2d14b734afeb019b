"""What is wrong with a responsibility list, said so that its author can mend it.

A finding names the rule by a stable code, the row, the field, what is wrong, what to do, in
Chinese and English; `Problem` adds the place in the list file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from shutong_core.domain.errors import Rejected

#: More problems than this are not listed: who has fixed fifty, runs the command again.
PROBLEMS_MAX = 50

#: Steps from a row to a field: names of mappings, 0-based indexes of lists.
Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Finding:
    """One rule that one row breaks. `path` is empty if the row as a whole is meant."""

    code: str
    row_id: str
    path: Path
    zh: str
    en: str
    remedy_zh: str
    remedy_en: str

    @property
    def field_path(self) -> str:
        """The path as people write it, e.g. `scope.regions[0]`."""
        return path_text(self.path)

    def __str__(self) -> str:
        place = " ".join(part for part in (self.row_id, self.field_path) if part)
        return f"{place} [{self.code}]\n{_sentences(self)}"


@dataclass(frozen=True, slots=True)
class Problem:
    """A finding with its place: file name, line and column, both counted from 1."""

    file: str
    line: int
    column: int
    finding: Finding

    def __str__(self) -> str:
        found = self.finding
        place = " ".join(part for part in (found.row_id, found.field_path) if part)
        return f"{self.file}:{self.line}:{self.column}: {place} [{found.code}]\n{_sentences(found)}"


class ListRefused(Rejected):
    """A list file that cannot be used; `problems` holds up to PROBLEMS_MAX reasons why."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems[:PROBLEMS_MAX])
        text = "\n".join(str(problem) for problem in self.problems)
        if len(problems) >= PROBLEMS_MAX:
            text += (
                f"\n只列出前 {PROBLEMS_MAX} 处问题，改正后请重新检查。"
                f"\nOnly the first {PROBLEMS_MAX} problems are listed; mend these and check again."
            )
        super().__init__(text)


def path_text(path: Path) -> str:
    """`("scope", "regions", 0)` as `scope.regions[0]`."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            text += f".{step}" if text else step
    return text


def _sentences(found: Finding) -> str:
    return f"  {found.zh}。处理：{found.remedy_zh}。\n  {found.en}. Remedy: {found.remedy_en}."
