"""Minimum living allowances: the town accepts, the county approves, one event per decision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta, timezone

from shutong_core.domain.regions import RegionTable
from shutong_story.dice import Dice
from shutong_story.event import Event, yuan
from shutong_story.people import Resident
from shutong_story.places import GUANGDONG, GUANGZHOU, WUHUA, XINGNING, ZHONGSHAN

#: Publishing system, the region it decides for, first decisions; the province takes what is left.
PUBLISHERS = (
    ("wuhua-civil", WUHUA, 3_000),
    ("xingning-civil", XINGNING, 2_000),
    ("zs-civil", ZHONGSHAN, 1_500),
    ("gz-civil", GUANGZHOU, 1_600),
    ("gd-civil", GUANGDONG, 3_500),
)
_REASONS = ("ILLNESS", "DISABILITY", "OLD_AGE", "UNEMPLOYMENT", "OTHER")
_FIRST_DAY = datetime(2025, 9, 1, 9, 0, tzinfo=timezone(timedelta(hours=8)))


def allowance_events(
    table: RegionTable, people: Sequence[Resident], seed: int
) -> Mapping[str, list[Event]]:
    """Events by publishing system; corrections and withdrawals follow their first decision."""
    dice = Dice(seed, "allowance")
    waiting = [people[0], *dice.shuffled(people[1:])]
    by_system = {}
    for system, region, count in PUBLISHERS:
        chosen = [p for p in waiting if table.contains(region, p.town)][:count]
        taken = {p.id_number for p in chosen}
        waiting = [
            p
            for p in waiting
            # whoever belongs to a county or city with a system of its own is never the province's
            if p.id_number not in taken and not table.contains(region, p.town)
        ]
        by_system[system] = _decisions(dice, system, chosen)
    return by_system


def _decisions(dice: Dice, system: str, people: Sequence[Resident]) -> list[Event]:
    events = []
    later = []
    for number, person in enumerate(people, start=1):
        event = _decision(dice, system, number, person)
        events.append(event)
        if number == 1 and system == "wuhua-civil":
            continue  # the story's resident keeps one decision
        if dice.happens(30):
            changed = event.changed(
                operation="correct", monthly_amount=yuan(100 * dice.between(300, 1400))
            )
            later.append(Event(f"{event.id}-c", changed.data))
        elif dice.happens(10):
            later.append(Event(f"{event.id}-d", event.changed(operation="delete").data))
    return events + later


def _decision(dice: Dice, system: str, number: int, person: Resident) -> Event:
    rural = dice.happens(650)
    start = date(2025, 10, 1) + timedelta(days=30 * dice.below(9))
    decided = _FIRST_DAY + timedelta(minutes=dice.below(300 * 24 * 60))
    data = {
        "decision_no": f"{system}-2026-{number:05d}",
        "household_no": f"H{person.town[:9]}{number:05d}",
        "name": person.name,
        "id_number": person.id_number,
        "birth_date": person.birth.isoformat(),
        "sex": person.sex,
        "category": "SPECIAL" if dice.happens(80) else ("RURAL" if rural else "URBAN"),
        "household_size": dice.between(1, 5),
        "monthly_amount": yuan(100 * dice.between(300, 1400) + 10 * dice.below(10)),
        "reason": dice.pick(_REASONS),
        "start_date": start.isoformat(),
        "end_date": (start + timedelta(days=365)).isoformat(),
        "registered_town": person.town,
        "decided_at": decided.isoformat(),
        "operation": "put",
    }
    if dice.happens(60):
        del data["household_size"]  # unknown: a condition on it is not met
    if dice.happens(300):
        del data["end_date"]  # open-ended
    return Event(f"{system}-a-{number:05d}", data)
