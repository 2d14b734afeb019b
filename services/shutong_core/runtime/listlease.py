"""The words from Kafka by which lists may be used: for each list, when it was last said to hold.

Rule: a word is as old as the question that led to it. The newest list gets one with each answer,
an older one only while what came after it only adds to it, for `TAKING_UP_S_MAX`; else it goes on
for what is left of `LEASE_S`, so that a transaction decided by it just now may still end.
"""

from __future__ import annotations

LEASE_S = 3.0
#: How long a list may be used after one came that only adds to it. Who has not taken that one up by
#: then cannot, and stops.
TAKING_UP_S_MAX = 30.0


class Lease:
    """Words by list number; times are seconds of one monotonic clock."""

    def __init__(self) -> None:
        self._words: dict[int, float] = {}
        self._asked: float | None = None
        # The newest list that was known when Kafka was asked, and since when.
        self._newest: tuple[int, float] = (0, float("-inf"))

    def holds(self, number: int, now: float) -> bool:
        """True if the last word on list `number` is recent enough."""
        word = self._words.get(number)
        return word is not None and 0 <= now - word <= LEASE_S

    def age(self, now: float) -> float:
        """Seconds since the newest question that was answered was sent; infinite without one."""
        return float("inf") if self._asked is None else now - self._asked

    def heard(self, sent: float) -> None:
        """Kafka answered a question of `sent`; whether a list may be used is not said."""
        # Answers may be taken in another order than the questions were sent.
        self._asked = max(sent, self._asked or sent)

    def renew(self, sent: float, in_force: int, newest: int, adds_since: int) -> None:
        """Kafka answered a question of `sent`: `newest` is the end of the lists.

        `in_force` is the list of this process, which may still be reading what `newest` names, and
        has the word on it already then; `adds_since` the oldest list to which `newest` only adds.
        """
        if newest != self._newest[0]:
            self._newest = (newest, sent)
        in_time = sent - self._newest[1] <= TAKING_UP_S_MAX
        oldest = adds_since if in_time else newest
        words = {number: word for number, word in self._words.items() if sent - word <= LEASE_S}
        for number in {in_force, newest, *words}:
            if oldest <= number <= newest:
                words[number] = max(sent, words.get(number, sent))
        self._words = words

    def lose(self) -> None:
        """Nothing may be used until Kafka answers again."""
        self._words.clear()
        self._asked = None
