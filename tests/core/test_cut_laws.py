"""Where batches are cut, and where a task is restored, changes nothing: streams at which it once did."""

from typing import Any

import msgspec
import numpy as np
import pytest

from schemas.codec import encode
from schemas.outputs import DeadLetter, Output
from service.core.intake import Role
from service.core.label_flow import LabelFlow
from service.core.quarantine import Mark
from service.core.settings import (
    ConceptDriftSettings,
    CoreSettings,
    FeatureDriftSettings,
    FineTuneSettings,
    LabelSettings,
    ModelProfile,
)
from service.core.verdicts import Quarantine
from tests.core.stream import ALL_IDLE, START_MS, Driver, Source, Stamps, label, prediction

SETTINGS = CoreSettings(default=ModelProfile(snapshot_interval_ms=5_000), tick_ms=1_000)


def told(source: Source, batch: int, stamps: Stamps | None = None) -> list[bytes]:
    return [encode(output) for output in Driver(source, SETTINGS, stamps=stamps).run(batch=batch)]


def take(driver: Driver, role: Role, count: int = 1000) -> list[Output]:
    """Give a task the next records of one input, as those of the others are not there."""
    driver.offer(role, count)
    result = driver.task.step(ALL_IDLE, 100_000)
    return [] if result is None else result.outputs


def test_timestamps_in_microseconds_move_no_other_models_clock() -> None:
    """A producer's timestamps may be anything: those that are no time count as none."""
    count = 120
    predictions = [
        prediction(n, n % 2 == 0, model=f"m{n % 3}", event_time_ms=START_MS + n * 1000) for n in range(count)
    ]
    labels = [label(n, n % 3 == 0, model=f"m{n % 3}", event_time_ms=START_MS + n * 1000) for n in range(count)]
    for factor in (1000, 1_000_000):
        written = [(START_MS + n * 1000) * factor for n in range(count)]
        stamps = ([], written, written)
        whole = Driver(Source([], predictions, labels), SETTINGS, stamps=stamps)
        outputs = [encode(output) for output in whole.run(batch=1000)]
        assert outputs == told(Source([], predictions, labels), 1, stamps)
        last_ms = START_MS + count * 1000
        assert all(whole.task.watermark_of(f"m{n}") < last_ms for n in range(3))


@pytest.mark.parametrize("said", [{"probabilities": {"1": 0.25, "2": 0.75}}, {"score": 0.7, "score_class": 1}])
def test_a_failed_call_that_names_classes_tells_of_an_undecided_model_what_it_is(said: dict[str, Any]) -> None:
    predictions = [prediction(0, 1), prediction(1, 2), prediction(2, None, error=True, **said)]
    predictions += [prediction(n, n % 5 + 0.5) for n in range(3, 40)]
    source = Source([], predictions, [label(n, 1) for n in range(40)])
    for batch in (1, 1000):
        driver = Driver(source, SETTINGS)
        driver.run(batch)
        assert driver.task.roster.models[0].decided_at == 2
        assert driver.task.roster.models[0].classification(2) == "binary"


def test_labels_without_a_prediction_count_when_all_versions_are_put_by() -> None:
    tight = msgspec.structs.replace(SETTINGS, max_monitor_bytes=1)
    predictions = [prediction(n, n % 2 == 0, model="quiet") for n in range(10)]
    predictions += [prediction(n, n % 2 == 0, model="loud") for n in range(100, 400)]
    labels = [label(n, True, model="quiet", event_time_ms=START_MS + n * 100) for n in range(300, 330)]
    for parked_bytes in (1_000_000, 1):
        settings = msgspec.structs.replace(tight, max_parked_monitor_bytes=parked_bytes)
        driver = Driver(Source([], predictions, labels), settings)
        take(driver, Role.PREDICTIONS)
        entries = {name: entry for name, entry in driver.task.changed_state().items() if entry is not None}
        restored = driver.restarted(entries)
        seen = []
        for each in (driver, restored):
            take(each, Role.LABELS)
            assert not any(each.task.models["quiet"].versions.awake())
            seen.append(each.task.models["quiet"].supply.snapshot())
        assert seen[0] == seen[1]
        assert seen[0]["labels"]["facts"]["unmatched"] == 30


def test_what_an_older_program_put_under_the_model_itself_meets_the_label_of_its_target() -> None:
    """An older program watched all targets of a model as one: what waits of it is read by that one's classes."""
    answers = ["a", "b", "b", "c"]
    truths = ["b", "b", "b", "c"]  # the target's own classes get other codes
    predictions = [prediction(n, answer, target="t") for n, answer in enumerate(answers)]
    source = Source([], predictions, [label(n, truth, target="t") for n, truth in enumerate(truths)])
    driver = Driver(source, SETTINGS)
    driver.offer(Role.PREDICTIONS, 4)
    queue = driver.task.intake._queues[Role.PREDICTIONS]
    block, keys, taken = queue.blocks.pop()
    events = [msgspec.structs.replace(event, model_id="m") for event in block.events]
    queue.blocks.append((block._replace(events=events), keys, taken))
    driver.task.step(ALL_IDLE, 1000)
    outputs = take(driver, Role.LABELS)
    assert not [output for output in outputs if isinstance(output, DeadLetter)]
    window = driver.task.models["m"].versions["1"].window
    assert window.total == 4
    assert window.losses(0, 4).tolist() == [1.0, 0.0, 0.0, 0.0]


def test_a_label_before_the_monitor_began_does_not_count_wherever_the_batch_is_cut() -> None:
    seen = []
    for batch in (1, 1000):
        labels = [label(n, True, event_time_ms=START_MS + 350 + n) for n in range(50, 53)]
        predictions = [prediction(n, True) for n in range(5)]
        predictions += [prediction(n, True, event_time_ms=START_MS + 1000) for n in range(5)]
        driver = Driver(Source([], predictions, labels), SETTINGS)
        driver.offer(Role.PREDICTIONS, 5)
        driver.task.step(ALL_IDLE, 1000)
        driver.task._hold(Quarantine("m", "why"), Mark(5, START_MS, "x"))
        driver.task.quarantine.held.clear()
        while sum([driver.offer(role, batch) for role in (Role.LABELS, Role.PREDICTIONS)]):
            driver.drain()
        seen.append(driver.task.models["m"].supply.snapshot())
    assert seen[0] == seen[1]


WATCHFUL = CoreSettings(
    default=ModelProfile(
        concept_drift=ConceptDriftSettings(reference_outcomes=100),
        feature_drift=FeatureDriftSettings(reference_events=100, block_events=20),
        fine_tune=FineTuneSettings(min_labels=100),
        snapshot_interval_ms=60_000,
    ),
    tick_ms=60_000,
)


def versions_that_drift(seed: int) -> Source:
    """Three versions of one model serve side by side, and all of them drift between two ticks."""
    rng = np.random.default_rng(seed)
    predictions, labels = [], []
    for n in range(1500):
        truth, odds = bool(rng.random() < 0.5), 0.1 if n < 700 else 0.6
        answer = truth ^ bool(rng.random() < odds)
        fields = {"version": str(rng.integers(0, 3)), "features": {"a": float(rng.normal() + (n > 700) * 2)}}
        predictions.append(prediction(n, answer, score=0.8 if answer else 0.3, **fields))
        labels.append(label(n, truth, event_time_ms=START_MS + n * 100 + 200))
        if n % 40 == 0:
            labels.append(label(n, not truth, revision=1, event_time_ms=START_MS + n * 100 + 300))
    return Source([], predictions, labels)


@pytest.mark.parametrize("seed", range(3))
def test_incidents_and_triggers_of_several_versions_come_in_the_order_of_their_records(seed: int) -> None:
    source = versions_that_drift(seed)
    whole, *others = (
        [encode(output) for output in Driver(source, WATCHFUL).run(batch=batch)] for batch in (10_000, 37, 1)
    )
    assert sum(b"ModelConceptDrift" in output for output in whole) >= 3
    assert sum(b"trigger_id" in output for output in whole) >= 1
    assert others == [whole, whole]


def test_when_a_snapshot_is_taken_does_not_change_which_labels_count() -> None:
    """A late prediction waits for no label, but lies in one cell with a later one that does."""
    now_ms, found = START_MS, []
    for cut in (False, True):
        flow = LabelFlow(LabelSettings(usual_delay_ms=1_000_000), 86_400_000)
        in_time_ms = now_ms - 1_500_000
        at, late, in_time = (np.array([time_ms]) for time_ms in (now_ms, in_time_ms - 1, in_time_ms))
        flow.note_predictions(late, at, (1, "a"))
        flow.note_labels(late, at, at)
        if cut:
            flow.snapshot()
        flow.note_predictions(in_time, at, (3, "b"))
        found.append(flow.snapshot())
    assert found[0] == found[1]
