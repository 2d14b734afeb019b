"""Headers: strict and bounded in, made by the bus alone out."""

from __future__ import annotations

import base64
import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shutong_core.domain.reasons import Reason
from shutong_core.wire.framing import guid_header
from shutong_core.wire.headers import (
    CloudEventsHeaders,
    InboundHeaders,
    inbound_headers,
    is_event_id,
    is_rfc3339,
    operation_of,
    read_headers,
    rfc3339,
)

USCC = "11441424000000001X"
PUBLISHER = f"{USCC}/wuhua-civil"
GUID = "12345678-9abc-def0-1234-56789abcdef0"
READ = ["ce_id", "ce_type", "ce_time", "shutong_publisher", "__value_schema_id"]


def test_all_headers_that_are_read() -> None:
    headers = [
        ("ce_id", "决定-1".encode()),
        ("ce_type", b"minimum-living.correct"),
        ("ce_time", b"2026-09-21T08:00:00.5+08:00"),
        ("shutong_publisher", PUBLISHER.encode()),
        guid_header(GUID),
        ("traceparent", b"ignored"),
    ]
    assert read_headers(headers) == InboundHeaders(
        "决定-1", "minimum-living.correct", "2026-09-21T08:00:00.5+08:00", PUBLISHER, GUID
    )


def test_no_headers_is_nothing_known() -> None:
    assert read_headers([]) == InboundHeaders()


@pytest.mark.parametrize("name", READ)
def test_a_header_that_is_read_may_stand_there_once(name: str) -> None:
    value = guid_header(GUID)[1] if name.startswith("__") else b"x"
    expected = Reason.BAD_FRAMING if name.startswith("__") else Reason.MALFORMED
    assert read_headers([(name, value), (name, value)]) is expected
    assert read_headers([(name, None)]) is expected


def test_other_headers_may_repeat_and_be_null() -> None:
    assert read_headers([("x", None), ("x", b"\xff")]) == InboundHeaders()


def test_more_than_32_headers_are_too_many() -> None:
    assert read_headers([("x", b"")] * 32) == InboundHeaders()
    assert read_headers([("x", b"")] * 33) is Reason.TOO_LARGE


def test_more_than_8_kib_of_names_and_values_are_too_much() -> None:
    assert read_headers([("x", bytes(8191))]) == InboundHeaders()
    assert read_headers([("x", bytes(8192))]) is Reason.TOO_LARGE
    assert read_headers([("名" * 2731, b"")]) is Reason.TOO_LARGE


@pytest.mark.parametrize(
    "value", [b"", b"\xff", b"a\x00b", b"a\nb", b"x" * 129, "a\u202eb".encode(), b"\xed\xa0\x80"]
)
def test_a_bad_event_id_is_told_apart_from_none(value: bytes) -> None:
    found = read_headers([("ce_id", value), ("shutong_publisher", PUBLISHER.encode())])
    assert found == InboundHeaders(event_id=Reason.BAD_EVENT_ID, publisher=PUBLISHER)


def test_an_event_id_is_bounded_in_characters_and_in_bytes_as_the_audit_is() -> None:
    assert is_event_id("x" * 128)
    assert not is_event_id("x" * 129)
    assert is_event_id("号" * 85)
    assert not is_event_id("号" * 86)
    sound, long = ("号" * 85).encode(), ("号" * 86).encode()
    assert read_headers([("ce_id", sound)]) == InboundHeaders(event_id="号" * 85)
    assert read_headers([("ce_id", long)]) == InboundHeaders(event_id=Reason.BAD_EVENT_ID)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ce_type", b"\xff"),
        ("ce_type", b""),
        ("ce_time", b"yesterday"),
        ("ce_time", b"2026-09-21T08:00:00"),
        ("ce_time", b"2026-13-21T08:00:00Z"),
    ],
)
def test_other_text_out_of_form_is_malformed(name: str, value: bytes) -> None:
    assert read_headers([(name, value)]) is Reason.MALFORMED


@pytest.mark.parametrize(
    "value", [b"", b"\xff", b"x", USCC.encode(), f"{USCC}/A".encode(), f"{PUBLISHER}\n".encode()]
)
def test_a_publisher_out_of_form_is_nobody(value: bytes) -> None:
    assert read_headers([("shutong_publisher", value)]) == InboundHeaders()


@pytest.mark.parametrize(
    ("ce_type", "operation"),
    [
        (None, "put"),
        ("minimum-living.put", "put"),
        ("minimum-living.correct", "correct"),
        ("a.b.delete", "delete"),
        ("delete", "delete"),
        ("minimum-living.Delete", Reason.UNKNOWN_OPERATION),
        ("minimum-living.", Reason.UNKNOWN_OPERATION),
        ("put.minimum-living", Reason.UNKNOWN_OPERATION),
    ],
)
def test_the_operation_is_the_suffix_of_ce_type(
    ce_type: str | None, operation: str | Reason
) -> None:
    assert operation_of(ce_type) == operation


def test_what_the_producer_service_writes_reads_back() -> None:
    headers = inbound_headers(PUBLISHER, "id 1", "minimum-living", "delete")
    assert read_headers(headers) == InboundHeaders(
        event_id="id 1", ce_type="minimum-living.delete", publisher=PUBLISHER
    )
    assert read_headers(inbound_headers(PUBLISHER, None, "d", None)) == InboundHeaders(
        publisher=PUBLISHER
    )


def test_the_producer_service_cannot_write_what_would_be_refused() -> None:
    with pytest.raises(ValueError, match="publisher"):
        inbound_headers("somebody", None, "d", None)
    with pytest.raises(ValueError, match="event id"):
        inbound_headers(PUBLISHER, "", "d", None)


def test_placed_cloudevents_headers_name_provider_operation_and_time() -> None:
    made = dict(CloudEventsHeaders("d", USCC, b"secret").headers("put", 3, 17, 1_500))
    coordinates = b"shutong-ce-id-v1" + b"\0\0\0\x01d" + b"\0\0\0\x03" + bytes(7) + b"\x11"
    keyed = hmac.new(b"secret", coordinates, hashlib.sha256).digest()[:16]
    assert base64.urlsafe_b64decode(made.pop("ce_id") + b"==") == keyed
    assert made == {
        "ce_specversion": b"1.0",
        "ce_source": USCC.encode(),
        "ce_type": b"d.put",
        "ce_time": b"1970-01-01T00:00:01.500Z",
    }


def test_ce_id_is_stable_for_a_grant_and_tells_nothing_across_grants() -> None:
    one, other = CloudEventsHeaders("d", USCC, b"1"), CloudEventsHeaders("d", USCC, b"2")

    def ce_id(maker: CloudEventsHeaders, partition: int, offset: int) -> bytes:
        return dict(maker.headers("put", partition, offset, 0))["ce_id"]

    assert ce_id(one, 0, 1) == ce_id(one, 0, 1)
    assert len({ce_id(one, 0, 1), ce_id(one, 1, 0), ce_id(one, 0, 2), ce_id(other, 0, 1)}) == 4


@given(st.integers(-(10**13), 10**14))
def test_a_time_written_is_rfc_3339(time_ms: int) -> None:
    assert is_rfc3339(rfc3339(time_ms))


@given(
    st.lists(
        st.tuples(
            st.sampled_from(READ) | st.text(max_size=5),
            st.none() | st.binary(max_size=140),
        ),
        max_size=40,
    )
)
def test_any_headers_give_a_value_or_a_reason(headers: list[tuple[str, bytes | None]]) -> None:
    found = read_headers(headers)
    if isinstance(found, InboundHeaders):
        assert isinstance(operation_of(found.ce_type), str | Reason)
    else:
        assert found in {Reason.TOO_LARGE, Reason.MALFORMED, Reason.BAD_FRAMING}
