"""Settlements of care away from the insured place, written by the place of care.

Region items hold 6 digits here, as settlement systems write them; money always adds up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, timezone

from shutong_core.domain.regions import Level, RegionTable
from shutong_story.codes import organisation_code
from shutong_story.dice import Dice
from shutong_story.event import Event, yuan
from shutong_story.people import Resident
from shutong_story.places import GUANGZHOU, SHENZHEN, YUEXIU, below

PUBLISHERS = (("gz-insurance", GUANGZHOU, 6_300), ("sz-insurance", SHENZHEN, 2_450))
_MED_TYPES = ("OUTPATIENT", "INPATIENT", "EMERGENCY", "CHRONIC")
_DIAGNOSES = ("I10", "E11.9", "J18.9", "K35.8", "M54.5", "N18.9", "C34.9")
_FIRST_DAY = datetime(2026, 1, 5, 8, 0, tzinfo=timezone(timedelta(hours=8)))


def settlement_events(
    table: RegionTable, people: Sequence[Resident], seed: int
) -> Mapping[str, list[Event]]:
    """Events by publishing system; corrections and withdrawals follow their settlement."""
    dice = Dice(seed, "settlement")
    order = [people[0], *dice.shuffled(people[1:])]
    by_system = {}
    for system, city, count in PUBLISHERS:
        districts = below(table, city, Level.COUNTY)
        patients = [p for p in order if p.insured_city not in (None, city)][:count]
        order = order[::-1]  # the second city treats others first
        events, later = [], []
        for number, person in enumerate(patients, start=1):
            first = person is people[0]
            event = _settlement(
                dice, system, number, person, YUEXIU if first else dice.pick(districts)
            )
            events.append(event)
            if first:
                continue
            if dice.happens(20):
                corrected = event.changed(operation="correct", **_money(dice))
                later.append(Event(f"{event.id}-c", corrected.data))
            elif dice.happens(10):
                later.append(Event(f"{event.id}-d", event.changed(operation="delete").data))
        by_system[system] = events + later
    return by_system


def _settlement(dice: Dice, system: str, number: int, person: Resident, district: str) -> Event:
    at = _FIRST_DAY + timedelta(minutes=dice.below(170 * 24 * 60))
    city = person.insured_city or ""
    data = {
        "setl_id": f"{system}-s{number:06d}",
        "mdtrt_id": f"{system}-m{number:06d}",
        "psn_no": f"P{city[:4]}{person.id_number[-8:]}",
        "psn_name": person.name,
        "certno": person.id_number,
        "med_type": dice.pick(_MED_TYPES),
        "insutype": dice.pick(("EMPLOYEE", "RESIDENT")),
        "fixmedins_code": organisation_code("12", district[:6], 20_000 + dice.below(5)),
        "mdtrtarea_admvs": district[:6],
        "insuplc_admdvs": city[:6],
        "setl_time": at.isoformat(),
        **_money(dice),
        "clr_type": "11",
        "operation": "put",
    }
    if dice.happens(900):
        data["diag_code"] = dice.pick(_DIAGNOSES)
    if dice.happens(500):
        data["clr_optins"] = f"{city[:6]}99"
    return Event(f"{system}-{number:06d}", data)


def _money(dice: Dice) -> dict[str, str]:
    """Amounts in yuan with every sum in order (cents inside, so nothing is rounded)."""
    pooled = dice.between(5_000, 2_500_000)
    servants = dice.between(100, 50_000) if dice.happens(100) else 0
    serious = dice.between(100, 400_000) if dice.happens(150) else 0
    aid = dice.between(100, 200_000) if dice.happens(120) else 0
    part = dice.between(1_000, 900_000)
    account = dice.below(part + 1) if dice.happens(600) else 0
    fund = pooled + servants + serious + aid
    return {
        "medfee_sumamt": yuan(fund + part),
        "fund_pay_sumamt": yuan(fund),
        "hifp_pay": yuan(pooled),
        "cvlserv_pay": yuan(servants),
        "hifmi_pay": yuan(serious),
        "maf_pay": yuan(aid),
        "psn_part_amt": yuan(part),
        "acct_pay": yuan(account),
        "psn_cash_pay": yuan(part - account),
    }
