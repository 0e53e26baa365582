"""How the service is set in a chaos run, and what will be done to it: all drawn from one seed."""

import random
from typing import Final, Literal, NamedTuple

import msgspec

from service.config import Config, LogSettings
from service.eventlog.kafka_settings import KafkaSettings
from service.http.settings import HttpSettings
from service.runtime.settings import RuntimeSettings, TopicSettings
from tests.simulation.scenario import draw

Kind = Literal["kill", "zombie", "rival", "broker_kill", "broker_pause", "leave", "join"]

DECK: Final[tuple[Kind, ...]] = (
    *["kill"] * 3, *["zombie"] * 2, "rival", "broker_kill", "broker_pause", "leave", "join",
)  # fmt: skip
"""Ten faults hold every kind; what happens to workers is more frequent, as it is outside."""

BROKER_PROPERTIES: Final = {"group.min.session.timeout.ms": "1000"}
"""Kafka's own minimum of 6 s would make a run of 100 faults last twice as long and test nothing more."""

SESSION_MS: Final = 3_000
TRANSACTION_MS: Final = 5_000


class Setting(NamedTuple):
    """One run."""

    seed: int
    partitions: int
    workers: int
    """At the beginning."""
    most_workers: int
    faults: tuple[Kind, ...]
    config: Config


def draw_setting(seed: int, faults: int, bootstrap: str) -> Setting:
    """Draw a run."""
    rng = random.Random(f"chaos {seed}")
    partitions = rng.choice((3, 4, 5))
    return Setting(
        seed,
        partitions,
        workers=rng.choice((2, 3)),
        most_workers=min(4, partitions),  # each has something to lose
        faults=plan(rng, faults),
        # The simulator's short windows and impatient policies: much comes out, and state of every sort is restored.
        config=msgspec.structs.replace(
            draw(seed).config,
            log=LogSettings(carrier="kafka", kafka=_kafka(bootstrap)),
            topics=TopicSettings(partitions=partitions),
            runtime=_runtime(rng),
            http=HttpSettings(enabled=False),
        ),
    )


def plan(rng: random.Random, count: int) -> tuple[Kind, ...]:
    """Deal decks until there are enough faults."""
    dealt: list[Kind] = []
    while len(dealt) < count:
        dealt += rng.sample(DECK, len(DECK))
    return tuple(dealt[:count])


def _kafka(bootstrap: str) -> KafkaSettings:
    return KafkaSettings(
        bootstrap_servers=(bootstrap,),
        request_timeout_ms=4_000,
        commit_timeout_ms=3_000,
        transaction_timeout_ms=TRANSACTION_MS,
        acquire_timeout_ms=3 * TRANSACTION_MS,
        session_timeout_ms=SESSION_MS,
        heartbeat_interval_ms=SESSION_MS // 10,
        rebalance_timeout_ms=10_000,
        release_timeout_ms=3_000,
    )


def _runtime(rng: random.Random) -> RuntimeSettings:
    return RuntimeSettings(
        name="chaos",
        group="chaos",
        commit_interval_ms=rng.choice((50, 200, 500)),
        urgent_commit_interval_ms=50,
        # Some recoveries repeat many cuts, others none.
        snapshot_interval_ms=rng.choice((500, 3_000, 30_000)),
        max_idle_ms=rng.choice((500, 3_000)),
        idle_grace_ms=rng.choice((0, 50)),
        poll_ms=50,
        max_step_records=rng.choice((20, 500)),
        max_buffered_records=rng.choice((50, 20_000)),
        broker_timeout_ms=4 * TRANSACTION_MS,
        stop_timeout_ms=8_000,
        restart_backoff_ms=100,
    )
