"""`shutong up`: the whole bus on one machine, with the sample story if asked for."""

from __future__ import annotations

import asyncio
from pathlib import Path

from rich.console import Console

from shutong_cli.stack import Stack, running
from shutong_cli.storyrun import Screen, audit_tail, play, prepare_story
from shutong_cli.voice import StoryBars, Voice
from shutong_core.runtime.lifecycle import Stop
from shutong_core.runtime.resources import locate
from shutong_core.runtime.settings import Settings
from shutong_story.play import SLOW, Narrator, Published
from shutong_story.progress import Progress as StoryEvent

STORY_LIST = "deploy/samples/story/list.yaml"
#: Services drain one after the other, then Kafka stops.
DRAIN_S = 90.0


async def up(settings: Settings, list_file: Path | None, *, story: bool, stop: Stop) -> None:
    """Run until `stop`; what is under way is finished."""
    voice = Voice(Console())
    chosen = locate(STORY_LIST) if story and list_file is None else list_file
    async with running(settings, chosen, voice) as stack:
        if story:
            await _story(stack, settings, voice, stop)
        else:
            for address in stack.addresses:
                voice.console.print(address, highlight=False)
            while not await stop.wait(1.0):
                stack.supervisor.check_all()
        voice.say("停止中，请稍候", "stopping, please wait")


async def _story(stack: Stack, settings: Settings, voice: Voice, stop: Stop) -> None:
    async with audit_tail(stack) as tail:
        with voice.busy("准备示例数据", "preparing the input files"):
            story = await asyncio.to_thread(prepare_story, settings.data_dir / "story", stack)
        bars = StoryBars(story.plan, voice.console)
        bars.start_at(story.published)
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
