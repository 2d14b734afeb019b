"""Answers that carry records: let out piece by piece, counted only when they went out whole."""

from __future__ import annotations

from typing import Any

from fastapi.responses import JSONResponse, Response

from shutong_consumer.answer import PIECE_BYTES, GuardedAnswer, wants_ndjson
from shutong_consumer.refused import RequestRefused
from shutong_core.domain.reasons import Reason

BODY = b"x" * (3 * PIECE_BYTES + 1)


async def sent(revoked_after: int | None) -> tuple[list[dict[str, Any]], list[str]]:
    """Messages that went out, and what was counted, if the right ends after so many messages."""
    messages: list[dict[str, Any]] = []
    counted: list[str] = []

    def check() -> None:
        if revoked_after is not None and len(messages) >= revoked_after:
            raise RequestRefused(Reason.NOT_YOUR_GRANT)

    async def refuse(refused: RequestRefused) -> Response:
        counted.append("noted")
        return JSONResponse(refused.document(), refused.status)

    async def send(message: Any) -> None:
        messages.append(message)

    async def receive() -> Any:
        raise AssertionError("nothing to receive")

    answer = GuardedAnswer(
        BODY, "application/json", check, refuse, lambda: counted.append("fetched")
    )
    await answer({"type": "http", "method": "GET"}, receive, send)
    return messages, counted


async def test_an_answer_goes_out_whole_and_is_counted_once() -> None:
    messages, counted = await sent(None)
    assert b"".join(each.get("body", b"") for each in messages) == BODY
    assert [each.get("more_body") for each in messages] == [None, True, True, True, False]
    assert counted == ["fetched"]


async def test_a_right_that_ended_before_the_first_piece_makes_it_a_refusal() -> None:
    messages, counted = await sent(0)
    assert messages[0]["status"] == 403
    assert b"NOT_YOUR_GRANT" in messages[1]["body"]
    assert counted == ["noted"]


async def test_a_right_that_ends_on_the_way_cuts_the_answer_and_nothing_is_counted() -> None:
    messages, counted = await sent(3)
    out = [each for each in messages if each["type"] == "http.response.body"]
    assert len(out) == 2
    assert all(each["more_body"] for each in out)
    assert counted == []


def test_ndjson_is_chosen_by_the_accept_header() -> None:
    assert wants_ndjson("text/html, application/x-ndjson;q=0.9")
    assert not wants_ndjson("application/json")
    assert not wants_ndjson(None)
