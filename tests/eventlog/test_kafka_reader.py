"""What the reader takes out of aiokafka's records."""

from types import SimpleNamespace
from typing import Any

from aiokafka.consumer.fetcher import READ_COMMITTED, FetchResult, PartitionRecords
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import TopicPartition as KafkaTopicPartition
from hypothesis import given
from hypothesis import strategies as st

from service.eventlog.kafka.reader import _Fetched, as_chunk
from service.eventlog.protocol import TopicPartition

HERE = TopicPartition("predictions", 0)
NATIVE = KafkaTopicPartition(*HERE)
BYTES = st.binary(max_size=8) | st.none()
HEADERS = st.lists(st.tuples(st.text(max_size=4), BYTES), max_size=2)
RECORDS = st.lists(st.tuples(BYTES, BYTES, HEADERS), min_size=1, max_size=5)


def _fetched(records: list[tuple[bytes | None, bytes | None, list[tuple[str, bytes | None]]]]) -> FetchResult:
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 1 << 20)
    for offset, (key, value, headers) in enumerate(records):
        builder.append(offset, 1_000 + offset, key, value, headers)
    content = MemoryRecords(bytes(builder.build()))
    unpacked = PartitionRecords(NATIVE, content, [], 0, None, None, True, READ_COMMITTED)
    state = SimpleNamespace(paused=False, position=0, consumed_to=lambda _: None)
    assignment = SimpleNamespace(active=True, state_value=lambda _: state)
    return FetchResult(NATIVE, assignment=assignment, partition_records=unpacked, backoff=0)


@given(RECORDS)
def test_records_as_they_were_parsed_read_like_those_that_the_client_makes(records: list[Any]) -> None:
    fetched = _Fetched()
    fetched[NATIVE] = _fetched(records)
    parsed, made = fetched[NATIVE].getall(), _fetched(records).getall()
    assert {type(record).__name__ for record in parsed} == {"DefaultRecord"}
    assert {type(record).__name__ for record in made} == {"ConsumerRecord"}
    ours, theirs = as_chunk(HERE, parsed, 9), as_chunk(HERE, made, 9)
    assert [list(column) for column in ours[2:-1]] == [list(column) for column in theirs[2:-1]]
    assert ours.headers == [tuple((name, value or b"") for name, value in headers) for _, _, headers in records]
