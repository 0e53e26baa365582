"""The reference training pipeline, on a log in memory."""

import asyncio
import contextlib
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples.fine_tuner import FineTuner, Row, join, train, version_for
from examples.online_model import ModelStore, OnlineModel
from examples.shop_stream import visits
from schemas.cloudevents import to_message
from schemas.codec import decode_controls, encode_event
from schemas.events import FineTuneStatus, Label, Prediction
from schemas.outputs import FineTuneTrigger, OffsetRange, TriggerState
from service.core.settings import CoreSettings
from service.eventlog.memory import MemoryLog
from service.eventlog.partitioner import partition_for
from service.eventlog.protocol import NewRecord, TopicPartition
from service.runtime.settings import TopicSettings
from service.runtime.topics import prepare_topics

TOPICS = TopicSettings(partitions=3)
MODEL = "shop"
ROWS = visits(60, 0)
START_MS = 1_735_689_600_000
PARTITION = partition_for(MODEL.encode(), 3)


def trigger_of(
    *ranges: OffsetRange, trigger_id: str = "abcdef0123456789", state: TriggerState = "requested", **more
) -> FineTuneTrigger:
    return FineTuneTrigger(
        trigger_id=trigger_id,
        model_id=MODEL,
        model_version="v1",
        state=state,
        mode=more.pop("mode", "stateful"),
        mode_reason="",
        reason="",
        event_time_ms=START_MS,
        window=ranges,
        **more,
    )


def span(topic: str, start: int, end: int) -> OffsetRange:
    return OffsetRange(topic=topic, partition=PARTITION, start_offset=start, end_offset=end)


def prediction(number: int, model_id: str = MODEL) -> Prediction:
    return Prediction(
        prediction_id=str(number),
        model_id=model_id,
        model_version="v1",
        event_time_ms=START_MS + number,
        prediction=1.0,
        features=dict(ROWS[number].features),
    )


def label(number: int, model_id: str = MODEL, **more) -> Label:
    truth = float(ROWS[number].buys)
    return Label(prediction_id=str(number), model_id=model_id, label=truth, event_time_ms=START_MS, **more)


class World:
    """A log with a window of labelled predictions, a store with version v1, and a pipeline."""

    def __init__(self, folder: Path) -> None:
        self.log = MemoryLog()
        self.store = ModelStore(folder)
        self.store.save("v1", OnlineModel())
        self.tuner = FineTuner(self.log, TOPICS, self.store)
        self.whole = (span(TOPICS.predictions, 0, 60), span(TOPICS.labels, 0, 50))

    async def fill(self) -> None:
        await prepare_topics(self.log, TOPICS, CoreSettings())
        appender = await self.log.appender()
        predictions = [
            NewRecord(TOPICS.predictions, PARTITION, b"", encode_event(prediction(number))) for number in range(60)
        ]
        labels = [NewRecord(TOPICS.labels, PARTITION, b"", encode_event(label(number))) for number in range(50)]
        await appender.append([*predictions, *labels])

    async def publish(self, *triggers: FineTuneTrigger) -> None:
        appender = await self.log.appender()
        for trigger in triggers:
            key, value, headers = to_message(trigger, source="tidegauge/test")
            await appender.append([NewRecord(TOPICS.triggers, 0, key, value, headers)])

    async def reports(self) -> list[FineTuneStatus]:
        found: list[FineTuneStatus] = []
        for number in range(3):
            reader = await self.log.reader({TopicPartition(TOPICS.control, number): 0})
            for chunk in await reader.fetch(max_records=1000, wait_ms=0):
                found.extend(decode_controls(chunk.values, 10_000).events)
        return found

    async def follow_until(self, reports: int) -> None:
        """Let a pipeline work until there are so many reports, and a little longer."""
        following = asyncio.create_task(FineTuner(self.log, TOPICS, self.store).follow())
        async with asyncio.timeout(10):
            while len(await self.reports()) < reports:  # noqa: ASYNC110  (a log says nothing by itself)
                await asyncio.sleep(0.005)
        await asyncio.sleep(0.05)
        following.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await following


@pytest.fixture
async def world(tmp_path: Path) -> World:
    world = World(tmp_path)
    await world.fill()
    return world


async def test_a_trigger_is_acknowledged_run_and_completed_with_a_version_that_goes_on_from_the_current(
    world: World,
) -> None:
    first = OnlineModel()
    train(first, [Row(visit.features, visit.buys) for visit in visits(40, 40)])
    world.store.save("v1", first)
    trigger = trigger_of(*world.whole)
    await world.tuner.serve(trigger)
    assert [report.status for report in await world.reports()] == ["acknowledged", "running", "completed"]
    train(first, [Row(visit.features, visit.buys) for visit in ROWS[:50]])
    assert world.store.load("v1+abcdef01").state() == first.state()


async def test_stateless_training_begins_anew(world: World) -> None:
    await world.tuner.serve(trigger_of(*world.whole, mode="stateless"))
    fresh = OnlineModel()
    train(fresh, [Row(visit.features, visit.buys) for visit in ROWS[:50]])
    assert world.store.load("v1+abcdef01").state() == fresh.state()


async def test_only_the_window_is_trained_on(world: World) -> None:
    rows = await world.tuner.training_rows(trigger_of(span(TOPICS.predictions, 10, 20), span(TOPICS.labels, 0, 15)))
    assert rows == [Row(visit.features, visit.buys) for visit in ROWS[10:15]]


async def test_reports_carry_the_streams_own_time(world: World) -> None:
    await world.tuner.serve(trigger_of(*world.whole))
    assert {report.event_time_ms for report in await world.reports()} == {START_MS + 59}


async def test_the_same_trigger_is_served_once(world: World) -> None:
    trigger = trigger_of(*world.whole)
    await world.tuner.serve(trigger)
    assert await world.tuner.serve(trigger) is None
    await world.publish(trigger)
    await world.follow_until(3)
    assert len(await world.reports()) == 3


async def test_a_restart_serves_what_was_interrupted_and_makes_the_same_version(world: World) -> None:
    trigger = trigger_of(*world.whole)
    await world.publish(trigger, msgspec.structs.replace(trigger, state="running"))
    await world.follow_until(3)
    assert [report.model_version for report in await world.reports()] == [None, None, version_for(trigger)]


@pytest.mark.parametrize("end", ["timed_out", "cancelled", "completed", "failed", "verifying"])
async def test_a_trigger_that_is_over_is_not_served(world: World, end: TriggerState) -> None:
    over, other = trigger_of(*world.whole), trigger_of(*world.whole, trigger_id="other-trigger")
    await world.publish(over, other, msgspec.structs.replace(over, state=end))
    await world.follow_until(3)
    assert {report.trigger_id for report in await world.reports()} == {"other-trigger"}


async def test_a_record_that_is_no_trigger_is_passed_over(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    await (await world.log.appender()).append([NewRecord(TOPICS.triggers, 0, None, b"{")])
    await world.publish(trigger_of(*world.whole))
    await world.follow_until(3)
    assert "passed over" in capsys.readouterr().err


async def test_a_window_without_labels_fails_with_the_reason(world: World) -> None:
    report = await world.tuner.serve(trigger_of(span(TOPICS.predictions, 50, 60), span(TOPICS.labels, 0, 50)))
    assert report is not None
    assert (report.status, "no labelled rows" in (report.reason or "")) == ("failed", True)


async def test_a_version_that_is_not_there_fails_with_the_reason(world: World) -> None:
    trigger = msgspec.structs.replace(trigger_of(*world.whole), model_version="v9")
    report = await world.tuner.serve(trigger)
    assert report is not None
    assert (report.status, "version v9 cannot be loaded" in (report.reason or "")) == ("failed", True)


async def test_a_window_that_retention_has_deleted_fails_with_the_reason(world: World) -> None:
    world.log.drop_before(TopicPartition(TOPICS.predictions, PARTITION), 30)
    report = await world.tuner.serve(trigger_of(*world.whole))
    assert report is not None
    assert (report.status, "not in the log" in (report.reason or "")) == ("failed", True)


@given(
    st.lists(st.integers(0, 9), max_size=20),
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 2), st.booleans()), max_size=20),
)
def test_each_prediction_is_learnt_once_with_its_newest_label(
    said: list[int], told: list[tuple[int, int, bool]]
) -> None:
    labels = [
        Label(prediction_id=str(n), model_id=MODEL, label=truth, revision=revision, event_time_ms=0)
        for n, revision, truth in told
    ]
    others = [prediction(n, model_id="other") for n in range(10)]
    rows = join(MODEL, [*others, *(prediction(n) for n in said)], labels)
    newest: dict[int, tuple[int, bool]] = {}
    for n, revision, truth in told:
        if n not in newest or revision > newest[n][0]:
            newest[n] = (revision, truth)
    expected = [Row(prediction(n).features or {}, newest[n][1]) for n in dict.fromkeys(said) if n in newest]
    assert rows == expected
