"""Where keys go."""

from aiokafka.partitioner import murmur2 as kafkas_murmur2
from hypothesis import given
from hypothesis import strategies as st

from service.eventlog.partitioner import murmur2, partition_for


@given(st.binary(max_size=64))
def test_the_hash_is_that_of_kafkas_clients(data: bytes) -> None:
    assert murmur2(data) == kafkas_murmur2(data) & 0xFFFFFFFF


@given(st.binary(max_size=64), st.integers(1, 10_000))
def test_a_key_has_one_partition_and_it_exists(key: bytes, partitions: int) -> None:
    assert partition_for(key, partitions) == (kafkas_murmur2(key) & 0x7FFFFFFF) % partitions
