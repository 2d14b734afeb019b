"""What a lane remembers of event ids, and when it forgets: by whole blocks, never too early."""

from __future__ import annotations

from collections.abc import Sequence

from shutong_broker.window import Accepted, RepeatWindow


def ids(*numbers: int) -> list[bytes]:
    return [number.to_bytes(8, "big") for number in numbers]


def block(numbers: Sequence[int], at_ms: int = 0) -> Accepted:
    digests = b"".join(number.to_bytes(32, "big") for number in numbers)
    return Accepted(b"s" * 16, at_ms, b"".join(ids(*numbers)), digests, bytes(len(numbers)))


def known(window: RepeatWindow, *numbers: int, now_ms: int = 0) -> list[bool]:
    return [not window.none_of([each], now_ms) for each in ids(*numbers)]


def test_the_last_ids_are_known_and_at_most_a_block_more() -> None:
    window = RepeatWindow(ids_max=4)
    for numbers in ([1, 2], [3, 4], [5, 6]):
        window.add(block(numbers))
    assert known(window, 1, 2, 3, 4, 5, 6) == [False, False, True, True, True, True]
    window.add(block([7]))
    assert known(window, 3, 4, 5, 6, 7) == [True] * 5
    assert len(window) == 5


def test_ids_are_known_until_their_age_has_passed() -> None:
    window = RepeatWindow(age_ms_max=1000)
    window.add(block([1], at_ms=5000))
    (first,) = ids(1)
    assert known(window, 1, now_ms=6000) == [True]
    assert window.find(first, 6000) is not None
    assert window.find(first, 6001) is None
    assert known(window, 1, now_ms=6001) == [False]
    assert len(window) == 0


def test_an_id_accepted_again_outlives_its_first_block() -> None:
    window = RepeatWindow(age_ms_max=1000)
    window.add(block([1, 2], at_ms=0))
    window.add(block([1], at_ms=900))
    assert known(window, 1, 2, now_ms=1500) == [True, False]


def test_the_record_found_is_the_one_with_the_id_not_one_across_two() -> None:
    (middle,) = ids(0x0000_0001_0000_0000)
    accepted = block([1, 2, 0x0000_0001_0000_0000])
    assert accepted.ids.find(middle) % 8
    found = accepted.find(middle)
    assert found is not None
    assert found.digest == (0x0000_0001_0000_0000).to_bytes(32, "big")
    assert accepted.find(b"x" * 8) is None
