"""From the records of a partition to what the verifier wants. The same for every carrier."""

from collections.abc import Callable, Iterable, Iterator

from schemas.cloudevents import Message
from service.core.intake import Role
from service.eventlog.protocol import Chunk
from service.runtime.settings import TopicSettings
from tests.simulation.verifier import Evidence, InputRecord, Kinds


def evidence(
    partition: int, partitions: int, topics: TopicSettings, read: Callable[[str, int], Iterable[Chunk]]
) -> Evidence:
    """Collect all that the verifier must know of a task. `read` gives what a topic's partition holds."""
    outputs = (topics.alerts, topics.triggers, topics.metrics, topics.dead_letters)
    return Evidence(
        partition,
        partitions,
        {role: list(input_records(read(topics.inputs[role], partition))) for role in Role},
        list(cut_values(read(topics.steps, partition))),
        Kinds(*(list(messages(read(topic, partition))) for topic in outputs)),
    )


def input_records(chunks: Iterable[Chunk]) -> Iterator[InputRecord]:
    """Give input records."""
    for chunk in chunks:
        yield from map(InputRecord, chunk.offsets.tolist(), chunk.timestamps_ms.tolist(), chunk.values, chunk.keys)


def cut_values(chunks: Iterable[Chunk]) -> Iterator[bytes]:
    """Give the values of cut records; barriers are passed over."""
    for chunk in chunks:
        pairs = zip(chunk.keys, chunk.values, strict=True)
        yield from (value for key, value in pairs if key == b"cut" and value is not None)


def messages(chunks: Iterable[Chunk]) -> Iterator[Message]:
    """Give output records as messages."""
    for chunk in chunks:
        columns = zip(chunk.keys, chunk.values, chunk.headers, strict=True)
        yield from (Message(key or b"", value or b"", headers) for key, value, headers in columns)
