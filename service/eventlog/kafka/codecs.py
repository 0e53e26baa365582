"""Which of Kafka's codecs this install can read and write."""

from typing import Final

from aiokafka import codec

CODECS: Final = {
    "gzip": (codec.has_gzip, codec.gzip_encode, codec.gzip_decode),
    "snappy": (codec.has_snappy, codec.snappy_encode, codec.snappy_decode),
    "lz4": (codec.has_lz4, codec.lz4_encode, codec.lz4_decode),
    "zstd": (codec.has_zstd, codec.zstd_encode, codec.zstd_decode),
}
SAMPLE: Final = b"a batch of records " * 50


def unreadable() -> list[str]:
    """Name the codecs that are missing here, or do not give back what was put in."""
    return [
        name
        for name, (is_there, encode, decode) in CODECS.items()
        if not is_there() or bytes(decode(encode(SAMPLE))) != SAMPLE
    ]
