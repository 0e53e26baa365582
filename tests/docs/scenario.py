"""The run whose outputs docs/events.md shows: the real service over one seeded stream, on the memory log.

A churn model answers every ten seconds; its labels come half an hour later. At the 1,500th answer customers begin to
call support more often, and the model begins to err. A training pipeline answers the trigger with version 8.
"""

from typing import Any, NamedTuple

import msgspec
import numpy as np
import orjson
import yaml

from schemas.cloudevents import from_message
from schemas.outputs import FineTuneTrigger, Output
from service.config import Config, parse_config
from service.core.intake import Role
from service.eventlog.memory import MemoryLog
from service.eventlog.protocol import Headers, Log, NewRecord, TopicPartition
from service.runtime.topics import prepare_topics
from tests.core.stream import Driver, Source
from tests.runtime.service import consumed, running

START_MS = 1_740_000_000_000  # 2025-02-19T21:20:00Z
STEP_MS = 10_000
LABEL_DELAY_MS = 30 * 60_000
CHANGE, COUNT = 1500, 2700
MODEL = "churn"
CONFIG = """\
core:
  models:
    churn:
      positive_label: leaves
      snapshot_interval_ms: 3600000
      performance:
        windows:
          - last: 1000
"""


class Published(NamedTuple):
    """A record that the service wrote, and the event in it."""

    topic: str
    key: str
    headers: dict[str, str]
    value: bytes
    event: Output


def configuration() -> Config:
    """Give the configuration of the run."""
    return parse_config(yaml.safe_load(CONFIG))


def stream(deployed_ms: int | None, control: list[dict[str, Any]]) -> Source:
    """Make the records of the inputs. `deployed_ms`: when version 8, which is right again, begins to serve."""
    rng = np.random.default_rng(11)
    leaves = rng.random(COUNT) < 0.4
    chance = rng.random(COUNT)
    fees, tenures = rng.normal(60, 15, COUNT), rng.integers(1, 73, COUNT)
    calls = np.where(np.arange(COUNT) < CHANGE, rng.poisson(1.0, COUNT), rng.poisson(3.0, COUNT))
    predictions, labels = [], []
    for number in range(COUNT):
        time_ms = START_MS + number * STEP_MS
        version = "7" if deployed_ms is None or time_ms < deployed_ms else "8"
        wrong = chance[number] < (0.45 if number >= CHANGE and version == "7" else 0.1)
        answer = bool(leaves[number]) ^ bool(wrong)
        event = {
            "prediction_id": f"p-{number}",
            "model_id": MODEL,
            "model_version": version,
            "event_time_ms": time_ms,
            "prediction": _name(answer),
            "score": 0.8 if answer else 0.3,
            "features": {
                "monthly_fee": round(float(fees[number]), 2),
                "support_calls": int(calls[number]),
                "tenure_months": int(tenures[number]),
                "plan": ("basic", "plus", "pro")[number % 3],
            },
            "latency_ms": 5.0 + number % 7,
        }
        predictions.append(orjson.dumps(event))
        truth = {"prediction_id": f"p-{number}", "model_id": MODEL, "label": _name(bool(leaves[number]))}
        labels.append(orjson.dumps(truth | {"event_time_ms": time_ms + LABEL_DELAY_MS}))
    labels[17] = orjson.dumps({"prediction_id": "p-17", "model_id": MODEL, "label": "stays", "event_time_ms": "noon"})
    return Source([orjson.dumps(event) for event in control], predictions, labels)


def _name(leaves: bool) -> str:
    return "leaves" if leaves else "stays"


def reports(trigger: FineTuneTrigger) -> list[dict[str, Any]]:
    """Give what the training pipeline says to a trigger, in order."""
    minute = 60_000
    said = [
        ("acknowledged", minute, {}),
        ("running", 2 * minute, {}),
        ("completed", 20 * minute, {"model_version": "8"}),
    ]
    return [
        {
            "type": "fine_tune_status",
            "trigger_id": trigger.trigger_id,
            "model_id": MODEL,
            "event_time_ms": trigger.event_time_ms + after_ms,
            "status": status,
            **more,
        }
        for status, after_ms, more in said
    ]


def whole_story() -> Source:
    """Make the records of the run: what the pipeline says follows from the trigger that the first part makes."""
    outputs = Driver(stream(None, []), configuration().core).run(batch=1000)
    trigger = next(output for output in outputs if isinstance(output, FineTuneTrigger))
    answers = reports(trigger)
    return stream(answers[-1]["event_time_ms"], answers)


async def run() -> list[Published]:
    """Run the service over the stream and read what it published, topic by topic."""
    log, config, source = MemoryLog(), configuration(), whole_story()
    await prepare_topics(log, config.topics, config.core)
    appender = await log.appender()
    for role, topic in zip(Role, config.topics.inputs, strict=True):
        key = MODEL.encode()
        await appender.append([NewRecord(topic, 0, key, value, (), _written_ms(value)) for value in source.of(role)])
    async with running(log, config) as worker:
        await consumed(log, config, worker)
    topics = (config.topics.alerts, config.topics.triggers, config.topics.metrics, config.topics.dead_letters)
    return [record for topic in topics for record in await _read(log, topic)]


def _written_ms(value: bytes) -> int:
    # A record's timestamp says when it was written: here a second after what it tells of.
    time_ms = orjson.loads(value)["event_time_ms"]
    return (time_ms if isinstance(time_ms, int) else START_MS + LABEL_DELAY_MS + 17 * STEP_MS) + 1000


async def _read(log: Log, topic: str) -> list[Published]:
    where = TopicPartition(topic, 0)
    reader = await log.reader({where: 0})
    end = (await reader.end_offsets())[where]
    found: list[Published] = []
    position = 0
    while position < end:
        for chunk in await reader.fetch(max_records=1000, wait_ms=100):
            position = chunk.next_position
            for key, headers, value in zip(chunk.keys, chunk.headers, chunk.values, strict=True):
                found.append(_published(topic, key, headers, value))
    await reader.close()
    return found


def _published(topic: str, key: bytes | None, headers: Headers, value: bytes | None) -> Published:
    assert key is not None
    assert value is not None
    texts = {name: text.decode() for name, text in headers}
    return Published(topic, key.decode(), texts, value, from_message(headers, value))


def examples(published: list[Published]) -> dict[str, Published]:
    """Choose the records that the page shows: name to record."""

    def all_of(topic: str, **fields: Any) -> list[Published]:
        return [
            record
            for record in published
            if record.topic == topic and fields.items() <= msgspec.to_builtins(record.event).items()
        ]

    return {
        "alert_firing": all_of("tidegauge.alerts", kind="concept_drift", state="firing")[0],
        "alert_resolved": all_of("tidegauge.alerts", kind="concept_drift", state="resolved")[0],
        "trigger_requested": all_of("tidegauge.triggers", state="requested")[0],
        "trigger_completed": all_of("tidegauge.triggers", state="completed")[0],
        "metric_snapshot": all_of("tidegauge.metrics", model_version="7")[-1],
        "dead_letter": all_of("tidegauge.dead-letters")[0],
    }
