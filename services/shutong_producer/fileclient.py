"""The producer service as a file publisher calls it: one dataset, one request at a time.

Passing faults are tried again, with growing waits and no shorter than the service asks for; a
refusal is not, because the same request would be refused again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import httpx2

from shutong_core.domain.errors import Rejected, Retryable
from shutong_core.domain.reasons import Reason
from shutong_core.domain.schemaview import FieldType

#: Answers after which the same request may succeed later (RFC 9110, RFC 6585).
_PASSING = frozenset({408, 429, 500, 502, 503, 504})
_WAIT_FIRST_S, _WAIT_MAX_S = 0.2, 10.0


#: Told once at each passing fault that is waited out: what is wrong, for how long at most.
OnFault = Callable[[str, float], None]


def no_word(_fault: str, _patience_s: float) -> None:
    """Say nothing."""


class BusClient:
    """The producer service at `url`, asked with one API key about one dataset."""

    def __init__(
        self,
        http: httpx2.AsyncClient,
        url: str,
        key: str,
        dataset: str,
        patience_s: float,
        on_fault: OnFault = no_word,
    ) -> None:
        self._http = http
        self._url = url
        self._headers = {"Authorization": f"Bearer {key}"}
        self._dataset = dataset
        self._patience_s = patience_s
        self._on_fault = on_fault

    async def fields(self) -> dict[str, FieldType]:
        """The dataset's items. Raises Rejected if this key may not publish it."""
        answer = await self._call("GET", "/v1/datasets")
        for found in answer.get("datasets", ()):
            if found.get("id") == self._dataset:
                return {
                    each["name"]: FieldType(
                        name=each["name"],
                        avro=each["avro"],
                        logical=each["logical"],
                        nullable=each["nullable"],
                        symbols=tuple(each["symbols"]),
                    )
                    for each in found["items"]
                }
        raise Rejected(
            f"{self._dataset}: {Reason.NOT_YOUR_DATASET.zh} {Reason.NOT_YOUR_DATASET.en}"
        )

    async def post(self, body: bytes, records: int) -> list[dict[str, Any]]:
        """Each record's result, in order."""
        answer = await self._call(
            "POST",
            f"/v1/datasets/{self._dataset}/records",
            params={"mode": "per-record"},
            content=body,
            headers={"Content-Type": "application/x-ndjson"},
        )
        results = answer.get("results")
        if not isinstance(results, list) or len(results) != records:
            raise Rejected(
                "回答中没有逐条结果，请核对 --url。"
                " The answer does not tell each record's result: check --url."
            )
        return results

    async def refusals(
        self, since: str | None, limit: int, reasons: Sequence[str], exclude: Sequence[str]
    ) -> dict[str, Any]:
        """One page of the records refused after they were accepted."""
        asked = {"since": since, "reason": ",".join(reasons), "exclude": ",".join(exclude)}
        given = {name: value for name, value in asked.items() if value}
        return await self._call("GET", "/v1/refusals", params={"limit": str(limit), **given})

    async def _call(self, method: str, path: str, **arguments: Any) -> dict[str, Any]:
        headers = {**self._headers, **arguments.pop("headers", {})}
        loop = asyncio.get_running_loop()
        deadline, wait_s = loop.time() + self._patience_s, _WAIT_FIRST_S
        told = False
        while True:
            asked_s = 0.0
            try:
                answer = await self._http.request(
                    method, self._url + path, headers=headers, **arguments
                )
            except httpx2.TransportError as error:
                lost = isinstance(error, httpx2.ConnectError)
                fault = "无法连接 no connection" if lost else type(error).__name__
            else:
                if answer.status_code not in _PASSING:
                    return _document(answer)
                fault, asked_s = f"HTTP {answer.status_code}", _retry_after(answer)
            wait_s = max(wait_s, asked_s)
            if loop.time() + wait_s > deadline:
                raise Retryable(
                    f"{self._url}：{fault}，{self._patience_s:.0f} 秒内未成功，重新执行即可继续。"
                    f" {self._url}: {fault}, no success within {self._patience_s:.0f} s:"
                    " run again to go on."
                )
            if not told:
                self._on_fault(fault, self._patience_s)
                told = True
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, _WAIT_MAX_S)


def _retry_after(answer: httpx2.Response) -> float:
    told = answer.headers.get("retry-after", "")
    return min(float(told), _WAIT_MAX_S) if told.isdecimal() and len(told) < 6 else 0.0


def _document(answer: httpx2.Response) -> dict[str, Any]:
    """The JSON object of an answer. Raises Rejected for a refusal or anything else."""
    try:
        found = answer.json()
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise Rejected(
            f"HTTP {answer.status_code}：无法识别的回答，请核对 --url 是否为接入服务。"
            f" HTTP {answer.status_code}: the answer is not understood; is --url the producer"
            " service?"
        )
    if not answer.is_success:
        told = " ".join(str(found.get(name, "")) for name in ("reason", "zh", "en"))
        raise Rejected(f"HTTP {answer.status_code} {told}".strip())
    return found
