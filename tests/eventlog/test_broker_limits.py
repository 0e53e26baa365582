"""What an older broker cannot do, told from the requests that it knows."""

from typing import Final

import pytest

from service.eventlog.kafka.probe import Listener, broker_limits, limits, release
from service.eventlog.kafka_settings import KafkaSettings
from tests.broker import kafka_broker

MODERN: Final = dict.fromkeys((10, 22, 24, 26, 32), (0, 4))
"""As brokers answered ApiVersions: kind of request to its newest version."""
KAFKA_2_8: Final = {**MODERN, 1: (0, 12), 3: (0, 11), 19: (0, 7)}
KAFKA_3_9: Final = {**MODERN, 1: (0, 17), 3: (0, 12), 19: (0, 7)}
KAFKA_4_3: Final = {**MODERN, 1: (4, 18), 3: (0, 13), 19: (2, 7)}


def test_each_release_is_known_by_what_it_knows() -> None:
    names = [release(versions) for versions in (KAFKA_2_8, KAFKA_3_9, KAFKA_4_3)]
    assert names == ["2.7 to 3.0", "3.9", "4.0 or later"]


def test_what_is_lacking_is_said() -> None:
    assert limits(KAFKA_4_3) == []
    assert [told[:40] for told in limits(KAFKA_3_9)] == ["records that are stamped far ahead are n"]
    ancient = {**MODERN, 1: (0, 5), 3: (0, 5), 19: (0, 2)}
    assert len(limits(ancient)) == 4
    [told] = limits({1: (0, 2), 3: (0, 2)})
    assert told.startswith("it knows no coordinators and no topic settings and no transactions: Kafka 0.11 is the")


def test_a_listener_is_named_in_the_words_of_the_setting() -> None:
    named = {Listener(tls, mechanisms, {}).protocol for tls in (False, True) for mechanisms in (None, ("PLAIN",))}
    assert named == {"PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"}


@pytest.mark.kafka
async def test_the_broker_of_this_run_is_told_as_what_it_is(kafka_bootstrap: str) -> None:
    told = await broker_limits(KafkaSettings(bootstrap_servers=(kafka_bootstrap,)))
    version = kafka_broker.chosen_version()
    assert bool(told) == (kafka_broker.major(version) < 4)
    assert all(f"(Kafka {release(KAFKA_2_8 if version.startswith('2.8') else KAFKA_3_9)})" in line for line in told)
