"""The running service on every carrier: what goes in comes out, once, whatever restarts."""

import asyncio
import base64

import msgspec
import orjson
import pytest

from schemas.codec import encode
from schemas.outputs import Alert, DeadLetter, FineTuneTrigger, MetricSnapshot
from service.config import Config
from service.core.prepare import TaskTopics
from service.core.settings import JoinSettings
from service.eventlog.protocol import Log, TopicSpec
from service.runtime.topics import prepare_topics
from tests.core.stream import START_MS, Driver, Source, drifting, label, prediction
from tests.core.test_task import SETTINGS
from tests.eventlog.conftest import Carrier, carrier
from tests.runtime.service import consumed, fast, outputs_of, publish, running

__all__ = ["carrier"]

SOURCE = drifting(3000, 1500)


@pytest.fixture
def config(carrier: Carrier) -> Config:
    """A configuration with names that nobody else uses."""
    fresh = fast(Config(core=SETTINGS), max_step_records=100)
    names = {field: carrier.name(field) for field in msgspec.structs.asdict(fresh.topics) if field in TOPIC_FIELDS}
    return msgspec.structs.replace(
        fresh,
        topics=msgspec.structs.replace(fresh.topics, **names),
        runtime=msgspec.structs.replace(fresh.runtime, name=carrier.name("service"), group=carrier.name("group")),
    )


TOPIC_FIELDS = (
    "predictions",
    "labels",
    "control",
    "alerts",
    "triggers",
    "metrics",
    "dead_letters",
    "changelog",
    "steps",
)


def output_topics(config: Config) -> list[str]:
    return [config.topics.alerts, config.topics.triggers, config.topics.metrics, config.topics.dead_letters]


def expected_bytes(source: Source, config: Config) -> list[bytes]:
    """What the core says of a source, with the configuration's names."""
    driver = Driver(source, config.core, topics=TaskTopics(*config.topics.inputs, partition=0))
    return sorted(encode(output) for output in driver.run(batch=100_000))


async def run_through(log: Log, config: Config, source: Source) -> list[bytes]:
    await prepare_topics(log, config.topics, config.core)
    await publish(log, config, source)
    async with running(log, config) as worker:
        await consumed(log, config, worker)
    return [value for _, value in await outputs_of(log, output_topics(config))]


async def test_the_service_writes_exactly_what_the_core_says(carrier: Carrier, config: Config) -> None:
    got = await run_through(carrier.log, config, SOURCE)
    kinds = {type(output) for output, _ in await outputs_of(carrier.log, output_topics(config))}
    assert kinds == {Alert, FineTuneTrigger, MetricSnapshot}
    assert sorted(got) == expected_bytes(SOURCE, config)


async def test_a_restart_goes_on_where_the_service_stopped_and_repeats_nothing(
    carrier: Carrier, config: Config
) -> None:
    log = carrier.log
    await prepare_topics(log, config.topics, config.core)
    await publish(log, config, SOURCE)
    for _ in range(4):
        async with running(log, config) as worker:
            while not worker.ready:  # noqa: ASYNC110  # the worker knows no tests, and so tells them nothing
                await asyncio.sleep(0.005)
    got = await run_through(log, config, Source([], [], []))
    assert sorted(got) == expected_bytes(SOURCE, config)


async def dead_letters(carrier: Carrier, config: Config, source: Source) -> list[DeadLetter]:
    await run_through(carrier.log, config, source)
    found = [output for output, _ in await outputs_of(carrier.log, [config.topics.dead_letters])]
    return [output for output in found if isinstance(output, DeadLetter)]


async def test_a_malformed_record_is_a_dead_letter_with_its_path_and_bytes(carrier: Carrier, config: Config) -> None:
    bad = orjson.dumps({"prediction_id": "x", "model_id": "m", "model_version": "1", "event_time_ms": "noon"})
    letters = await dead_letters(carrier, config, Source([], [b"{", prediction(1, "a"), bad], []))
    assert [(letter.offset, letter.reason, letter.path) for letter in letters] == [
        (0, "invalid_json", "$"),
        (2, "wrong_type", "$.event_time_ms"),
    ]
    assert letters[1].model_id == "m"
    assert base64.b64decode(letters[1].payload_base64) == bad


async def test_a_label_for_an_unknown_prediction_is_a_dead_letter_once_its_wait_is_over(
    carrier: Carrier, config: Config
) -> None:
    waited = JoinSettings(orphan_horizon_ms=1000)
    config = msgspec.structs.replace(config, core=msgspec.structs.replace(config.core, join=waited))
    later = [prediction(number, "a") for number in range(999, 1008)]
    source = Source([], [prediction(1, "a"), *later], [label(7, "a", event_time_ms=START_MS)])
    letters = await dead_letters(carrier, config, source)
    assert [(letter.reason, letter.topic, letter.offset) for letter in letters] == [
        ("unknown_prediction", config.topics.labels, 0)
    ]


async def snapshot_after(carrier: Carrier, config: Config, source: Source) -> MetricSnapshot:
    """The last metric snapshot of a model that falls silent, while another's records move the log's clock on."""
    end = [prediction(number, "a", model="another") for number in range(10_000, 10_009)]
    closed = Source(source.control, [*source.predictions, *end], source.labels)
    await run_through(carrier.log, config, closed)
    found = [output for output, _ in await outputs_of(carrier.log, [config.topics.metrics]) if output.model_id == "m"]
    assert isinstance(found[-1], MetricSnapshot)
    return found[-1]


@pytest.mark.parametrize("label_ms", [START_MS - 5000, START_MS + 5000], ids=["before", "after"])
async def test_a_label_joins_its_prediction_whichever_comes_first(
    carrier: Carrier, config: Config, label_ms: int
) -> None:
    source = Source([], [prediction(0, "a")], [label(0, "b", event_time_ms=label_ms)])
    snapshot = await snapshot_after(carrier, config, source)
    assert snapshot.outcomes_total == 1
    assert snapshot.windows[0].values["accuracy"] == 0.0


async def test_duplicates_count_once_and_a_later_revision_replaces(carrier: Carrier, config: Config) -> None:
    labels = [label(0, "b"), label(0, "b"), label(0, "a", revision=1)]
    snapshot = await snapshot_after(carrier, config, Source([], [prediction(0, "a"), prediction(0, "a")], labels))
    assert snapshot.predictions_total == 1
    assert snapshot.predictions_duplicate_total == 1
    assert snapshot.labels_duplicate_total == 1
    assert snapshot.labels_corrected_total == 1
    assert snapshot.windows[0].values["accuracy"] == 1.0


async def test_a_nan_feature_is_missing_and_a_nan_anywhere_else_is_a_dead_letter(
    carrier: Carrier, config: Config
) -> None:
    feature = prediction(0, "a", features={"x": 0.25}).replace(b"0.25", b"NaN")
    score = prediction(1, "a", score=0.25).replace(b"0.25", b"NaN")
    letters = await dead_letters(carrier, config, Source([], [feature, score], []))
    assert [(letter.offset, letter.reason, letter.path) for letter in letters] == [(1, "not_finite", "$.score")]


async def test_a_record_of_10_mb_is_a_dead_letter_and_is_not_parsed(carrier: Carrier, config: Config) -> None:
    await carrier.log.ensure_topics([TopicSpec(config.topics.predictions, 1, max_message_bytes=16_000_000)])
    huge = prediction(1, "a", features={"x": "y" * 10_000_000})
    letters = await dead_letters(carrier, config, Source([], [huge, prediction(2, "a")], []))
    assert [(letter.offset, letter.reason, letter.size_bytes) for letter in letters] == [(0, "too_large", len(huge))]
    assert letters[0].payload_truncated
