"""The synthetic residents of the story; nobody alive can have such an identity number.

The area prefix of every identity number starts with 79, which was never given to a province
(GB/T 2260), nor to the permits that start with 81 to 83 or 9. Dates and check digits are plausible,
so that every rule of quality runs as on real data.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

from shutong_core.domain.regions import Level, RegionTable
from shutong_story.dice import Dice
from shutong_story.places import (
    GUANGZHOU,
    MEIZHOU,
    SHENZHEN,
    SHUIZHAI,
    ZHONGSHAN,
    home_groups,
)

RESIDENTS = 50_000
UNASSIGNED_PREFIX = "79"
_STEMS = "甲乙丙丁戊己庚辛壬癸"
_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
#: Nobody is born in 2006-2015: the age of 14 stays far away for years, whatever today's date is.
_ADULT_BIRTHS = (date(1935, 1, 1), date(2005, 12, 31))
_CHILD_BIRTHS = (date(2016, 1, 1), date(2023, 12, 31))


@dataclass(frozen=True, slots=True)
class Resident:
    """One person: region codes have 12 digits; `insured_city` is None for who is not insured."""

    name: str
    id_number: str
    birth: date
    sex: str
    town: str
    insured_city: str | None

    @property
    def is_child(self) -> bool:
        """Under 14 at any date on which the story is played."""
        return self.birth >= _CHILD_BIRTHS[0]


def check_digit(first17: str) -> str:
    """The last character of an identity number (GB 11643)."""
    total = sum(int(d) * w for d, w in zip(first17, _WEIGHTS, strict=True))
    return "10X98765432"[total % 11]


def residents(table: RegionTable, seed: int, count: int = RESIDENTS) -> list[Resident]:
    """`count` residents; the first is the one whom the story follows."""
    dice = Dice(seed, "people")
    groups = [group for group in home_groups(table) for _ in range(group.per_mille)]
    used: set[str] = set()
    people = []
    for index in range(count):
        child = index > 0 and dice.happens(30)
        birth = _birth(dice, *(_CHILD_BIRTHS if child else _ADULT_BIRTHS))
        insured: str | None = MEIZHOU
        if index == 0:
            birth, town = date(1956, 3, 12), SHUIZHAI
        else:
            group = dice.pick(groups)
            town = dice.pick(group.towns)
            insured = _insured(dice, table, town, away=group.name == "away")
        sex = dice.below(2)
        people.append(
            Resident(
                name=f"测试{_STEMS[index * len(_STEMS) // count]}{index % 10_000 + 1:04d}",
                id_number=_id_number(dice, used, town, birth, sex),
                birth=birth,
                sex=("FEMALE", "MALE")[sex],
                town=town,
                insured_city=insured,
            )
        )
    return people


def _birth(dice: Dice, first: date, last: date) -> date:
    return first + timedelta(days=dice.below((last - first).days + 1))


def _insured(dice: Dice, table: RegionTable, town: str, *, away: bool) -> str | None:
    if dice.happens(50):
        return None
    if dice.happens(500 if away else 150):
        return dice.pick((GUANGZHOU, SHENZHEN, ZHONGSHAN))
    return next(code for code in table.ancestors(town) if table.level(code) == Level.CITY)


def _id_number(dice: Dice, used: set[str], town: str, birth: date, sex: int) -> str:
    while True:
        serial = 2 * dice.below(500) + sex  # odd: male (GB 11643)
        first17 = f"{UNASSIGNED_PREFIX}{town[2:6]}{birth:%Y%m%d}{serial:03d}"
        if first17 not in used:
            used.add(first17)
            return first17 + check_digit(first17)
