"""Countersigned records are counted once, however often their stretch was signed."""

from __future__ import annotations

from shutong_auditor.acknowledged import Acknowledged
from shutong_core.audit.receipts import DeliveryReceipt


def receipt(first: int, last: int, lane: int = 0, territory: str | None = None) -> DeliveryReceipt:
    return DeliveryReceipt(
        cluster="c",
        grant="g",
        territory=territory,
        lane=lane,
        first=first,
        last=last,
        chain="ab" * 32,
        agency="11330100002489514D/social-1",
        at_ms=1_780_000_000_000,
    )


def counted(*receipts: DeliveryReceipt) -> int:
    found = Acknowledged()
    for each in receipts:
        found.add(each)
    return found.by_grant["g"]


def test_a_stretch_signed_twice_is_counted_once() -> None:
    assert counted(receipt(1, 40), receipt(1, 40)) == 40


def test_a_second_signature_that_reaches_further_adds_what_is_new() -> None:
    assert counted(receipt(1, 40), receipt(1, 60), receipt(41, 50)) == 60


def test_who_took_the_chain_up_late_signed_from_there() -> None:
    assert counted(receipt(101, 110), receipt(111, 120)) == 20
    assert counted(receipt(1, 10), receipt(21, 30)) == 20


def test_lanes_and_territories_have_chains_of_their_own() -> None:
    towns = ("441424100000", "441424104000")
    assert counted(*(receipt(1, 5, lane, town) for lane in (0, 1) for town in towns)) == 20
