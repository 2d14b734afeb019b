"""Writes the story's input files: the same bytes for the same seed on every machine."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from pathlib import Path

from shutong_core.domain.regions import RegionTable, parse_table
from shutong_core.runtime.resources import locate, package_file
from shutong_story.allowance import allowance_events
from shutong_story.cast import STEPS, readers
from shutong_story.death import death_events
from shutong_story.divisions import division_events
from shutong_story.event import Event
from shutong_story.faults import NDJSON, BadCase, bad_cases
from shutong_story.people import Resident, residents
from shutong_story.plan import BadFile, InputFile, Plan
from shutong_story.settlement import settlement_events

SEED = 2026
DIVISION_FILE = "divisions-2023-06-30.tsv.xz"
LIST_FILE = "deploy/samples/story/list.yaml"


def generate(directory: Path, table: RegionTable, list_text: str, seed: int = SEED) -> Plan:
    """All input files of the story under `directory` (made if needed), with their plan."""
    people = residents(table, seed)
    allowances = allowance_events(table, people, seed)
    settlements = settlement_events(table, people, seed)
    deaths = death_events(table, people, seed)
    sources: Mapping[str, Mapping[str, Iterable[Event]]] = {
        "divisions-2023": {"nation-statistics": division_events(table)},
        "subsistence-allowance": allowances,
        "remote-medical-settlement": settlements,
        "death-certificate": deaths,
    }
    plan = Plan(
        directory=directory,
        seed=seed,
        resident=_resident(people[0]),
        inputs=tuple(
            _write_input(directory, dataset, system, events)
            for dataset, by_system in sources.items()
            for system, events in by_system.items()
        ),
        bad=tuple(
            _write_bad(directory, case) for case in bad_cases(allowances, settlements, deaths, seed)
        ),
        readers=readers(list_text),
    )
    plan.write()
    return plan


def sample_table() -> RegionTable:
    """The division table that ships with the product."""
    return parse_table(package_file(DIVISION_FILE).read_bytes())


def sample_list() -> str:
    """The text of the story's list file."""
    return locate(LIST_FILE).read_text(encoding="utf-8")


def _resident(person: Resident) -> dict[str, str]:
    return {
        "name": person.name,
        "id_number": person.id_number,
        "registered_town": person.town,
        "insured_city": person.insured_city or "",
    }


def _write_input(directory: Path, dataset: str, system: str, events: Iterable[Event]) -> InputFile:
    relative = f"{dataset}/{system}.ndjson"
    path = directory / relative
    path.parent.mkdir(parents=True, exist_ok=True)
    count = 0
    with path.open("wb") as file:
        for event in events:
            file.write(event.line())
            count += 1
    return InputFile(STEPS[dataset], dataset, system, relative, count)


def _write_bad(directory: Path, case: BadCase) -> BadFile:
    relative = f"bad/{case.name}.{'ndjson' if case.content_type == NDJSON else 'bin'}"
    path = directory / relative
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(case.bodies))
    return BadFile(
        name=case.name,
        dataset=case.dataset,
        system=case.system,
        path=relative,
        records=len(case.bodies),
        content_type=case.content_type,
        door=case.door,
        reason=case.reason.name,
        number=case.reason.number,
        zh=case.reason.zh,
        en=case.reason.en,
    )


def main() -> None:
    """`python -m shutong_story.generate DIRECTORY`: write the files, print the plan's place."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--seed", type=int, default=SEED)
    arguments = parser.parse_args()
    plan = generate(arguments.directory, sample_table(), sample_list(), arguments.seed)
    print(
        f"{sum(f.records for f in plan.inputs)} records in {len(plan.inputs)} files: "
        f"{plan.directory}"
    )


if __name__ == "__main__":
    main()
