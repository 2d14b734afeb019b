"""Who may publish what: identity, then the right to a dataset, by the list in force.

Nothing is taken from what a client says of itself: its key names a system, the list names the
system's organisation and what that organisation provides (政务数据共享条例 Art. 12, 19).
"""

from __future__ import annotations

from dataclasses import dataclass

from shutong_core.domain.catalogue import Dataset
from shutong_core.domain.reasons import Reason
from shutong_core.domain.version import ListVersion
from shutong_producer.refused import RequestRefused


@dataclass(frozen=True, slots=True)
class Caller:
    """A system that the list knows, with its organisation's USCC."""

    system: str
    organisation: str

    @property
    def publisher(self) -> str:
        """`<organisation>/<system>`, as header, receipts and access events carry it."""
        return f"{self.organisation}/{self.system}"


def bearer(authorization: str | None) -> str | None:
    """The key in `Authorization: Bearer <key>` (RFC 6750 2.1); None if there is none."""
    scheme, _, key = (authorization or "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" and key.strip() else None


def caller_of(version: ListVersion, system_id: str) -> Caller:
    """The caller that holds a key of `system_id`.

    A key outlives neither its system's row nor its organisation's: it is asked at every request.
    Raises RequestRefused.
    """
    system = version.system(system_id)
    if system is None or version.organisation(system.organisation) is None:
        raise RequestRefused(Reason.UNKNOWN_PUBLISHER)
    return Caller(system.id, system.organisation)


def publishable(version: ListVersion, caller: Caller, dataset_id: str) -> Dataset:
    """The dataset, if `caller` may publish it through this service. Raises RequestRefused."""
    dataset = version.dataset(dataset_id)
    if dataset is None:
        raise RequestRefused(Reason.DATASET_NOT_IN_FORCE)
    if not may_write(dataset, caller):
        raise RequestRefused(Reason.NOT_YOUR_DATASET)
    if dataset.inbound != "producer_service":
        raise RequestRefused(
            Reason.NOT_YOUR_DATASET,
            "该数据资源由发布方的 Kafka 客户端直接写入，不经本接口",
            "this dataset is written by its publisher's own Kafka client, not here",
        )
    if dataset.nature != "event":
        raise RequestRefused(Reason.DATASET_NOT_IN_FORCE)
    if dataset.secrecy != "none":
        raise RequestRefused(Reason.SECRET)
    # What was received under a grant may not be passed on without the source's consent (Art. 25).
    if dataset.derived_from and dataset.onward_consent is None:
        raise RequestRefused(
            Reason.NOT_YOUR_DATASET,
            "数据来自共享许可，来源部门未同意再提供",
            "made from shared data, and the source has not consented to passing it on",
        )
    return dataset


def may_write(dataset: Dataset, caller: Caller) -> bool:
    """Whether the caller's organisation is lead provider or a publisher of `dataset`."""
    allowed = {dataset.provider, *(each.organisation for each in dataset.publishers)}
    return caller.organisation in allowed
