"""Runs the demo: starts its parts, waits for the loop to close, and stops them."""

import asyncio
import contextlib
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import orjson
from rich.console import Console

from examples.fine_tuner import FineTuner
from examples.online_model import ModelStore, OnlineModel
from examples.serving_model import FIRST_VERSION, ServingModel, Stream, first_model, serve
from examples.shop_stream import visits
from schemas.cloudevents import from_message
from schemas.codec import decode_controls
from schemas.events import FineTuneStatus
from service.app import configure_logging, open_log, run_service
from service.cli.demo.setting import DRIFT_AT, EVENTS, HISTORY, LABEL_DELAY, START_MS, STEP_MS, demo_config
from service.cli.demo.story import Story
from service.cli.following import follow
from service.cli.signals import run_until_sigterm
from service.config import Config, LoggingSettings
from service.eventlog.protocol import Log
from service.runtime.topics import prepare_topics

CLOSING_S: Final = 20.0
"""How long the monitor may take, behind the end of the stream, to say its last words."""

MAX_RECORD_BYTES: Final = 1_048_576


def run_demo(kafka: str | None, seconds: float, *, as_json: bool) -> bool:
    """Play the demo; say whether the loop has closed. Raises LogError where the log cannot be used."""
    configure_logging(LoggingSettings(level="warning"))
    story = Story(FIRST_VERSION, None if as_json else Console(highlight=False))
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="tidegauge-demo-") as folder:
        config = demo_config(kafka, Path(folder))
        run_until_sigterm(_play(config, ModelStore(Path(folder) / "models"), story, EVENTS / seconds))
    summary = story.finish(time.monotonic() - began)
    if as_json:
        sys.stdout.write(orjson.dumps(summary, option=orjson.OPT_INDENT_2).decode() + "\n")
    return story.closed


async def _play(config: Config, store: ModelStore, story: Story, rate: float) -> None:
    first = first_model(visits(HISTORY, HISTORY, seed=1))
    store.save(FIRST_VERSION, first)
    model = ServingModel(store, FIRST_VERSION)
    stopping, closed = asyncio.Event(), asyncio.Event()
    async with open_log(config.log) as carrier:
        await prepare_topics(carrier, config.topics, config.core)
        try:
            # A part that dies ends the demo at once, and not after a minute of silence.
            async with asyncio.TaskGroup() as group:
                group.create_task(run_service(config, stopping, carrier))
                others = [
                    group.create_task(FineTuner(carrier, config.topics, store).follow()),
                    group.create_task(model.follow(carrier, config.topics)),
                    group.create_task(_tell(carrier, config, story, closed)),
                ]
                await _serve(carrier, config, model, first, story, rate)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(closed.wait(), CLOSING_S)
                stopping.set()
                for task in others:
                    task.cancel()
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from failures


async def _serve(
    carrier: Log, config: Config, model: ServingModel, first: OnlineModel, story: Story, rate: float
) -> None:
    """Answer the whole stream."""
    stream = Stream(visits(EVENTS, DRIFT_AT), START_MS, STEP_MS, LABEL_DELAY, rate)
    async for answer in serve(carrier, config.topics, model, stream):
        visit = stream.visits[answer.number]
        alone = (first.probability(visit.features) >= 0.5) == visit.buys
        story.answered(version=answer.version, correct=answer.correct, alone_correct=alone)


async def _tell(carrier: Log, config: Config, story: Story, closed: asyncio.Event) -> None:
    """Tell what the monitor and the training pipeline say, as they say it; set `closed` when the loop has closed."""
    topics = config.topics
    names = [topics.alerts, topics.triggers, topics.control]
    async for entry in follow(carrier, names, from_beginning=True, forever=True):
        if entry.topic == topics.control:
            for event in decode_controls([entry.value], MAX_RECORD_BYTES).events:
                if isinstance(event, FineTuneStatus):
                    story.reported(event)
        else:
            story.published(from_message(entry.headers, entry.value))
        if story.closed:
            closed.set()
