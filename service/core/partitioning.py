"""Which partition a key belongs to, by the rules that Kafka's clients have.

The first rule is murmur2, as in the Java client: source `org.apache.kafka.common.utils.Utils.murmur2` and
`BuiltInPartitioner.partitionForKey`; the hash is Austin Appleby's MurmurHash2 with the seed and constants that Kafka
froze. The others are those of clients in other languages.
"""

import zlib
from collections.abc import Callable
from functools import lru_cache
from typing import Final, Literal

Partitioner = Literal["murmur2", "crc32", "fnv1a"]

_SEED: Final = 0x9747B28C
_MULTIPLIER: Final = 0x5BD1E995
_MASK: Final = 0xFFFFFFFF
_FNV_OFFSET: Final = 0x811C9DC5
_FNV_PRIME: Final = 0x01000193


@lru_cache(maxsize=65_536)
def partition_for(key: bytes, partitions: int) -> int:
    """Give the partition of a key, in `range(partitions)`. Cached: a producer has few keys and many records."""
    # Kafka clears the sign bit rather than taking the absolute value, which the smallest integer does not have.
    return (murmur2(key) & 0x7FFFFFFF) % partitions


def murmur2(data: bytes) -> int:
    """Give Kafka's hash of some bytes, as an unsigned 32-bit number."""
    hashed = _SEED ^ len(data)
    whole = len(data) & ~3
    for start in range(0, whole, 4):
        word = int.from_bytes(data[start : start + 4], "little") * _MULTIPLIER & _MASK
        word = (word ^ word >> 24) * _MULTIPLIER & _MASK
        hashed = hashed * _MULTIPLIER & _MASK ^ word
    if whole < len(data):
        hashed = (hashed ^ int.from_bytes(data[whole:], "little")) * _MULTIPLIER & _MASK
    hashed = (hashed ^ hashed >> 13) * _MULTIPLIER & _MASK
    return hashed ^ hashed >> 15


def crc32_partition(key: bytes, partitions: int) -> int:
    """Give the partition by librdkafka's default (`consistent_random`) and its `consistent`."""
    return zlib.crc32(key) % partitions


def fnv1a_partition(key: bytes, partitions: int) -> int:
    """Give the partition by the default of Sarama and kafka-go, and by librdkafka's `fnv1a`."""
    hashed = _FNV_OFFSET
    for byte in key:
        hashed = (hashed ^ byte) * _FNV_PRIME & _MASK
    signed = hashed - (1 << 32) if hashed >= 1 << 31 else hashed
    return abs(signed) % partitions


RULES: Final[dict[Partitioner, Callable[[bytes, int], int]]] = {
    "murmur2": partition_for,
    "crc32": crc32_partition,
    "fnv1a": fnv1a_partition,
}
"""What gives the partition of a key, of so many."""

_WORDS: Final[dict[Partitioner, str]] = {
    "murmur2": "as murmur2 does, the default of Kafka's Java client",
    "crc32": "as CRC32 does, the default of librdkafka (confluent-kafka and most clients built on it)",
    "fnv1a": "as FNV-1a does, the default of Sarama and kafka-go",
}


def likely_partitioner(key: bytes, partition: int, partitions: int) -> str:
    """Say in words which rule puts a key into a partition."""
    for name, rule in RULES.items():
        if rule(key, partitions) == partition:
            return _WORDS[name]
    return "by no rule that looks at the key (round robin, random, or chosen by hand)"
