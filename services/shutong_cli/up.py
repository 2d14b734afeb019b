"""`shutong up`: the whole bus on one machine, with the sample story if asked for."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable
from pathlib import Path
from typing import TypeVar

from rich.console import Console

from shutong_cli.stack import Stack, running
from shutong_cli.storyrun import Screen, audit_tail, play, prepare_story
from shutong_cli.voice import StoryBars, Voice
from shutong_core.domain.errors import ShutongError
from shutong_core.runtime.lifecycle import Stop
from shutong_core.runtime.resources import locate
from shutong_core.runtime.settings import Settings
from shutong_story.play import SLOW, Narrator, Published
from shutong_story.progress import Progress as StoryEvent

T = TypeVar("T")
STORY_LIST = "deploy/samples/story/list.yaml"
#: Services drain one after the other, then Kafka stops.
DRAIN_S = 90.0


async def up(settings: Settings, list_file: Path | None, *, story: bool, stop: Stop) -> None:
    """Run until `stop`; what is under way is finished, a start under way is given up."""
    voice = Voice(Console())
    chosen = locate(STORY_LIST) if story and list_file is None else list_file
    bus = running(settings, chosen, voice)
    stack = await _unless_stopped(bus.__aenter__(), stop)
    if stack is None:
        voice.say("启动已取消，各服务已停止", "the start was cancelled, all services are stopped")
        return
    async with contextlib.AsyncExitStack() as held:
        held.push_async_exit(bus)
        try:
            if story:
                await _story(stack, settings, voice, stop)
            else:
                for address in stack.addresses:
                    voice.console.print(address, highlight=False)
                while not await stop.wait(1.0):
                    stack.supervisor.check_all()
        except ShutongError:
            voice.say("出现故障，停止全部服务，请稍候", "a fault: stopping everything, please wait")
            raise
        voice.say("停止中，请稍候", "stopping, please wait")


async def _unless_stopped(work: Awaitable[T], stop: Stop) -> T | None:
    """What `work` gives; None if a stop came first: then it was cancelled and has cleaned up."""
    task = asyncio.ensure_future(work)
    stopping = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({task, stopping}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
        if not task.done():
            task.cancel()
            await asyncio.wait({task})
    return None if task.cancelled() else task.result()


async def _story(stack: Stack, settings: Settings, voice: Voice, stop: Stop) -> None:
    async with audit_tail(stack) as tail:
        with voice.busy("准备示例数据", "preparing the input files"):
            story = await asyncio.to_thread(prepare_story, settings.data_dir / "story", stack)
        bars = StoryBars(story.plan, voice.console)
        bars.start_at(story.published, story.fetched)
        screen = Screen(stack, tail, story, voice.console, bars)
        narrator = Narrator(story.plan, screen.say)

        def tell(event: StoryEvent) -> None:
            narrator.tell(event)
            bars.tell(event)

        async def published(_: Published) -> None:
            screen.say(
                "故事已全部发布，总线继续运行，Ctrl-C 停止",
                "everything is published; the bus goes on, Ctrl-C stops it",
            )
            await stop.wait()

        tasks = [
            asyncio.create_task(screen.show()),
            asyncio.create_task(play(stack, story, SLOW, tell, published)),
        ]
        stopping = asyncio.create_task(stop.wait())
        done, _ = await asyncio.wait({*tasks, stopping}, return_when=asyncio.FIRST_COMPLETED)
        for task in (*tasks, stopping):
            task.cancel()
        await asyncio.gather(*tasks, stopping, return_exceptions=True)
        screen.show_matrix()
        for task in done - {stopping}:
            task.result()  # a fault of the table or the players ends the run with its reason
