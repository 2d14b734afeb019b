"""A request the producer service turns down, as RFC 9457 tells it (application/problem+json).

Every refusal names one `Reason`, says it in Chinese and English, and never repeats a value that
was sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from shutong_core.domain.errors import Rejected
from shutong_core.domain.reasons import Reason

MEDIA_TYPE = "application/problem+json"
#: Faults shown in one answer; a request may hold thousands of wrong records.
ERRORS_MAX = 1_000

#: The status of each reason a request can be refused with as a whole.
_STATUS: Mapping[Reason, int] = {
    Reason.UNAUTHENTICATED: 401,
    Reason.UNKNOWN_PUBLISHER: 403,
    Reason.NOT_YOUR_DATASET: 403,
    Reason.SECRET: 403,
    Reason.NOT_FOUND: 404,
    Reason.DATASET_NOT_IN_FORCE: 404,
    Reason.CURSOR_GONE: 410,
    Reason.TOO_LARGE: 413,
    Reason.TOO_MANY: 429,
    Reason.KAFKA_UNAVAILABLE: 503,
    Reason.LIST_LEASE_LOST: 503,
}


@dataclass(eq=False)
class RequestRefused(Rejected):
    """The whole request is refused; nothing of it was written unless `more` says otherwise.

    `zh` and `en` replace the reason's own text where there is more to say; `status` defaults to
    the reason's, else 400; `more` are further members of the problem document.
    """

    reason: Reason
    zh: str = ""
    en: str = ""
    status: int = 0
    retry_after_s: int | None = None
    more: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.status = self.status or _STATUS.get(self.reason, 400)
        self.zh = self.zh or self.reason.zh
        self.en = self.en or self.reason.en
        super().__init__(f"{self.reason.name}: {self.en}")

    def detail_text(self) -> str:
        """Both languages in one line."""
        return f"{self.zh} {self.en}"

    def document(self) -> dict[str, Any]:
        """The problem document."""
        return {
            # "about:blank": the status says the kind, `reason` is the code to act on.
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "reason": self.reason.name,
            "zh": self.zh,
            "en": self.en,
            "detail": self.detail_text(),
            **self.more,
        }

    def headers(self) -> dict[str, str]:
        """Headers that belong to the answer."""
        made = {}
        if self.status == 401:
            made["WWW-Authenticate"] = "Bearer"  # RFC 6750 section 3
        if self.retry_after_s is not None:
            made["Retry-After"] = str(self.retry_after_s)
        return made


def busy(zh: str = "", en: str = "", retry_after_s: int = 1) -> RequestRefused:
    """Too many at once: come back later (RFC 6585, 429)."""
    return RequestRefused(Reason.TOO_MANY, zh, en, retry_after_s=retry_after_s)


def bad_request(zh: str, en: str, status: int = 400) -> RequestRefused:
    """The request cannot be read."""
    return RequestRefused(Reason.BAD_REQUEST, zh, en, status)
