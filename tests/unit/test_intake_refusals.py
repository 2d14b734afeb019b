"""The index of refusals: everybody sees their own, memory stays bounded, no gap goes unseen."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from shutong_core.domain.reasons import Reason
from shutong_core.wire.quarantine import QuarantineHeaders, Source
from shutong_producer.refusals import Gone, Page, RefusalIndex


def told(publisher: str, offset: int = 7) -> QuarantineHeaders:
    return QuarantineHeaders(publisher, "e-1", Reason.DUPLICATE, "", Source("d", 1, offset))


def index(entries_max: int = 100, starts: dict[int, int] | None = None) -> RefusalIndex:
    it = RefusalIndex(entries_max)
    it.begin(starts or {0: 0, 1: 0})
    return it


def page(it: RefusalIndex, publisher: str, since: dict[int, int] | None, limit: int = 10) -> Page:
    found = it.page(publisher, since, limit)
    assert isinstance(found, Page)
    return found


def test_a_refusal_is_told_with_reason_and_place_and_no_value() -> None:
    it = index()
    it.add(1, 0, 1_790_000_000_123, told("a", 42))
    assert page(it, "a", None).records[0].document() == {
        "id": "e-1",
        "dataset": "d",
        "reason": "DUPLICATE",
        "path": "",
        "zh": Reason.DUPLICATE.zh,
        "en": Reason.DUPLICATE.en,
        "at": "2026-09-21T14:13:20.123Z",
        "partition": 1,
        "offset": 42,
    }


def test_each_publisher_sees_only_its_own() -> None:
    it = index()
    it.add(0, 0, 0, told("a"))
    it.add(0, 1, 0, told("b"))
    it.add(0, 2, 0, told(""))
    it.add(0, 3, 0, None)
    assert [each.offset for each in page(it, "a", None).records] == [0]
    assert [each.offset for each in page(it, "b", None).records] == [1]
    assert page(it, "c", None).records == ()
    assert it.total == 2


def test_reasons_that_are_not_wanted_are_passed_over() -> None:
    it = index()
    for offset, reason in enumerate((Reason.DUPLICATE, Reason.BAD_USCC) * 3):
        it.add(0, offset, 0, QuarantineHeaders("a", "e", reason, "", Source("d", 1, offset)))

    def found(since: dict[int, int] | None, limit: int) -> Page:
        made = it.page("a", since, limit, lambda each: each is not Reason.DUPLICATE)
        assert isinstance(made, Page)
        return made

    first = found(None, 2)
    assert [each.offset for each in first.records] == [1, 3]
    rest = found(dict(first.following), 2)
    assert [each.offset for each in rest.records] == [5]
    assert (rest.following[0], rest.more) == (6, False)


def test_a_cursor_goes_on_where_the_page_ended() -> None:
    it = index()
    for offset in range(5):
        it.add(offset % 2, offset // 2, 0, told("a"))
    first = page(it, "a", None, 3)
    assert (len(first.records), first.more) == (3, True)
    second = page(it, "a", dict(first.following), 3)
    assert (len(second.records), second.more) == (2, False)
    assert page(it, "a", dict(second.following)).records == ()
    it.add(1, 9, 0, told("a"))
    assert [each.offset for each in page(it, "a", dict(second.following)).records] == [9]


def test_a_flood_by_one_does_not_push_out_another() -> None:
    it = index(entries_max=10)
    it.add(0, 0, 0, told("quiet"))
    for offset in range(1, 1000):
        it.add(0, offset, 0, told("loud"))
    assert it.total == 10
    assert len(page(it, "quiet", None).records) == 1
    assert len(page(it, "loud", None, 100).records) == 9


def test_a_cursor_before_what_is_kept_is_told_and_not_passed_over() -> None:
    it = index(entries_max=2)
    before = dict(page(it, "a", None).following)
    for offset in range(4):
        it.add(0, offset, 0, told("a"))
    found = it.page("a", before, 10)
    assert isinstance(found, Gone)
    assert found.oldest == {0: 2, 1: 0}
    assert len(page(it, "a", dict(found.oldest)).records) == 2


def test_a_cursor_ahead_of_a_restarted_service_is_not_moved_back() -> None:
    it = index(starts={0: 5, 1: 0})
    found = page(it, "a", {0: 50, 1: 3})
    assert found.following == {0: 50, 1: 3}


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 2)), max_size=60),
    st.integers(1, 7),
)
def test_pages_add_up_to_everything_once(added: list[tuple[str, int]], limit: int) -> None:
    it = index(starts={0: 0, 1: 0, 2: 0})
    offsets = [0, 0, 0]
    wanted = set()
    for publisher, partition in added:
        it.add(partition, offsets[partition], 0, told(publisher))
        if publisher == "a":
            wanted.add((partition, offsets[partition]))
        offsets[partition] += 1
    seen: list[tuple[int, int]] = []
    cursor: dict[int, int] | None = None
    more = True
    while more:
        found = page(it, "a", cursor, limit)
        seen += [(each.partition, each.offset) for each in found.records]
        cursor, more = dict(found.following), found.more
    assert len(seen) == len(wanted)
    assert set(seen) == wanted
