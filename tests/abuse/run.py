"""One run of a service over what every producer wrote.

Everything is written at once into topics of six partitions, and one service reads it: so each case also shows that it
does no harm to any other.
"""

import json
from collections import Counter
from collections.abc import Iterable
from typing import Final, NamedTuple

from confluent_kafka import Producer

from schemas.outputs import Alert, DeadLetter, MetricSnapshot, Output
from service.config import Config, LogSettings
from service.eventlog.kafka import KafkaLog
from service.eventlog.kafka_settings import KafkaSettings
from service.http.settings import HttpSettings
from service.runtime.topics import prepare_topics
from tests.abuse import histories, producers
from tests.abuse.written import PARTITIONS, TOPICS, Written, good
from tests.runtime.service import consumed, fast, outputs_of, running

CASES: Final = (
    producers.wrong_units,
    producers.iso_times,
    producers.integer_names,
    producers.extremes,
    producers.headers,
    producers.keyed_by_customer,
    producers.without_keys,
    producers.tombstones,
    histories.filled_in,
    histories.ahead_caught_up,
)


class Seen(NamedTuple):
    """What the service made of everything."""

    outputs: list[Output]
    predictions: Counter[str]
    outcomes: Counter[str]
    restarts: int

    def alerts(self, model_id: str) -> list[Alert]:
        """Give a model's operational alerts."""
        found = (output for output in self.outputs if isinstance(output, Alert) and output.kind == "operational")
        return [alert for alert in found if alert.model_id == model_id]

    def snapshots(self, model_id: str) -> list[MetricSnapshot]:
        """Give a model's metric snapshots."""
        found = (output for output in self.outputs if isinstance(output, MetricSnapshot))
        return [snapshot for snapshot in found if snapshot.model_id == model_id]

    def letters(self, model_id: str | None) -> list[DeadLetter]:
        """Give a model's dead letters."""
        found = (output for output in self.outputs if isinstance(output, DeadLetter))
        return [letter for letter in found if letter.model_id == model_id]


def write_all(bootstrap: str) -> None:
    """Let each producer write."""
    _write(bootstrap, histories.live())
    for codec in producers.CODECS:
        _write(bootstrap, good(f"codec-{codec}"), codec=codec)
    mixed = list(good(producers.MIXED))
    _write(bootstrap, (record for record in mixed if record.topic == TOPICS.predictions))
    _write(bootstrap, (record for record in mixed if record.topic == TOPICS.labels), producers.CRC32)
    for case in CASES:
        _write(bootstrap, case())


def _write(
    bootstrap: str, records: Iterable[Written], partitioner: str = producers.MURMUR2, codec: str = "none"
) -> None:
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "partitioner": partitioner,
            "compression.type": codec,
            "linger.ms": 5,
        }
    )
    for topic, key, value, more, timestamp_ms in records:
        written = value if isinstance(value, bytes | None) else json.dumps(value).encode()
        # To librdkafka 0 is the moment of writing.
        producer.produce(topic, key=key, value=written, headers=more, timestamp=timestamp_ms or 0)
    if producer.flush(20):
        raise TimeoutError("the broker did not take everything")


async def live_through(bootstrap: str) -> Seen:
    """Write everything, let a service read it, and give what came of it."""
    log = KafkaLog(KafkaSettings(bootstrap_servers=(bootstrap,), heartbeat_interval_ms=200))
    kafka = LogSettings(carrier="kafka", kafka=KafkaSettings(bootstrap_servers=(bootstrap,)))
    config = fast(Config(log=kafka, topics=TOPICS, http=HttpSettings(enabled=False)), name="abuse", group="abuse")
    await prepare_topics(log, config.topics, config.core)
    write_all(bootstrap)
    async with running(log, config) as worker:
        await consumed(log, config, worker, timeout_s=60)
        predictions: Counter[str] = Counter()
        outcomes: Counter[str] = Counter()
        for stats in worker.stats.values():
            for total in stats.totals():
                predictions[total.model_id] += total.predictions
                outcomes[total.model_id] += total.outcomes
        restarts = sum(stats.restarts_total for stats in worker.stats.values())
    topics = [config.topics.alerts, config.topics.dead_letters, config.topics.metrics]
    outputs = [output for output, _ in await outputs_of(log, topics, PARTITIONS)]
    await log.close()
    return Seen(outputs, predictions, outcomes, restarts)
