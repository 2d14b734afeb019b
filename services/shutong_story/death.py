"""Medical certificates of death, written by the place of death; one event, many departments.

Since 2026-07-01 the certificate's code is the identity number of the deceased. The operation is
part of the event's type here, so that a correction reaches every receiver as one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime, time, timedelta, timezone

from shutong_core.domain.regions import Level, RegionTable
from shutong_story.codes import organisation_code
from shutong_story.dice import Dice
from shutong_story.event import Event
from shutong_story.people import Resident
from shutong_story.places import GUANGZHOU, MEIZHOU, SHENZHEN, YUEXIU, below

#: Publishing system, its city, first certificates, whether it serves its own residents only.
PUBLISHERS = (
    ("gz-health", GUANGZHOU, 1_740, False),
    ("sz-health", SHENZHEN, 580, False),
    ("mz-health", MEIZHOU, 580, True),
)
_CAUSES = ("I21.9", "I63.9", "C34.9", "J44.9", "C22.0", "I61.9", "E14.9")
_FIRST_DAY = date(2026, 7, 1)
_CHINA = timezone(timedelta(hours=8))


def death_events(
    table: RegionTable, people: Sequence[Resident], seed: int
) -> Mapping[str, list[Event]]:
    """Events by publishing system; corrections and withdrawals follow their certificate."""
    dice = Dice(seed, "death")
    living = [people[0], *dice.shuffled(people[1:])]
    by_system = {}
    for system, city, count, local in PUBLISHERS:
        districts = below(table, city, Level.COUNTY)
        dead = [p for p in living if not local or table.contains(city, p.town)][:count]
        gone = {p.id_number for p in dead}
        living = [p for p in living if p.id_number not in gone]
        events, later = [], []
        for number, person in enumerate(dead, start=1):
            first = person is people[0]
            where = YUEXIU if first else dice.pick(districts)
            event = _certificate(dice, system, number, person, where)
            if first:
                event = event.changed(registered_region=person.town)
            events.append(event)
            if first:
                continue
            if dice.happens(25):
                corrected = event.changed(cause=dice.pick(_CAUSES))
                later.append(Event(f"{event.id}-c", corrected.data, "correct"))
            elif dice.happens(8):
                later.append(Event(f"{event.id}-d", event.data, "delete"))
        by_system[system] = events + later
    return by_system


def _certificate(dice: Dice, system: str, number: int, person: Resident, where: str) -> Event:
    day = _FIRST_DAY + timedelta(days=dice.below(90))
    issued = datetime.combine(day, time(dice.below(24), dice.below(60)), _CHINA)
    hospital = 20_000 + dice.below(5)
    data = {
        "cert_code": person.id_number,
        "name": person.name,
        "id_number": person.id_number,
        "sex": person.sex,
        "death_date": day.isoformat(),
        "death_region": where,
        "issuer": organisation_code("12", where[:6], hospital),
        "issuer_name": f"示例医院{hospital - 20_000 + 1}（示例）",
        "issued_at": (issued + timedelta(hours=6)).isoformat(),
    }
    if dice.happens(950):
        data["cause"] = dice.pick(_CAUSES)
    if not dice.happens(10):
        data["registered_region"] = person.town
    if person.insured_city is not None:
        data["insured_region"] = person.insured_city
    return Event(f"{system}-{number:05d}", data, "put")
