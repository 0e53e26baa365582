"""Hostile cardinality and slow tasks: memory stays bounded, everything is counted, and people are told once."""

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from schemas.codec import encode
from schemas.outputs import Alert, DeadLetter, MetricSnapshot, Output
from service.config import Config
from service.core.intake import Role
from service.core.settings import (
    CoreSettings,
    FeatureDriftSettings,
    JoinSettings,
    LabelSettings,
    ModelProfile,
    PerformanceSettings,
)
from service.eventlog.memory import MemoryLog
from service.runtime.topics import prepare_topics
from tests.core.stream import Driver, Source, label, prediction
from tests.runtime.service import consumed, fast, publish, running
from tests.runtime.waiting import until

LIMIT = 20
PROFILE = ModelProfile(
    labels=LabelSettings(expected=False),
    segments=("where",),
    max_segment_values=LIMIT,
    feature_drift=FeatureDriftSettings(max_features=LIMIT, max_categories=LIMIT),
    performance=PerformanceSettings(max_classes=LIMIT, max_window_outcomes=1000),
)
SETTINGS = CoreSettings(
    default=PROFILE,
    max_models=LIMIT,
    # All that is not under test is forgotten soon.
    join=JoinSettings(label_horizon_ms=60_000, orphan_horizon_ms=10_000, correction_horizon_ms=1),
)


class Hostile(NamedTuple):
    """What somebody sends in event after event, each time something new, and how often that goes beyond a limit."""

    subject: str
    prediction: Callable[[int], dict[str, Any]]
    beyond: Callable[[int], int]
    labelled: bool = False


def new_in(field: str, wrap: Callable[[str], Any] = str) -> Callable[[int], dict[str, Any]]:
    return lambda number: {field: wrap(f"new{number}")}


def new_kind(number: int) -> dict[str, Any]:
    """A new text, and now and then one that was there: a text that never comes again is an identifier, no feature."""
    return {"features": {"kind": f"new{number}" if number % 250 else "usual"}}


LONG = "x" * 2_000
LAST = 9
"""Records that move the clocks, which one alone does not."""
LAST_TOLD = {"models": LAST, "versions": LAST, "classes": 4}
"""Those among them that are beyond a limit too, before the last snapshot."""

HOSTILE = {
    "models": Hostile("max_models", new_in("model"), lambda events: events - LIMIT),
    "versions": Hostile("max_models", new_in("version"), lambda events: events - LIMIT),
    "features": Hostile("max_features", new_in("features", lambda n: {n: 1.0}), lambda events: events - LIMIT),
    "long features": Hostile("max_features", new_in("features", lambda n: {"a": 1.0, LONG + n: 1.0}), lambda n: n),
    "categories": Hostile("max_categories", new_kind, lambda events: events - events // 250 - (LIMIT - 1)),
    "classes": Hostile("max_classes", new_in("value"), lambda events: events - LIMIT),
    "segments": Hostile("max_segment_values", new_in("segments", lambda n: {"where": n}), lambda n: n - LIMIT, True),
}


def source_of(hostile: Hostile, start: int, count: int, *, last: bool = False) -> Source:
    predictions, labels = [], []
    for number in range(start, start + count):
        fields = {"model": "m", "version": "1", "value": "yes"} | hostile.prediction(number)
        # Copied, for what orjson gives lies at the front of a buffer of some 30 kB, which would look like growth.
        predictions.append(bytes(memoryview(prediction(number, fields.pop("value"), **fields))))
        if hostile.labelled:
            labels.append(
                label(number, "yes", event_time_ms=int(msgspec.json.decode(predictions[-1])["event_time_ms"]))
            )
    if last:  # a day later, so that every timer fires behind what is counted
        later = range(start + count + 864_000, start + count + 864_000 + LAST)
        predictions += [prediction(number, "yes", model="m", version="1") for number in later]
    return Source([], predictions, labels)


class Tally:
    """What came out, without holding on to it."""

    def __init__(self) -> None:
        self.alerts: list[Alert] = []
        self.too_many = 0
        self.limits: dict[str, int] = {}

    def add(self, outputs: list[Output]) -> None:
        for output in outputs:
            if isinstance(output, Alert) and output.kind == "operational":
                self.alerts.append(output)
            elif isinstance(output, DeadLetter):
                assert output.reason == "too_many"
                self.too_many += 1
            elif isinstance(output, MetricSnapshot) and output.segment is None:
                self.limits = dict(output.limits)

    def beyond(self, subject: str) -> int:
        return self.too_many if subject == "max_models" else self.limits.get(subject, 0)


def pushed(driver: Driver, source: Source, tally: Tally) -> Driver:
    """Let a task take a source, behind what it has taken so far."""
    task = driver.task
    shifted = Driver(source, driver.settings, task)
    positions = {role: task.intake.position(role) for role in Role}
    shifted.source = _Shifted(source, positions)  # type: ignore[assignment]  # it has the one method that is used
    while sum(shifted.offer(role, 2000) for role in Role):
        while (result := task.step(frozenset(Role), 2000)) is not None:
            tally.add(result.outputs)
    shifted.source = Source([], [], [])  # holds nothing on
    return shifted


class _Shifted:
    """A source whose first record has a higher offset than 0, without the records before it."""

    def __init__(self, source: Source, positions: dict[Role, int]) -> None:
        self._source, self._positions = source, positions

    def of(self, role: Role) -> Any:
        return _Behind(self._source.of(role), self._positions[role])


class _Behind:
    def __init__(self, values: list[bytes], first: int) -> None:
        self._values, self._first = values, first

    def __getitem__(self, part: slice) -> list[bytes]:
        return self._values[part.start - self._first : part.stop - self._first]


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_beyond_a_limit_is_counted_and_told_once(name: str) -> None:
    hostile, tally, count = HOSTILE[name], Tally(), 1500
    driver = pushed(Driver(Source([], [], []), SETTINGS), source_of(hostile, 0, count, last=True), tally)
    assert tally.beyond(hostile.subject) == hostile.beyond(count) + LAST_TOLD.get(name, 0)
    assert [(alert.alertname, alert.state) for alert in tally.alerts] == [("TidegaugeLimitReached", "firing")]
    (evidence,) = tally.alerts[0].evidence
    assert (evidence.detector, evidence.subject) == ("limit", hostile.subject)
    assert len(driver.task.roster.versions) <= LIMIT


@pytest.mark.parametrize("name", HOSTILE)
def test_the_state_of_a_task_that_is_flooded_does_not_grow(name: str) -> None:
    hostile, tally = HOSTILE[name], Tally()
    driver = pushed(Driver(Source([], [], []), SETTINGS), source_of(hostile, 0, 2000), tally)
    before = state_bytes(driver)
    driver = pushed(driver, source_of(hostile, 2000, 2000), tally)
    # Counters gain a digit here and there, and the blocks of windows and of the join are filled differently.
    assert state_bytes(driver) < before * 1.1 + 20_000


def state_bytes(driver: Driver) -> int:
    """Bytes of the whole state, the join's waiting predictions aside: those have bounds of their own."""
    entries = driver.task.changed_state()
    return sum(len(entry) for name, entry in entries.items() if entry is not None and not name.startswith("join/"))


@pytest.mark.parametrize("name", ["models", "classes", "segments"])
def test_alerts_of_limits_do_not_depend_on_how_records_were_fetched_or_restarts(name: str) -> None:
    source = source_of(HOSTILE[name], 0, 400, last=True)
    whole = [encode(output) for output in Driver(source, SETTINGS).run(batch=100_000)]
    assert any(b"TidegaugeLimitReached" in value for value in whole)
    assert [encode(output) for output in Driver(source, SETTINGS).run(batch=37)] == whole
    driver, got, entries = Driver(source, SETTINGS), [], {}
    while sum(driver.offer(role, 53) for role in Role):
        got += [encode(output) for output in driver.drain()]
        entries |= driver.task.changed_state()
        entries = {entry: value for entry, value in entries.items() if value is not None}
        driver = driver.restarted(entries)
    assert got == whole


def test_predictions_that_the_join_gives_up_are_counted_and_told_once() -> None:
    settings = msgspec.structs.replace(SETTINGS, join=JoinSettings(max_entries=1000))
    tally = Tally()
    source = Source([], [prediction(number, "yes") for number in range(20_000)], [])
    pushed(Driver(Source([], [], []), settings), source, tally)
    assert tally.limits["max_join_entries"] >= 10_000
    assert [alert.evidence[0].subject for alert in tally.alerts] == ["max_join_entries"]


# Memory of the process -------------------------------------------------------------------------------------------


def resident_mb() -> float:
    gc.collect()
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) / 1024


@pytest.mark.slow
@pytest.mark.parametrize("name", HOSTILE)
def test_two_hundred_thousand_new_names_cost_no_memory_beyond_the_first_ones(name: str) -> None:
    settings = CoreSettings(
        default=ModelProfile(segments=("where",), labels=LabelSettings(expected=False)),
        max_models=200,
        join=SETTINGS.join,
    )
    hostile, tally = HOSTILE[name], Tally()
    driver, sizes = Driver(Source([], [], []), settings), []
    for start in range(0, 200_000, 10_000):
        driver = pushed(driver, source_of(hostile, start, 10_000), tally)
        sizes.append(resident_mb())
    pushed(driver, source_of(hostile, 200_000, 1, last=True), tally)
    assert tally.beyond(hostile.subject) > 199_000
    assert len(tally.alerts) == 1
    # The first fifth fills the tables, the window and the join's horizon.
    assert max(sizes[4:]) - sizes[3] < 25, sizes


# Backpressure ----------------------------------------------------------------------------------------------------


async def test_a_task_that_may_not_step_stops_reading() -> None:
    limits = {"max_buffered_records": 500, "max_buffered_bytes": 1_000_000, "max_step_records": 100}
    config, log = fast(Config(), **limits), MemoryLog()
    await prepare_topics(log, config.topics, config.core)
    # Labels alone: they wait for the control topic and the predictions no longer than the grace, so make it long.
    patient = msgspec.structs.replace(config, runtime=msgspec.structs.replace(config.runtime, idle_grace_ms=3_000))
    await publish(log, patient, Source([], [], [label(number, "a") for number in range(20_000)]))
    async with running(log, patient) as worker:
        await until(lambda: worker.stats and worker.stats[0].records_total[Role.LABELS] >= 500)
        # Whole chunks are taken in, so the buffer may be over by one chunk.
        assert worker.stats[0].records_total[Role.LABELS] <= 500 + 100
        await consumed(log, patient, worker)
        assert worker.stats[0].records_total[Role.LABELS] == 20_000


async def test_large_records_are_held_back_by_their_bytes() -> None:
    limits = {"max_buffered_bytes": 1_000_000, "max_step_records": 10, "idle_grace_ms": 2_000}
    config, log = fast(Config(), **limits), MemoryLog()
    await prepare_topics(log, config.topics, config.core)
    large = [prediction(number, "a", features={"text": "x" * 50_000}) for number in range(200)]
    await publish(log, config, Source([], large, []))
    async with running(log, config) as worker:
        await until(lambda: worker.stats and worker.stats[0].bytes_total[Role.PREDICTIONS] >= 1_000_000)
        assert worker.stats[0].bytes_total[Role.PREDICTIONS] <= 1_000_000 + 10 * 51_000
        await consumed(log, config, worker)
