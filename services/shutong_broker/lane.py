"""One lane of this process: takes it, serves it, lets it go; decides what a fault means.

Retryable: take it again. Fenced: only if the group still says it is ours. Fatal: halt, and tell.
"""

from __future__ import annotations

import asyncio
import random

from aiokafka.errors import KafkaError

from shutong_broker.recovery import take_lane
from shutong_broker.source import InboundSource
from shutong_broker.tenure import Tenure
from shutong_broker.wiring import LaneWiring
from shutong_core.domain.errors import Fatal, Retryable
from shutong_core.runtime.lifecycle import happens
from shutong_core.runtime.transaction import Fenced

RETRY_DELAY_S = (0.2, 5.0)
#: A tenure that lasted this long was good: the next failure starts with the short delay again.
GOOD_TENURE_S = 30.0
ASK_AGAIN_S = 0.5


class Lane:
    """Runs lane `number` in this process until stopped, fenced away or halted."""

    def __init__(self, number: int, wiring: LaneWiring) -> None:
        self.number = number
        self._wiring = wiring
        self._stopping = asyncio.Event()
        self._affirmations = 0
        # Grants whose uncommitted data a failed attempt left readable to read_uncommitted.
        self._exposed: set[str] = set()

    @property
    def stopping(self) -> bool:
        """Whether it was asked to let go."""
        return self._stopping.is_set()

    def stop(self) -> None:
        """Finish the transaction under way, then let the lane go."""
        self._stopping.set()

    def affirm(self) -> None:
        """The group assigned the lane to this process once more."""
        self._affirmations += 1

    async def run(self) -> None:
        """Serve until stopped or no longer ours; Fatal halts the lane and is told, not raised."""
        observer, delay = self._wiring.observer, RETRY_DELAY_S[0]
        clock = asyncio.get_running_loop().time
        while not self._stopping.is_set():
            began = clock()
            try:
                observer.status(self.number, "taking")
                await self._serve()
            except Fenced as error:
                observer.attempt_failed(self.number, error)
                await happens(self._stopping, 1.0)
                if not await self._still_ours():
                    break
            except Fatal as error:
                await self._halt(error)
                return
            except (Retryable, KafkaError) as error:
                observer.attempt_failed(self.number, _told(self.number, error))
                if clock() - began > GOOD_TENURE_S:
                    delay = RETRY_DELAY_S[0]
                await happens(self._stopping, delay * random.uniform(0.8, 1.2))  # noqa: S311 - jitter
                delay = min(delay * 2, RETRY_DELAY_S[1])
                # Who was frozen meets lost requests before it learns that it was replaced: to
                # take the lane without asking would throw out the rightful owner.
                if not await self._still_ours():
                    break
            except Exception as error:
                # A fault nobody foresaw must not end the lane in silence, behind a green readiness.
                await self._halt(
                    Fatal(f"lane {self.number}: unforeseen fault: {type(error).__name__}")
                )
                return
        observer.status(self.number, "released")

    async def _halt(self, error: Fatal) -> None:
        self._wiring.observer.attempt_failed(self.number, error)
        self._wiring.observer.status(self.number, "halted")
        await self._stopping.wait()

    async def _still_ours(self) -> bool:
        """Ask the group until it knows, or until it assigns the lane to us again meanwhile."""
        before = self._affirmations
        while not self._stopping.is_set():
            try:
                ours = await self._wiring.still_ours(self.number)
            except Exception as error:  # no answer is no permission
                self._wiring.observer.attempt_failed(self.number, _told(self.number, error))
                ours = None
            if ours or self._affirmations > before:
                return True
            if ours is not None:
                return False
            await happens(self._stopping, ASK_AGAIN_S)
        return False

    async def _serve(self) -> None:
        wiring = self._wiring
        producer = wiring.producer(self.number)
        source = InboundSource(wiring.client, wiring.topics, wiring.offsets_group, self.number)
        try:
            # InitProducerId first: it ends the predecessor's transaction, so that what is read
            # afterwards is final.
            await producer.start()
            await source.start()
            taken = await take_lane(
                wiring.client, wiring.topics, self.number, wiring.planner.states, wiring.now_ms()
            )
            wiring.observer.taken(self.number, taken)
            tenure = Tenure(wiring, self.number, producer, source, taken, self._exposed)
            wiring.observer.status(self.number, "serving")
            while not self._stopping.is_set():
                await tenure.step()
        finally:
            await producer.close()
            await source.close()


def _told(lane: int, error: Exception) -> Exception:
    """What may be logged of a fault: a client's own text could quote what it carried."""
    if isinstance(error, Retryable):
        return error
    return Retryable(f"lane {lane}: Kafka: {type(error).__name__}")
