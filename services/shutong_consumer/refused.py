"""A request the consumer service turns down, as RFC 9457 tells it (application/problem+json).

Every refusal names one `Reason`, says it in Chinese and English, and shows no value of a record.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from shutong_core.domain.errors import Rejected
from shutong_core.domain.reasons import Reason

MEDIA_TYPE = "application/problem+json"

#: The status of each reason; a right that is missing or at rest is 403.
_STATUS: Mapping[Reason, int] = {
    Reason.BAD_REQUEST: 400,
    Reason.BAD_CURSOR: 400,
    Reason.UNAUTHENTICATED: 401,
    Reason.NOT_FOUND: 404,
    Reason.CHAIN_MISMATCH: 409,
    Reason.CURSOR_GONE: 410,
    Reason.TOO_LARGE: 413,
    Reason.TOO_MANY: 429,
    Reason.MALFORMED: 500,
    Reason.KAFKA_UNAVAILABLE: 503,
    Reason.LIST_LEASE_LOST: 503,
}


@dataclass(eq=False)
class RequestRefused(Rejected):
    """The request is refused and nothing is let out.

    `zh` and `en` replace the reason's own text where there is more to say; `more` are further
    members of the problem document.
    """

    reason: Reason
    zh: str = ""
    en: str = ""
    status: int = 0
    retry_after_s: int | None = None
    more: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.status = self.status or _STATUS.get(self.reason, 403)
        self.zh = self.zh or self.reason.zh
        self.en = self.en or self.reason.en
        super().__init__(f"{self.reason.name}: {self.en}")

    @property
    def of_right(self) -> bool:
        """True if it was for want of a right: such refusals go to topic access."""
        return self.status in (401, 403)

    def document(self) -> dict[str, Any]:
        """The problem document."""
        return {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "reason": self.reason.name,
            "zh": self.zh,
            "en": self.en,
            "detail": f"{self.zh} {self.en}",
            **self.more,
        }

    def headers(self) -> dict[str, str]:
        """Headers that belong to the answer."""
        made = {"Cache-Control": "no-store"}
        if self.status == 401:
            made["WWW-Authenticate"] = "Bearer"  # RFC 6750 section 3
        if self.retry_after_s is not None:
            made["Retry-After"] = str(self.retry_after_s)
        return made


def busy(zh: str = "", en: str = "") -> RequestRefused:
    """Too many at once: come back later (RFC 6585, 429)."""
    return RequestRefused(Reason.TOO_MANY, zh, en, retry_after_s=1)
