"""How many records agencies have countersigned, each once.

After an answer that was lost an agency may sign a stretch a second time, longer perhaps. So
receipts of one chain count as far as they reach and are never added up.
"""

from __future__ import annotations

from collections import Counter

from shutong_core.audit.receipts import DeliveryReceipt

#: Grant, territory ("" if the grant is not for a class), lane: one chain.
_Chain = tuple[str, str, int]


class Acknowledged:
    """Feed it receipts in the order of their topic. Memory: one number a chain."""

    def __init__(self) -> None:
        #: Records countersigned, by grant.
        self.by_grant: Counter[str] = Counter()
        self._reached: dict[_Chain, int] = {}

    def add(self, receipt: DeliveryReceipt) -> None:
        """Count what this receipt covers and none before it did."""
        chain = (receipt.grant, receipt.territory or "", receipt.lane)
        reached = self._reached.get(chain, 0)
        if receipt.last > reached:
            self.by_grant[receipt.grant] += receipt.last - max(reached, receipt.first - 1)
            self._reached[chain] = receipt.last
