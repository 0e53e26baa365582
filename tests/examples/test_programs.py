"""The serving model and the Elec2 example."""

import asyncio
import csv
from pathlib import Path

import pytest

from examples import elec2_predictions
from examples.online_model import ModelStore
from examples.serving_model import FIRST_VERSION, MODEL_ID, ServingModel, Stream, first_model, serve
from examples.shop_stream import visits
from schemas.codec import decode_labels, decode_predictions, encode_event
from schemas.events import FineTuneStatus
from service.core.settings import CoreSettings
from service.eventlog.memory import MemoryLog
from service.eventlog.protocol import NewRecord, TopicPartition
from service.runtime.settings import TopicSettings
from service.runtime.topics import prepare_topics

TOPICS = TopicSettings()


@pytest.fixture
async def log() -> MemoryLog:
    log = MemoryLog()
    await prepare_topics(log, TOPICS, CoreSettings())
    return log


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    store = ModelStore(tmp_path)
    store.save(FIRST_VERSION, first_model(visits(50, 50)))
    store.save("v2", first_model(visits(50, 0)))
    return store


async def test_labels_come_as_many_visits_later_as_asked_and_none_is_lost(log: MemoryLog, store: ModelStore) -> None:
    stream = Stream(visits(40, 20), start_ms=1_000, step_ms=10, label_delay=7, rate=100_000)
    answers = [answer async for answer in serve(log, TOPICS, ServingModel(store, FIRST_VERSION), stream)]
    assert [answer.number for answer in answers] == list(range(40))
    reader = await log.reader({TopicPartition(topic, 0): 0 for topic in (TOPICS.predictions, TOPICS.labels)})
    chunks = {chunk.topic: chunk.values for chunk in await reader.fetch(max_records=1000, wait_ms=0)}
    predictions = decode_predictions(chunks[TOPICS.predictions], 10_000).events
    labels = decode_labels(chunks[TOPICS.labels], 10_000).events
    assert [p.event_time_ms for p in predictions] == [1_000 + 10 * n for n in range(40)]
    assert [label.prediction_id for label in labels] == [p.prediction_id for p in predictions]
    assert [label.event_time_ms for label in labels] == [1_000 + 10 * (n + 7) for n in range(40)]
    truth = {p.prediction_id: p.prediction for p in predictions}
    assert [answer.correct for answer in answers] == [truth[label.prediction_id] == label.label for label in labels]


async def test_a_version_that_is_completed_answers_from_then_on(log: MemoryLog, store: ModelStore) -> None:
    model = ServingModel(store, FIRST_VERSION)
    following = asyncio.create_task(model.follow(log, TOPICS))
    await asyncio.sleep(0.05)
    appender = await log.appender()
    for model_id, status, version in (
        (MODEL_ID, "running", None),
        ("other", "completed", "v9"),
        (MODEL_ID, "completed", "v2"),
    ):
        report = FineTuneStatus(
            trigger_id="t", model_id=model_id, event_time_ms=1, status=status, model_version=version
        )
        await appender.append([NewRecord(TOPICS.control, 0, b"", encode_event(report))])
    async with asyncio.timeout(5):
        while model.version != "v2":  # noqa: ASYNC110  (a model that serves tells nobody)
            await asyncio.sleep(0.005)
    following.cancel()
    visit = visits(1, 0)[0]
    assert model.answer(visit)[1] == store.load("v2").probability(visit.features)


def test_elec2_predictions_are_prequential_and_ready_for_produce(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, target = tmp_path / "elec.csv", tmp_path / "predictions.csv"
    rows = [("x", "class"), *((f"{n % 7}", f"{int(n % 7 > 3)}") for n in range(1_000))]
    source.write_text("".join(f"{x},{truth}\n" for x, truth in rows))
    elec2_predictions.main(source, target)
    with target.open(newline="") as file:
        found = list(csv.DictReader(file))
    assert [(row["x"], row["label"]) for row in found] == rows[1:]
    # Before the first row nothing is known; in the end nearly everything is.
    assert found[0]["score"] == "0.500000"
    right = sum(row["prediction"] == row["label"] for row in found)
    assert right > 900
    assert f"1,000 rows, prequential accuracy {right / 1000:.4f}" in capsys.readouterr().out
