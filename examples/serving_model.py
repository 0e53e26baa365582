"""A model at work: answers a stream that drifts, and takes over new versions as training completes.

Run it beside `tidegauge run` and `fine_tuner.py`:
python -m examples.serving_model --log var/tidegauge.sqlite --store var/models
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from examples.online_model import ModelStore, OnlineModel
from examples.shop_stream import MODEL_ID, Visit, visits
from schemas.codec import decode_controls, encode_event
from schemas.events import FineTuneStatus, Label, Prediction
from service.cli.options import Bootstrap, ConfigFile, LogFile, configured
from service.eventlog.partitioner import partition_for
from service.eventlog.protocol import Log, NewRecord, TopicPartition
from service.runtime.settings import TopicSettings

FIRST_VERSION = "v1"
BATCHES_PER_SECOND = 20
MAX_RECORD_BYTES = 1_048_576


class Answer(NamedTuple):
    """One prediction, as the model's owner sees it (who also knows the truth)."""

    number: int
    version: str
    correct: bool


class ServingModel:
    """The version that answers now."""

    def __init__(self, store: ModelStore, version: str) -> None:
        self._store = store
        self.version = version
        self._model = store.load(version)

    def answer(self, visit: Visit) -> tuple[bool, float]:
        """Predict: whether the visitor buys, and the probability of it."""
        probability = self._model.probability(visit.features)
        return probability >= 0.5, probability

    def take_over(self, version: str) -> None:
        """Answer with another version from now on. Raises ModelError, and goes on with the old one."""
        self._model = self._store.load(version)
        self.version = version

    async def follow(self, log: Log, topics: TopicSettings) -> None:
        """Take over each version whose training completes from now on, until cancelled. Raises LogError."""
        count = (await log.partitions([topics.control]))[topics.control]
        where = TopicPartition(topics.control, partition_for(MODEL_ID.encode(), count))
        reader = await log.reader({where: 0})
        try:
            reader.seek(await reader.end_offsets())
            while True:
                for chunk in await reader.fetch(max_records=1000, wait_ms=100):
                    for event in decode_controls(chunk.values, MAX_RECORD_BYTES).events:
                        if isinstance(event, FineTuneStatus) and event.model_id == MODEL_ID and event.model_version:
                            self.take_over(event.model_version)
        finally:
            await reader.close()


class Stream(NamedTuple):
    """What is served, when, and how late its labels are."""

    visits: Sequence[Visit]
    start_ms: int
    """Event time of the first visit, UTC milliseconds."""
    step_ms: int
    """Event time between two visits."""
    label_delay: int
    """Visits after which a label comes."""
    rate: float
    """Visits a second of real time."""


async def serve(log: Log, topics: TopicSettings, model: ServingModel, stream: Stream) -> AsyncIterator[Answer]:
    """Answer the stream at its pace, write predictions and (late) labels, and give each answer. Raises LogError."""
    count = (await log.partitions([topics.predictions]))[topics.predictions]
    key = MODEL_ID.encode()
    partition = partition_for(key, count)
    appender = await log.appender()
    waiting: deque[tuple[int, bool]] = deque()
    size = max(1, int(stream.rate / BATCHES_PER_SECOND))
    began = time.monotonic()
    try:
        for first in range(0, len(stream.visits) + stream.label_delay, size):
            records: list[NewRecord] = []
            answers: list[Answer] = []
            for number in range(first, min(first + size, len(stream.visits) + stream.label_delay)):
                if number < len(stream.visits):
                    visit = stream.visits[number]
                    prediction, answer = _answer(model, visit, number, stream)
                    records.append(NewRecord(topics.predictions, partition, key, encode_event(prediction)))
                    answers.append(answer)
                    waiting.append((number, visit.buys))
                if waiting and waiting[0][0] + stream.label_delay <= number:
                    label = _label(*waiting.popleft(), now_ms=stream.start_ms + number * stream.step_ms)
                    records.append(NewRecord(topics.labels, partition, key, encode_event(label)))
            await appender.append(records)
            for answer in answers:
                yield answer
            await asyncio.sleep(max(began + (first + size) / stream.rate - time.monotonic(), 0.0))
    finally:
        await appender.close()


def _answer(model: ServingModel, visit: Visit, number: int, stream: Stream) -> tuple[Prediction, Answer]:
    buys, probability = model.answer(visit)
    prediction = Prediction(
        prediction_id=f"visit-{number}",
        model_id=MODEL_ID,
        model_version=model.version,
        event_time_ms=stream.start_ms + number * stream.step_ms,
        prediction=float(buys),
        score=probability,
        features=dict(visit.features),
    )
    return prediction, Answer(number, model.version, buys == visit.buys)


def _label(number: int, buys: bool, now_ms: int) -> Label:
    return Label(prediction_id=f"visit-{number}", model_id=MODEL_ID, label=float(buys), event_time_ms=now_ms)


def first_model(history: Sequence[Visit]) -> OnlineModel:
    """Train the first version on what happened before the stream."""
    model = OnlineModel()
    for visit in history:
        model.learn(visit.features, visit.buys)
    return model


def main(
    store: Annotated[Path, typer.Option(help="Folder of model versions.")] = Path("var/models"),
    count: Annotated[int, typer.Option("--events", min=1, help="Visits to answer.")] = 20_000,
    rate: Annotated[float, typer.Option(min=1.0, help="Visits a second.")] = 200.0,
    label_delay: Annotated[int, typer.Option(min=0, help="Visits after which a label comes.")] = 150,
    config: ConfigFile = None,
    bootstrap: Bootstrap = None,
    log: LogFile = None,
) -> None:
    """Answer a stream that drifts half-way, in real time."""
    from service.app import open_log  # noqa: PLC0415  (opens the log that the options name)
    from service.runtime.topics import prepare_topics  # noqa: PLC0415

    settings = configured(config, bootstrap, log)

    async def work() -> None:
        models = ModelStore(store)
        models.save(FIRST_VERSION, first_model(visits(2_000, 2_000, seed=1)))
        model = ServingModel(models, FIRST_VERSION)
        now_ms = time.time_ns() // 1_000_000
        stream = Stream(visits(count, count // 2), now_ms, round(1000 / rate), label_delay, rate)
        async with open_log(settings.log) as carrier:
            await prepare_topics(carrier, settings.topics, settings.core)
            following = asyncio.create_task(model.follow(carrier, settings.topics))
            right = 0
            async for answer in serve(carrier, settings.topics, model, stream):
                right += answer.correct
                if (answer.number + 1) % 1000 == 0:
                    typer.echo(f"{answer.number + 1:,} visits, version {answer.version}, accuracy {right / 1000:.3f}")
                    right = 0
            following.cancel()

    asyncio.run(work())


if __name__ == "__main__":
    typer.run(main)
