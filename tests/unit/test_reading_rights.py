"""Who may read what: by requester, host, class and moment; everything else is refused."""

from __future__ import annotations

from typing import Any

import pytest

from shutong_consumer.refused import RequestRefused
from shutong_consumer.rights import Right, Rights, bearer
from shutong_core.domain.organisations import Role
from shutong_core.domain.version import AnyRow, parse_row
from unit import listing_fixtures as listing
from unit.policy_world import MEIZHOU_GRANT, now_ms, table

TOWNS = "towns"
ONE, TWO = "441424100000", "441424104000"
HOST = listing.uscc(21, listing.WUHUA)
HOSTED_ONE, HOSTED_TWO = listing.uscc(22, ONE), listing.uscc(23, TWO)


def row(base: AnyRow, **changed: Any) -> AnyRow:
    body = base.body() | changed
    return parse_row({name: value for name, value in body.items() if value is not None})


def town(uscc: str, region: str, **fields: Any) -> AnyRow:
    return listing.organisation(uscc, region=region, **fields)


def right(
    system: str, grant: str, *rows: AnyRow, territory: str | None = None, at: str | None = None
) -> Right:
    """The right under the minimal list, with a class grant of all towns and these rows."""
    bus = row(listing.bus(), division_digest=table().digest.hex())
    towns = row(
        listing.grant(TOWNS),
        requester=None,
        requester_class={"level": "town", "within": listing.GUANGDONG},
        scope={"role": "受理地"},
    )
    version = listing.minimal(bus, towns, *rows)
    moment = now_ms(at) if at else now_ms()
    return Rights(table()).right(version, system, grant, moment, territory)


def refusal(*args: Any, **more: Any) -> str:
    with pytest.raises(RequestRefused) as caught:
        right(*args, **more)
    return caught.value.reason.name


HOSTING = (
    listing.organisation(HOST, region=listing.WUHUA),
    listing.system("host", HOST),
    town(HOSTED_ONE, ONE, hosted_by=HOST),
    town(HOSTED_TWO, TWO, hosted_by=HOST),
)


def test_the_requester_reads_its_grant_for_itself() -> None:
    found = right("meizhou-civil", MEIZHOU_GRANT)
    assert (found.agency, found.territory, found.hosted) == (listing.REQUESTER, None, False)
    assert found.caller.actor == f"{listing.REQUESTER}/meizhou-civil"


def test_a_host_reads_for_the_requester_it_hosts() -> None:
    hosted = listing.requester(hosted_by=HOST)
    found = right("host", MEIZHOU_GRANT, *HOSTING, hosted)
    assert (found.agency, found.hosted) == (listing.REQUESTER, True)
    assert refusal("host", MEIZHOU_GRANT, *HOSTING) == "NOT_YOUR_GRANT"


def test_the_provider_does_not_read_what_it_gave() -> None:
    assert refusal("wuhua-civil", MEIZHOU_GRANT) == "NOT_YOUR_GRANT"


def test_what_is_not_in_the_list_is_answered_like_somebody_elses() -> None:
    assert refusal("meizhou-civil", "no-such-grant") == "NOT_YOUR_GRANT"
    assert refusal("no-such-system", MEIZHOU_GRANT) == "UNAUTHENTICATED"


def test_a_town_of_the_class_reads_for_its_own_territory() -> None:
    rows = (town(HOSTED_ONE, ONE), listing.system("one", HOSTED_ONE))
    assert right("one", TOWNS, *rows).territory == ONE
    assert right("one", TOWNS, *rows, territory=ONE).territory == ONE
    assert refusal("one", TOWNS, *rows, territory=TWO) == "NOT_YOUR_GRANT"


@pytest.mark.parametrize("region", [listing.WUHUA, listing.MEIZHOU, listing.GUANGDONG])
def test_who_is_above_the_towns_is_not_of_their_class(region: str) -> None:
    rows = (town(HOSTED_ONE, region), listing.system("one", HOSTED_ONE))
    assert refusal("one", TOWNS, *rows) == "NOT_YOUR_GRANT"


def test_an_organisation_that_requests_nothing_is_of_no_class() -> None:
    rows = (town(HOSTED_ONE, ONE, roles=(Role.PROVIDER,)), listing.system("one", HOSTED_ONE))
    assert refusal("one", TOWNS, *rows) == "NOT_YOUR_GRANT"


def test_a_host_of_several_towns_must_say_for_which_it_reads() -> None:
    assert refusal("host", TOWNS, *HOSTING) == "BAD_REQUEST"
    found = right("host", TOWNS, *HOSTING, territory=TWO)
    assert (found.agency, found.territory) == (HOSTED_TWO, TWO)
    assert refusal("host", TOWNS, *HOSTING, territory="441481100000") == "NOT_YOUR_GRANT"


def test_a_grant_to_one_is_not_split() -> None:
    assert refusal("meizhou-civil", MEIZHOU_GRANT, territory=ONE) == "BAD_REQUEST"


def test_another_division_table_than_the_lists_lets_no_class_grant_out() -> None:
    rows = (town(HOSTED_ONE, ONE), listing.system("one", HOSTED_ONE), listing.bus())
    assert refusal("one", TOWNS, *rows) == "LIST_LEASE_LOST"


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        ("2025-12-31T23:59:59.999+00:00", "NOT_YET_VALID"),
        ("2026-01-01T00:00:00+00:00", None),
        ("2026-12-31T23:59:59.999+00:00", None),
        ("2027-01-01T00:00:00+00:00", "EXPIRED"),
    ],
)
def test_validity_is_to_the_millisecond(at: str, expected: str | None) -> None:
    if expected is None:
        assert right("meizhou-civil", MEIZHOU_GRANT, at=at)
    else:
        assert refusal("meizhou-civil", MEIZHOU_GRANT, at=at) == expected


def test_a_suspension_holds_from_its_moment_on() -> None:
    stopped = row(
        listing.grant(), suspended={"since": "2026-06-01T00:00:00+00:00", "reason": "核查"}
    )
    assert right("meizhou-civil", MEIZHOU_GRANT, stopped, at="2026-05-31T23:59:59.999+00:00")
    late = {"at": "2026-06-01T00:00:00+00:00"}
    assert refusal("meizhou-civil", MEIZHOU_GRANT, stopped, **late) == "SUSPENDED"


def test_what_is_put_on_the_negative_list_closes_at_the_reader_too() -> None:
    assert right("meizhou-civil", MEIZHOU_GRANT, listing.negative())
    item = listing.negative(items=("name",))
    assert refusal("meizhou-civil", MEIZHOU_GRANT, item) == "NEGATIVE_LIST"
    whole = listing.negative(items=())
    assert refusal("meizhou-civil", MEIZHOU_GRANT, whole) == "NEGATIVE_LIST"
    closed = row(listing.dataset(), share="not_shared")
    assert refusal("meizhou-civil", MEIZHOU_GRANT, closed) == "NEGATIVE_LIST"
    secret = row(listing.dataset(), secrecy="work")
    assert refusal("meizhou-civil", MEIZHOU_GRANT, secret) == "SECRET"


def test_a_region_outside_the_territory_or_unknown_does_not_lie_in_it() -> None:
    lies_in = Rights(table()).lies_in(ONE)
    assert lies_in(ONE)
    assert not any(map(lies_in, (TWO, listing.WUHUA, f"{listing.WUHUA}@self", "x", "", None)))


@pytest.mark.parametrize(
    ("header", "key"),
    [
        ("Bearer stk_x", "stk_x"),
        ("bearer  stk_x ", "stk_x"),
        ("Basic stk_x", None),
        ("Bearer ", None),
        ("stk_x", None),
        ("", None),
        (None, None),
    ],
)
def test_the_key_stands_after_bearer(header: str | None, key: str | None) -> None:
    assert bearer(header) == key
