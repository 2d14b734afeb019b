"""Who may publish what: by the list in force alone."""

from __future__ import annotations

import pytest

from shutong_core.domain.reasons import Reason
from shutong_producer.refused import RequestRefused
from shutong_producer.rights import bearer, caller_of, publishable
from unit import listing_fixtures as listing
from unit.intake_world import DATASET, PUBLISHER, READER, SECOND, SECOND_ORG, SYSTEM, Lists, world

WORLD = world()


def reason(system: str, dataset: str) -> Reason | None:
    try:
        publishable(WORLD.version, caller_of(WORLD.version, system), dataset)
    except RequestRefused as refused:
        return refused.reason
    return None


@pytest.mark.parametrize(
    ("system", "dataset", "expected"),
    [
        (SYSTEM, DATASET, None),  # the lead provider
        (SECOND, DATASET, None),  # a publisher of the list
        (READER, DATASET, Reason.NOT_YOUR_DATASET),  # reads it, must not write it
        (SYSTEM, "not-mine", Reason.NOT_YOUR_DATASET),
        (SYSTEM, "no-such-dataset", Reason.DATASET_NOT_IN_FORCE),
        (SYSTEM, "own-client", Reason.NOT_YOUR_DATASET),
        (SYSTEM, "work-secret", Reason.SECRET),
        (SYSTEM, "derived", Reason.NOT_YOUR_DATASET),  # passing on without consent, Art. 25
        ("unknown-system", DATASET, Reason.UNKNOWN_PUBLISHER),
    ],
)
def test_right_to_publish(system: str, dataset: str, expected: Reason | None) -> None:
    assert reason(system, dataset) is expected


def test_the_publisher_is_the_keys_system_and_its_organisation() -> None:
    assert caller_of(WORLD.version, SYSTEM).publisher == PUBLISHER
    assert caller_of(WORLD.version, SECOND).publisher == f"{SECOND_ORG}/{SECOND}"


def test_a_key_does_not_outlive_its_organisation() -> None:
    lists = Lists(WORLD.version, WORLD.schemas)
    lists.without(f"organisation/{listing.PROVIDER}")
    assert lists.version is not None
    with pytest.raises(RequestRefused) as refused:
        caller_of(lists.version, SYSTEM)
    assert refused.value.status == 403


@pytest.mark.parametrize(
    ("header", "key"),
    [
        ("Bearer abc", "abc"),
        ("bearer abc", "abc"),
        ("Basic abc", None),
        ("Bearer", None),
        ("Bearer  ", None),
        ("", None),
        (None, None),
    ],
)
def test_only_a_bearer_key_is_a_key(header: str | None, key: str | None) -> None:
    assert bearer(header) == key
