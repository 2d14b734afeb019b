"""Seeded bad records: each breaks one rule, and says which reason must be given at which door.

Door `http`: the producer service refuses it before anything reaches Kafka. Door `lane`: it passes
the form checks, and the broker's lane refuses it into quarantine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from shutong_core.domain.reasons import Reason
from shutong_story.dice import Dice
from shutong_story.event import Event, yuan
from shutong_story.places import XINGNING

NDJSON = "application/x-ndjson"
AVRO = "application/avro"
#: More than one record may hold over HTTP (900 KiB), less than any server's default body limit.
OVERSIZE_BYTES = 950 * 1024
#: Framed with a schema id that no registry has handed out.
NEVER_ALLOTTED = b"\x00\x7f\xff\xff\xff"
_EACH = 3

Events = Mapping[str, Sequence[Event]]


@dataclass(frozen=True, slots=True)
class BadCase:
    """One kind of bad record: what is sent to which dataset by which system, what must happen."""

    name: str
    dataset: str
    system: str
    content_type: str
    door: Literal["http", "lane"]
    reason: Reason
    bodies: tuple[bytes, ...]  # one per record


def bad_cases(allowances: Events, settlements: Events, deaths: Events, seed: int) -> list[BadCase]:
    """All cases; the events given are the good ones, which come before on the bus."""
    return [
        *_allowance_cases(allowances),
        *_settlement_cases(settlements),
        *_death_cases(deaths),
        *_raw_cases(Dice(seed, "faults")),
    ]


def _case(
    name: str,
    dataset: str,
    system: str,
    door: Literal["http", "lane"],
    reason: Reason,
    events: Sequence[Event],
) -> BadCase:
    bodies = tuple(event.line() for event in events)
    return BadCase(name, dataset, system, NDJSON, door, reason, bodies)


def _fresh(events: Sequence[Event], name: str, **items: object) -> list[Event]:
    """The first few good events under ids of their own, with other values."""
    return [
        Event(f"bad-{name}-{number}", event.changed(**items).data, event.operation)
        for number, event in enumerate(events[1 : 1 + _EACH], start=1)
    ]


def _allowance_cases(allowances: Events) -> list[BadCase]:
    dataset, system = "subsistence-allowance", "wuhua-civil"
    good = allowances[system]
    elsewhere = allowances["xingning-civil"][1]
    wrong_digit = [
        e.changed(id_number=_other_digit(e.data["id_number"]))
        for e in _fresh(good, "bad-check-digit")
    ]
    other_content = [e.changed(monthly_amount=yuan(999_900)) for e in good[1 : 1 + _EACH]]
    town = elsewhere.data["registered_town"]
    if not town.startswith(XINGNING[:6]):
        raise ValueError("the case of a wrong region needs a town of another county")
    return [
        _case(
            "wrong-region",
            dataset,
            system,
            "lane",
            Reason.OUT_OF_JURISDICTION,
            _fresh(good, "wrong-region", registered_town=town),
        ),
        _case("bad-check-digit", dataset, system, "http", Reason.BAD_ID_NUMBER, wrong_digit),
        _case(
            "required-empty",
            dataset,
            system,
            "http",
            Reason.REQUIRED_MISSING,
            _fresh(good, "required-empty", household_no=""),
        ),
        _case(
            "money-as-number",
            dataset,
            system,
            "http",
            Reason.BAD_VALUE,
            _fresh(good, "money-as-number", monthly_amount=650.5),
        ),
        _case("id-reused", dataset, system, "lane", Reason.ID_REUSED, other_content),
        _case(
            "not-your-dataset",
            "death-certificate",
            system,
            "http",
            Reason.NOT_YOUR_DATASET,
            _fresh(good, "not-your-dataset")[:1],
        ),
    ]


def _settlement_cases(settlements: Events) -> list[BadCase]:
    dataset, system = "remote-medical-settlement", "gz-insurance"
    good = settlements[system]
    return [
        _case(
            "unknown-item",
            dataset,
            system,
            "http",
            Reason.UNKNOWN_ITEM,
            _fresh(good, "unknown-item", bank_account="示例账号"),
        ),
        _case(
            "sums-disagree",
            dataset,
            system,
            "http",
            Reason.ITEMS_DISAGREE,
            _fresh(good, "sums-disagree", psn_cash_pay=yuan(99_999_999)),
        ),
        _case(
            "oversize",
            dataset,
            system,
            "http",
            Reason.TOO_LARGE,
            _fresh(good, "oversize", clr_optins="0" * OVERSIZE_BYTES)[:1],
        ),
    ]


def _death_cases(deaths: Events) -> list[BadCase]:
    dataset, system = "death-certificate", "gz-health"
    good = deaths[system]
    return [
        _case(
            "unknown-region",
            dataset,
            system,
            "lane",
            Reason.UNKNOWN_REGION,
            _fresh(good, "unknown-region", death_region="440199000000"),
        ),
        _case("duplicate", dataset, system, "lane", Reason.DUPLICATE, good[1 : 1 + _EACH]),
    ]


def _raw_cases(dice: Dice) -> list[BadCase]:
    # 0xff first: never the marker byte 0x00 of a framed record
    garbage = b"\xff" + bytes(dice.below(256) for _ in range(199))
    wrong_id = NEVER_ALLOTTED + bytes(dice.below(256) for _ in range(60))
    where = ("death-certificate", "gz-health", AVRO)
    return [
        BadCase("garbage-bytes", *where, "http", Reason.BAD_FRAMING, (garbage,)),
        BadCase("wrong-schema-id", *where, "http", Reason.UNKNOWN_SCHEMA, (wrong_id,)),
    ]


def _other_digit(id_number: str) -> str:
    """The number with a wrong last character."""
    return id_number[:-1] + ("0" if id_number[-1] != "0" else "1")
