"""Topics that are not there stop their datasets, and hold up a lane only once."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from shutong_broker.tenure import Tenure
from shutong_core.wire.topics import Topics

TOPICS = Topics("p")


class Producer:
    """Knows the topics of grants "good…"; takes its time over those it does not know."""

    def __init__(self) -> None:
        self.waiting = self.together = 0

    async def knows(self, topic: str, seconds: float) -> bool:
        self.waiting += 1
        self.together = max(self.together, self.waiting)
        await asyncio.sleep(0.001)
        self.waiting -= 1
        return ".good" in topic


def grant(name: str) -> Any:
    return SimpleNamespace(dataset=f"of-{name}")


def tenure(producer: Producer, parked: set[str]) -> Tenure:
    made = Tenure.__new__(Tenure)
    stand_in: Any = made
    stand_in._lane, stand_in._producer, stand_in._known_topics = 0, producer, set()
    stand_in._source = SimpleNamespace(park=parked.add)
    stand_in._told, stand_in._try_again = set(), {}
    observer = SimpleNamespace(parked=lambda *_: None)
    stand_in._wiring = SimpleNamespace(topics=TOPICS, observer=observer)
    return made


async def test_missing_topics_are_waited_for_all_at_once() -> None:
    producer, parked = Producer(), set[str]()
    made = tenure(producer, parked)
    grants = ["good", "bad-a", "bad-b", "bad-b", "bad-c"]
    plan: Any = SimpleNamespace(
        batches=[SimpleNamespace(topic=TOPICS.delivery(grant)) for grant in grants]
    )
    policies: Any = SimpleNamespace(version=SimpleNamespace(grant=grant))
    assert not await made._topics_there(plan, policies)
    assert parked == {"of-bad-a", "of-bad-b", "of-bad-c"}
    assert producer.together == 4
    good: Any = SimpleNamespace(batches=plan.batches[:1])
    assert await made._topics_there(good, policies)
