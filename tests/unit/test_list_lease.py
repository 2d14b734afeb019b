"""For how long each list may be used, after the last answer from Kafka."""

from __future__ import annotations

from shutong_core.runtime.listlease import LEASE_S, TAKING_UP_S_MAX, Lease


def answered(lease: Lease, *, at: float, in_force: int, newest: int, adds_since: int) -> None:
    lease.renew(at, in_force, newest, adds_since)


def test_without_an_answer_no_list_holds() -> None:
    assert not Lease().holds(0, 0.0)


def test_the_newest_list_holds_for_the_lease_from_the_question_and_no_longer() -> None:
    lease = Lease()
    answered(lease, at=10.0, in_force=1, newest=1, adds_since=1)
    assert lease.holds(1, 10.0 + LEASE_S)
    assert not lease.holds(1, 10.1 + LEASE_S)
    assert not lease.holds(1, 9.9), "a clock that goes back gives no time"


def test_a_list_that_changes_more_ends_the_older_one_in_what_is_left_of_its_lease() -> None:
    lease = Lease()
    answered(lease, at=10.0, in_force=1, newest=1, adds_since=1)
    for at in (11.0, 12.0, 12.9):
        answered(lease, at=at, in_force=1, newest=2, adds_since=2)
    assert lease.holds(1, 13.0)
    assert not lease.holds(1, 13.1)


def test_a_list_may_be_used_at_once_when_it_is_taken_up_after_long_reading() -> None:
    lease = Lease()
    answered(lease, at=10.0, in_force=1, newest=1, adds_since=1)
    for at in (11.0, 14.0, 17.0):
        answered(lease, at=at, in_force=1, newest=2, adds_since=2)
    # Taken up now; the answer that ended the reading was to a question from its beginning.
    answered(lease, at=11.0, in_force=2, newest=2, adds_since=2)
    assert lease.holds(2, 17.0 + LEASE_S)


def test_a_list_that_only_adds_lets_the_older_one_go_on_while_kafka_answers() -> None:
    lease = Lease()
    answered(lease, at=10.0, in_force=1, newest=1, adds_since=1)
    for second in range(11, 31):
        answered(lease, at=float(second), in_force=1, newest=2, adds_since=1)
    assert lease.holds(1, 30.0 + LEASE_S)
    assert not lease.holds(1, 30.1 + LEASE_S), "Kafka said nothing more"


def test_who_does_not_take_up_what_was_added_stops_at_last() -> None:
    lease = Lease()
    answered(lease, at=0.0, in_force=1, newest=1, adds_since=1)
    end = int(TAKING_UP_S_MAX + LEASE_S) + 2
    for second in range(1, end):
        answered(lease, at=float(second), in_force=2, newest=2, adds_since=1)
    assert not lease.holds(1, float(end))
    assert lease.holds(2, float(end))


def test_a_list_that_takes_away_after_one_that_added_ends_both_older_ones() -> None:
    lease = Lease()
    answered(lease, at=0.0, in_force=1, newest=1, adds_since=1)
    answered(lease, at=1.0, in_force=2, newest=2, adds_since=1)
    for second in range(2, 6):
        answered(lease, at=float(second), in_force=3, newest=3, adds_since=3)
    assert not lease.holds(1, 5.0)
    assert not lease.holds(2, 5.0)
    assert lease.holds(3, 5.0)


def test_an_answer_to_an_older_question_takes_no_time_away() -> None:
    lease = Lease()
    answered(lease, at=10.0, in_force=1, newest=2, adds_since=1)
    answered(lease, at=4.0, in_force=2, newest=2, adds_since=1)
    assert lease.holds(1, 10.0 + LEASE_S)


def test_a_lost_lease_is_not_given_back_to_a_list_that_is_not_in_force_any_more() -> None:
    lease = Lease()
    answered(lease, at=0.0, in_force=1, newest=1, adds_since=1)
    answered(lease, at=1.0, in_force=2, newest=2, adds_since=1)
    lease.lose()
    answered(lease, at=2.0, in_force=2, newest=2, adds_since=1)
    assert not lease.holds(1, 2.0)
    assert lease.holds(2, 2.0)
