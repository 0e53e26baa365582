"""A whole run, drawn from one seed: who takes part, what goes wrong how often, and how the service is set."""

import random
from typing import NamedTuple

import msgspec

from service.config import Config
from service.core.settings import (
    AlertSettings,
    ConceptDriftSettings,
    CoreSettings,
    DataQualitySettings,
    DetectorSettings,
    FeatureDriftSettings,
    FineTuneSettings,
    JoinSettings,
    LabelDriftSettings,
    LatencySettings,
    ModelProfile,
    PerformanceSettings,
    PredictionDriftSettings,
    WindowSettings,
)
from service.runtime.settings import RuntimeSettings, TopicSettings
from tests.simulation.sickness import Sickness, draw_sickness


class Rates(NamedTuple):
    """How often something goes wrong, for each call of the log (or, for the last three, each commit)."""

    crash: float
    refuse: float
    hang: float
    reply_lost: float
    lost: float
    late: float


class Scenario(NamedTuple):
    """One run."""

    seed: int
    growing: bool
    """Whether inputs are appended while the service runs; else they lie there before it starts, and what must come
    out is known beforehand."""
    partitions: int
    workers: int
    predictions: int
    """Of each partition."""
    rates: Rates
    disorder_until_s: float
    """When faults end; virtual seconds."""
    config: Config
    sickness: Sickness = Sickness()
    """At what the core raises, if at anything."""


def draw(seed: int) -> Scenario:
    """Draw a scenario."""
    rng = random.Random(seed)
    growing = rng.random() < 0.6
    partitions = rng.choice((1, 1, 2, 3))
    scenario = Scenario(
        seed=seed,
        growing=growing,
        partitions=partitions,
        workers=rng.choice((1, 2, 3)),
        predictions=rng.choice((60, 150, 300)) // partitions + 20,
        rates=Rates(
            crash=rng.choice((0.0, 0.003, 0.02)),
            refuse=rng.choice((0.0, 0.002, 0.01)),
            hang=rng.choice((0.0, 0.002)),
            reply_lost=rng.choice((0.0, 0.05, 0.2)),
            lost=rng.choice((0.0, 0.05)),
            late=rng.choice((0.0, 0.1)),
        ),
        disorder_until_s=rng.uniform(2, 8),
        config=Config(
            topics=TopicSettings(partitions=partitions), runtime=_runtime(rng, growing=growing), core=_core(rng)
        ),
    )
    sickness = draw_sickness(seed, partitions, scenario.predictions)
    return scenario if not sickness else _sick(scenario, sickness)


def _sick(scenario: Scenario, sickness: Sickness) -> Scenario:
    # Who is kept away takes no place from others, and so gives them one where places are few: then they differ.
    core = msgspec.structs.replace(scenario.config.core, max_models=10_000, max_unpredicted_models=1_000)
    return scenario._replace(config=msgspec.structs.replace(scenario.config, core=core), sickness=sickness)


def _runtime(rng: random.Random, *, growing: bool) -> RuntimeSettings:
    return RuntimeSettings(
        commit_interval_ms=rng.choice((0, 50, 300)),
        urgent_commit_interval_ms=rng.choice((0, 100)),
        snapshot_interval_ms=rng.choice((0, 200, 1000, 30_000)),
        # An input that is silent because its fetch hangs would be passed over: a decision of the moment, which only a
        # growing run may make.
        max_idle_ms=rng.choice((100, 1000)) if growing else 10**9,
        poll_ms=rng.choice((20, 100)),
        max_step_records=rng.choice((20, 60, 1000)),
        max_buffered_records=rng.choice((10, 100, 20_000)),
        broker_timeout_ms=rng.choice((300, 2000)),
        stop_timeout_ms=rng.choice((100, 3000)),
        restart_backoff_ms=rng.choice((10, 200)),
    )


def _core(rng: random.Random) -> CoreSettings:
    watched = rng.random() < 0.4
    profile = ModelProfile(
        segments=("country",) if rng.random() < 0.3 else (),
        concept_drift=ConceptDriftSettings(
            detectors=tuple(DetectorSettings(name=name) for name in rng.sample(("ddm", "page_hinkley", "adwin"), 2)),
            alert_on=rng.choice(("first", "any")),
            reference_outcomes=30,
        ),
        feature_drift=FeatureDriftSettings(
            enabled=watched,
            reference_events=100,
            block_events=20,
            window_blocks=2,
            expected_events_between_false_incidents=2000.0,
        ),
        data_quality=DataQualitySettings(enabled=watched),
        prediction_drift=PredictionDriftSettings(enabled=watched),
        label_drift=LabelDriftSettings(enabled=watched),
        latency=LatencySettings(block_events=20),
        performance=PerformanceSettings(
            windows=(WindowSettings(last=40), WindowSettings(duration_ms=20_000)), max_classes=rng.choice((3, 100))
        ),
        alerts=AlertSettings(pending_for_ms=rng.choice((0, 2000)), keep_firing_for_ms=2000, recovered_outcomes=20),
        fine_tune=FineTuneSettings(
            min_labels=10, verify_outcomes=10, cooldown_ms=5000, acknowledge_within_ms=rng.choice((5000, 60_000))
        ),
        snapshot_interval_ms=rng.choice((4000, 20_000)),
    )
    return CoreSettings(
        default=profile,
        join=JoinSettings(
            label_horizon_ms=rng.choice((10_000, 100_000)),
            orphan_horizon_ms=rng.choice((2000, 30_000)),
            correction_horizon_ms=rng.choice((0, 10_000)),
        ),
        allowed_lateness_ms=rng.choice((0, 3000)),
        tick_ms=rng.choice((2000, 6000)),
        max_models=rng.choice((2, 10_000)),
        max_unpredicted_models=rng.choice((1, 1_000)),
    )
