"""A person's report from blocks: exactly what was placed about that person, and nothing else."""

from __future__ import annotations

import pytest

from audit_samples import PUBLISHER, filled, sample_lane
from shutong_auditor.subject import Lawful, lines_of
from shutong_core.audit.block import parse_block
from shutong_core.domain.catalogue import Dataset
from shutong_core.domain.grants import Grant
from shutong_core.domain.version import ListVersion
from unit.cli_runner import shutong

LANE = sample_lane(3)


def version() -> ListVersion:
    rows = {}
    for name in ("deaths", "births"):
        rows[f"dataset/{name}"] = Dataset.model_construct(id=name, provider="PROVIDER")
        for kind in ("city", "town"):
            rows[f"grant/{name}-{kind}"] = Grant.model_construct(
                id=f"{name}-{kind}",
                dataset=name,
                requester=f"REQUESTER-{kind}",
                requester_class=None,
                purpose=f"purpose-{kind}",
                basis="第二十条",
            )
    return ListVersion(7, bytes(32), 0, rows, {}, {})  # type: ignore[arg-type]


def found(token: bytes) -> list:
    lines = []
    for block in LANE.blocks:
        head, body = parse_block(block.header, block.body)
        lines += lines_of(head, body, token, version())
    return lines


def test_each_placed_record_of_a_subject_is_told_with_purpose_basis_and_number() -> None:
    told = []
    for block in LANE.blocks:
        head, body = parse_block(block.header, block.body)
        for section in body.inputs:
            for row in body.rows(section):
                for token in row.tokens:
                    told.append((token, head.sequence, section.dataset, row.offset))
    assert len(told) > 20
    for token, block, dataset, offset in told:
        lines = [line for line in found(token) if (line.block, line.dataset) == (block, dataset)]
        row = offset - (block - 1) * 9
        placed = [] if row % 3 == 2 else [f"{dataset}-city"]
        placed += [f"{dataset}-town"] if row % 2 and row % 3 != 2 else []
        # Both datasets number their offsets alike, so both have this subject.
        assert sorted({line.grant for line in lines}) == placed, (row, lines)
        for line in lines:
            kind = line.grant.partition("-")[2]
            assert (line.purpose, line.basis) == (f"purpose-{kind}", "第二十条")
            assert (line.requester, line.provider) == (f"REQUESTER-{kind}", "PROVIDER")
            assert line.publisher in ("", PUBLISHER.partition("/")[0])


def test_the_number_of_a_told_record_is_that_in_the_delivery_chain() -> None:
    lines = [
        line for n in range(30) for i in range(4) for line in found(filled(f"subject {n} {i}", 16))
    ]
    numbers = {line.k for line in lines if line.grant == "births-city"}
    assert numbers <= set(range(1, LANE.heads["births-city"][0] + 1))
    assert len(numbers) > 5


def test_bytes_that_only_look_like_the_token_across_two_others_are_not_the_person() -> None:
    head, body = parse_block(LANE.blocks[0].header, LANE.blocks[0].body)
    tokens = body.inputs[0].tokens
    assert list(lines_of(head, body, tokens[8:24], version())) == []
    assert found(filled("nobody", 16)) == []


def test_what_the_law_conceals_or_delays_is_left_out() -> None:
    token = filled("subject 1 0", 16)
    lines = found(token)
    assert {line.purpose for line in lines} == {"purpose-city", "purpose-town"}
    shown = [each for each in lines if Lawful(frozenset({"purpose-town"}), 10**15).shows(each)]
    assert {line.purpose for line in shown} == {"purpose-city"}
    assert not [each for each in lines if Lawful(frozenset(), 1_000).shows(each)]


@pytest.mark.parametrize(
    ("case", "basis", "said"),
    [
        ("", "第四十五条", "case number"),
        ("x" * 300, "第四十五条", "case number"),
        ("2026-1", " ", "basis"),
        ("11010519491231002X", "第四十五条", "must not hold"),
        ("2026-1", "本人 110105194912310021", "must not hold"),
    ],
)
def test_a_report_needs_a_case_and_a_basis_and_no_number_in_them(
    case: str, basis: str, said: str
) -> None:
    done = shutong("audit", "subject", "--case", case, "--basis", basis)
    assert done.exit_code == 2
    assert said in done.output
