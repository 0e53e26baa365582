"""Producers of librdkafka (confluent-kafka), each wrong in its own way: what they write, and what the service says.

Everything is written at once into topics of six partitions, and one service reads it: so each case also shows that it
does no harm to any other.
"""

import json
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

from confluent_kafka import Producer

from schemas.outputs import Alert, DeadLetter, Output
from service.config import Config, LogSettings
from service.core.partitioning import crc32_partition, partition_for
from service.eventlog.kafka import KafkaLog
from service.eventlog.kafka_settings import KafkaSettings
from service.http.settings import HttpSettings
from service.runtime.settings import TOPIC_FIELDS, TopicSettings
from service.runtime.topics import prepare_topics
from tests.runtime.service import consumed, fast, outputs_of, running

PARTITIONS: Final = 6
COUNT: Final = 40
"""Predictions of each model, each with its label."""
CODECS: Final = ("none", "gzip", "snappy", "lz4", "zstd")
MURMUR2: Final = "murmur2_random"
CRC32: Final = "consistent_random"
"""What librdkafka does where nobody says otherwise."""

TOPICS: Final = TopicSettings(partitions=PARTITIONS, **{field: f"abuse.{field}" for field in TOPIC_FIELDS})
BEGAN_MS: Final = time.time_ns() // 1_000_000 - 600_000


def split_by_rules(prefix: str) -> str:
    """Give a name that murmur2 and CRC32 put into different partitions."""
    names = (f"{prefix}-{number}" for number in range(1_000))
    rules = (partition_for, crc32_partition)
    return next(name for name in names if len({rule(name.encode(), PARTITIONS) for rule in rules}) == 2)


MIXED: Final = split_by_rules("mixed")
INTEGER: Final = 4711
"""A model whose name and whose predictions' identifiers are integers."""


class Written(NamedTuple):
    """A record for a producer."""

    topic: str
    key: bytes | None
    value: Any
    """As JSON; bytes are written as they are, None is a tombstone."""
    headers: list[tuple[str, bytes | None]] | None = None


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

    def letters(self, model_id: str | None) -> list[DeadLetter]:
        """Give a model's dead letters."""
        found = (output for output in self.outputs if isinstance(output, DeadLetter))
        return [letter for letter in found if letter.model_id == model_id]


def prediction(model_id: str | int, number: int, **fields: Any) -> dict[str, Any]:
    """Give a prediction; `...` leaves a field out."""
    event = {
        "prediction_id": f"p{number}",
        "model_id": model_id,
        "model_version": "1",
        "event_time_ms": BEGAN_MS + number * 100,
        "prediction": "stays" if number % 3 else "leaves",
        "features": {"fee": number * 1.5, "plan": "basic"},
    }
    return {name: value for name, value in (event | fields).items() if value is not ...}


def label(model_id: str | int, number: int, **fields: Any) -> dict[str, Any]:
    """Give its label."""
    event = {
        "prediction_id": f"p{number}",
        "model_id": model_id,
        "event_time_ms": BEGAN_MS + number * 100 + 50,
        "label": "stays" if number % 2 else "leaves",
    }
    return {name: value for name, value in (event | fields).items() if value is not ...}


def good(model_id: str, key: bytes | None = None) -> Iterator[Written]:
    """Give what a model's producers should write."""
    key = model_id.encode() if key is None else key
    for number in range(COUNT):
        yield Written(TOPICS.predictions, key, prediction(model_id, number))
        yield Written(TOPICS.labels, key, label(model_id, number))


def wrong_units() -> Iterator[Written]:
    """Give events whose times are in seconds, micro- and nanoseconds, among good ones."""
    yield from good("units")
    now_ms = BEGAN_MS
    for number, moment in enumerate((now_ms // 1000, now_ms / 1000 + 0.25, now_ms * 1000, now_ms * 1_000_000)):
        yield Written(TOPICS.predictions, b"units", prediction("units", 100 + number, event_time_ms=moment))
        yield Written(TOPICS.labels, b"units", label("units", 100 + number, event_time_ms=moment))


def iso_times() -> Iterator[Written]:
    """Give times as texts: with a zone, in either field, and without one."""
    for number in range(COUNT):
        moment = time.gmtime(BEGAN_MS // 1000 + number)
        utc, here = time.strftime("%Y-%m-%dT%H:%M:%SZ", moment), time.strftime("%Y-%m-%d %H:%M:%S+00:00", moment)
        yield Written(TOPICS.predictions, b"iso", prediction("iso", number, event_time_ms=..., event_time=here))
        yield Written(TOPICS.labels, b"iso", label("iso", number, event_time_ms=utc))
    naive = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(BEGAN_MS // 1000))
    yield Written(TOPICS.labels, b"iso", label("iso", 7, event_time_ms=naive))


def integer_names() -> Iterator[Written]:
    """Give identifiers as integers on one side and as texts on the other, and integers as floats."""
    key = str(INTEGER).encode()
    for number in range(COUNT):
        said = prediction(INTEGER, number, prediction_id=number, row_id=0, event_time_ms=float(BEGAN_MS + number))
        yield Written(TOPICS.predictions, key, said)
        told = label(str(INTEGER), number, prediction_id=str(number), row_id="0", revision=0.0)
        yield Written(TOPICS.labels, key, told)


def extremes() -> Iterator[Written]:
    """Give numbers at the ends of what JSON and floats hold, among good ones."""
    yield from good("extremes")
    odd: tuple[dict[str, Any], ...] = (
        *({"sampling_rate": rate} for rate in (1e-39, 5e-324, 1e-300, 1.0)),
        *({"score": score} for score in (5e-324, 1.0, 0)),
        *({"latency_ms": latency} for latency in (1e308, 5e-324, 1e16)),
        *({"features": {"fee": fee, "plan": "basic"}} for fee in (1e308, -1e308, 5e-324, 2**63, -(2**63), 10**300)),
        *({"probabilities": {"stays": share, "leaves": 1.0}} for share in (5e-324, 1.0)),
        *({"embeddings": {"text": [1e308, -1e308]}} for _ in range(2)),
    )
    for number, fields in enumerate(odd):
        yield Written(TOPICS.predictions, b"extremes", prediction("extremes", 200 + number, **fields))
        yield Written(TOPICS.labels, b"extremes", label("extremes", 200 + number))


def headers() -> Iterator[Written]:
    """Give headers without a value, with bytes that are no text, and many of them."""
    odd: list[tuple[str, bytes | None]] = [("traceparent", b"00-1"), ("empty", None), ("bytes", b"\xff\xfe"), ("", b"")]
    for record in good("headers"):
        yield record._replace(headers=odd * 8)


def keyed_by_customer() -> Iterator[Written]:
    """Give records under the customer's key instead of the model's."""
    for number in range(COUNT):
        key = f"customer {number % 7}".encode()
        yield Written(TOPICS.predictions, key, prediction("by-customer", number))
        yield Written(TOPICS.labels, key, label("by-customer", number))


def without_keys() -> Iterator[Written]:
    """Give predictions without keys."""
    for number in range(COUNT):
        yield Written(TOPICS.predictions, None, prediction("keyless", number))


def tombstones() -> Iterator[Written]:
    """Give what a compacted topic holds where a key was deleted, and what is no JSON at all, among good records."""
    yield from good("tombs")
    yield Written(TOPICS.predictions, b"tombs", None)
    yield Written(TOPICS.labels, b"tombs", b"\x00\x00\x00\x00\x01\x02avro")


def write_all(bootstrap: str) -> None:
    """Let each producer write."""
    for codec in CODECS:
        _write(bootstrap, good(f"codec-{codec}"), MURMUR2, codec)
    mixed = list(good(MIXED))
    _write(bootstrap, (record for record in mixed if record.topic == TOPICS.predictions), MURMUR2)
    _write(bootstrap, (record for record in mixed if record.topic == TOPICS.labels), CRC32)
    cases = (wrong_units, iso_times, integer_names, extremes, headers, keyed_by_customer, without_keys, tombstones)
    for case in cases:
        _write(bootstrap, case(), MURMUR2)


def _write(bootstrap: str, records: Iterable[Written], partitioner: str, codec: str = "none") -> None:
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "partitioner": partitioner,
            "compression.type": codec,
            "linger.ms": 5,
        }
    )
    for topic, key, value, more in records:
        written = value if isinstance(value, bytes | None) else json.dumps(value).encode()
        producer.produce(topic, key=key, value=written, headers=more)
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
    topics = [config.topics.alerts, config.topics.dead_letters]
    outputs = [output for output, _ in await outputs_of(log, topics, PARTITIONS)]
    await log.close()
    return Seen(outputs, predictions, outcomes, restarts)
