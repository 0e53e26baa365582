"""Producers of librdkafka (confluent-kafka), each wrong in its own way: what they write."""

import time
from collections.abc import Iterator
from typing import Any, Final

from service.core.partitioning import crc32_partition, partition_for
from tests.abuse.written import BEGAN_MS, COUNT, PARTITIONS, TOPICS, Written, good, label, prediction

CODECS: Final = ("none", "gzip", "snappy", "lz4", "zstd")
MURMUR2: Final = "murmur2_random"
CRC32: Final = "consistent_random"
"""What librdkafka does where nobody says otherwise."""


def split_by_rules(prefix: str) -> str:
    """Give a name that murmur2 and CRC32 put into different partitions."""
    names = (f"{prefix}-{number}" for number in range(1_000))
    rules = (partition_for, crc32_partition)
    return next(name for name in names if len({rule(name.encode(), PARTITIONS) for rule in rules}) == 2)


MIXED: Final = split_by_rules("mixed")
INTEGER: Final = 4711
"""A model whose name and whose predictions' identifiers are integers."""


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
