"""The result of a verification: findings, what was checked, what was not."""

from __future__ import annotations

from dataclasses import dataclass, field

#: Findings kept in full; more are only counted.
FINDINGS_MAX = 100


@dataclass(frozen=True, slots=True)
class Statement:
    """One sentence for people, in Chinese and English."""

    zh: str
    en: str


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong: where (as far as known), what.

    `code` is stable, for programs; `offset` is that of the record in its Kafka partition; `k` is
    the sequence of a placed record in (grant, lane).
    """

    code: str
    text: Statement
    lane: int | None = None
    block: int | None = None
    offset: int | None = None
    grant: str | None = None
    k: int | None = None

    @property
    def where(self) -> str:
        """The coordinates that are known, e.g. `lane 3 block 17 offset 40`."""
        named = (
            ("grant", self.grant),
            ("lane", self.lane),
            ("block", self.block),
            ("offset", self.offset),
            ("k", self.k),
        )
        return " ".join(f"{name} {value}" for name, value in named if value is not None)


@dataclass(slots=True)
class Verdict:
    """Collects what a verification says. Fails if there is one finding."""

    findings: list[Finding] = field(default_factory=list)
    findings_count: int = 0
    checked: list[Statement] = field(default_factory=list)
    not_checked: list[Statement] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing wrong was found in what was checked."""
        return self.findings_count == 0

    def add(self, finding: Finding) -> None:
        """Notes a finding once; beyond FINDINGS_MAX it is only counted."""
        if finding in self.findings:
            return
        self.findings_count += 1
        if len(self.findings) < FINDINGS_MAX:
            self.findings.append(finding)

    def text(self, language: str) -> str:
        """The verdict for people; `language` is `zh` or `en`."""
        zh = language == "zh"

        def said(statement: Statement) -> str:
            return statement.zh if zh else statement.en

        if self.ok:
            lines = ["校验通过。" if zh else "Verified."]
        else:
            count = self.findings_count
            lines = [f"校验不通过：{count} 处。" if zh else f"NOT verified: {count} finding(s)."]
        for finding in self.findings:
            where = f" [{finding.where}]" if finding.where else ""
            lines.append(f"  ✗ {said(finding.text)}{where}")
        if self.findings_count > len(self.findings):
            left = self.findings_count - len(self.findings)
            lines.append(f"  … 另有 {left} 处" if zh else f"  … and {left} more")
        lines += [f"  ✓ {said(statement)}" for statement in self.checked]
        title = "未检查" if zh else "not checked"
        lines += [f"  – {title}: {said(statement)}" for statement in self.not_checked]
        return "\n".join(lines)
