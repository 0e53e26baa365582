"""Every numeric field of an event at its extremes, with the matching label: what comes out is finite, or said why not.

The mill breaks records; these are whole. Each case is one model whose events are ordinary but for one field, so that
what the extreme does to sums, squares, quantiles, thresholds and float32 columns comes out in its alerts and snapshots.
"""

import itertools
import json
import random
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import msgspec

from schemas.cloudevents import to_message
from schemas.events import Control, Label, Prediction
from schemas.outputs import DeadLetter
from service.core.intake import Positions, Role
from service.core.settings import (
    AlertSettings,
    ConceptDriftSettings,
    CoreSettings,
    DetectorSettings,
    EmbeddingDriftSettings,
    FeatureDriftSettings,
    FineTuneSettings,
    LatencySettings,
    ModelProfile,
    PerformanceRule,
    PerformanceSettings,
    WindowSettings,
)
from service.core.task import Task
from tests.core.stream import START_MS, TOPICS, Driver, Source

EXTREMES: Final[tuple[float | int, ...]] = (
    0, 0.0, -0.0, 5e-324, -5e-324, 1e-310, 1e-39, 1e-38, 1e-16, 1e-9, 1, -1, 1.5, 1e9, 1e16, 1e38, -1e38, 3.5e38,
    1e154, 1e155, 1e200, -1e200, 1e308, -1e308, 1.7976931348623157e308, 2**31 - 1, 2**31, 2**53, 2**53 + 1, -(2**53),
    2**63 - 1, -(2**63), 2**63, 2**64,
)  # fmt: skip

EVENTS: Final = 160
"""Of each model: a reference, and as much again."""
EVERY_MS: Final = 200

SETTINGS: Final = CoreSettings(
    default=ModelProfile(
        segments=("country",),
        concept_drift=ConceptDriftSettings(
            detectors=tuple(DetectorSettings(name=name) for name in ("e_sr", "adwin", "ddm", "page_hinkley")),
            alert_on="any",
            reference_outcomes=30,
        ),
        feature_drift=FeatureDriftSettings(
            reference_events=100, block_events=20, window_blocks=2, expected_events_between_false_incidents=1000.0
        ),
        embedding_drift=EmbeddingDriftSettings(
            random_features=16, reference_vectors=64, expected_events_between_false_incidents=1000.0
        ),
        latency=LatencySettings(block_events=20),
        performance=PerformanceSettings(
            windows=(WindowSettings(last=40), WindowSettings(duration_ms=20_000)),
            rules=(
                PerformanceRule(metric="mae", window="last_40", above=0.5, min_count=20),
                PerformanceRule(metric="accuracy", window="last_40", below=0.9, min_count=20),
            ),
        ),
        alerts=AlertSettings(pending_for_ms=0, keep_firing_for_ms=1000, recovered_outcomes=20),
        fine_tune=FineTuneSettings(min_labels=10, verify_outcomes=10, cooldown_ms=2000),
        snapshot_interval_ms=2000,
    ),
    tick_ms=1000,
)


class Field(NamedTuple):
    """A numeric field: of which event, and where in it."""

    event: type[msgspec.Struct]
    name: str
    key: str | None = None
    """Of a mapping, the key under which the number stands."""
    listed: bool = False
    """Whether the number stands in a list."""

    def __str__(self) -> str:
        return f"{self.event.__name__}.{self.name}"


class Case(NamedTuple):
    """One model: which field holds what, and when."""

    field: Field
    value: float | int
    kind: str
    when: str


def numeric_fields() -> list[Field]:
    """Find the numeric fields of all events in their types, so that a new one is tried without a word here."""
    return [
        field
        for event in (Prediction, Label, *_control_types())
        for declared in msgspec.structs.fields(event)
        if (field := _numeric(event, declared.name, declared.type)) is not None
    ]


def _control_types() -> tuple[type[msgspec.Struct], ...]:
    return Control.__args__  # type: ignore[attr-defined, no-any-return]  # the members of a union


def _numeric(event: type[msgspec.Struct], name: str, declared: Any) -> Field | None:
    for kind in _alternatives(msgspec.inspect.type_info(declared)):
        if isinstance(kind, msgspec.inspect.IntType | msgspec.inspect.FloatType):
            return Field(event, name)
        if isinstance(kind, msgspec.inspect.DictType):
            values = _alternatives(kind.value_type)
            if any(isinstance(value, msgspec.inspect.FloatType) for value in values):
                return Field(event, name, key="x")
            if any(isinstance(value, msgspec.inspect.ListType) for value in values):
                return Field(event, name, key="x", listed=True)
    return None


def _alternatives(kind: Any) -> list[Any]:
    if isinstance(kind, msgspec.inspect.Metadata):
        return _alternatives(kind.type)
    if isinstance(kind, msgspec.inspect.UnionType):
        return [one for part in kind.types for one in _alternatives(part)]
    return [kind]


KINDS: Final = ("binary", "multiclass", "regression")
WHENS: Final = ("once", "late", "always", "alternating")


def cases() -> list[Case]:
    """Give all cases there are."""
    return [Case(*parts) for parts in itertools.product(numeric_fields(), EXTREMES, KINDS, WHENS)]


def some(seed: int, thoroughly: frozenset[str], of_each: int) -> list[Case]:
    """Give some cases: all extremes of the fields named, and `of_each` of each other field, in one way each."""
    rng = random.Random(seed)
    found = []
    for field in numeric_fields():
        values = EXTREMES if str(field) in thoroughly else rng.sample(EXTREMES, of_each)
        found += [Case(field, value, rng.choice(KINDS), rng.choice(WHENS)) for value in values]
    return found


def judge(case: Case) -> list[str]:
    """Run a case; give what is wrong: an exception, or an output that cannot be written."""
    source = Source([], [], [])
    rng = random.Random(repr(case))
    for number in range(EVENTS):
        for role, event in _events(case, rng, number):
            source.of(role).append(json.dumps(event).encode())  # which writes any integer
    task = Task(SETTINGS, TOPICS, Positions(0, 0, 0))
    driver, wrong = Driver(source, SETTINGS, task), []
    try:
        outputs = driver.run(50)
        restored = Task.restore(SETTINGS, TOPICS, task.intake.taken, _kept(task))
        assert restored.sequence == task.sequence
    except Exception as error:  # noqa: BLE001  # whatever it is, it is what we look for
        return [f"{case}: {type(error).__name__}: {error}"]
    for output in outputs:
        try:
            to_message(output, source="tidegauge/fuzz")
        except ValueError as error:
            wrong.append(f"{case}: {error}")
        if isinstance(output, DeadLetter) and output.reason in ("isolated", "quarantined"):
            wrong.append(f"{case}: {output.message}")
    return wrong


def _kept(task: Task) -> dict[str, bytes]:
    return {name: entry for name, entry in task.changed_state().items() if entry is not None}


def _events(case: Case, rng: random.Random, number: int) -> Iterator[tuple[Role, dict[str, Any]]]:
    extreme = {
        "once": number == EVENTS * 3 // 4,
        "late": number >= EVENTS * 3 // 4,
        "always": True,
        "alternating": number % 2 == 0,
    }[case.when]
    common = {"model_id": "m", "event_time_ms": START_MS + number * EVERY_MS}
    answer, truth = _answers(case.kind, rng)
    prediction = common | {
        "prediction_id": f"p{number}",
        "model_version": "1" if number < EVENTS - 20 else "2",
        "features": {"x": rng.gauss(0, 1), "kind": rng.choice("abc")},
        "embeddings": {"x": [rng.gauss(0, 1) for _ in range(4)]},
        "segments": {"country": rng.choice(("DE", "FR"))},
        "latency_ms": rng.uniform(1, 30),
        "sampling_rate": 0.5,
        **answer,
    }
    label = common | {"prediction_id": f"p{number}", "label": truth, "revision": 0}
    events: list[tuple[Role, dict[str, Any]]] = [(Role.PREDICTIONS, prediction), (Role.LABELS, label)]
    if number % 40 == 0:
        events += [(Role.CONTROL, common | said) for said in _COMMANDS]
    for _, event in events:
        if extreme and _is_of(event, case.field):
            _put(event, case.field, case.value)
    yield from events
    if extreme and number % 3 == 0:  # and a correction that takes it back, or makes it worse
        yield Role.LABELS, label | {"revision": 1, "label": truth}


def _answers(kind: str, rng: random.Random) -> tuple[dict[str, Any], Any]:
    if kind == "regression":
        truth = rng.gauss(10, 2)
        return {"prediction": truth + rng.gauss(0, 1)}, truth
    if kind == "binary":
        yes = rng.random() < 0.5
        return {"prediction": yes, "score": 0.8 if yes else 0.3}, rng.random() < 0.5
    answer = rng.choice(("x", "y", "z"))
    return {"prediction": answer, "probabilities": {"x": 0.5, "y": 0.3, "z": 0.2}}, rng.choice(("x", "y", "z"))


_COMMANDS: Final[tuple[dict[str, Any], ...]] = (
    {"type": "fine_tune"},
    {"type": "mute_alert", "fingerprint": "f", "mute_for_ms": 1000},
    {"type": "reset_monitor"},
    {"type": "accept_reference"},
    {"type": "version_deployed", "model_version": "1"},
    {"type": "fine_tune_status", "trigger_id": "t", "status": "running"},
)


def _is_of(event: dict[str, Any], field: Field) -> bool:
    tag = field.event.__struct_config__.tag
    if tag is not None:
        return bool(event.get("type") == tag)
    return "type" not in event and ("label" in event) is (field.event is Label)


def _put(event: dict[str, Any], field: Field, value: float) -> None:
    if field.key is None:
        event[field.name] = value
        return
    held = event.setdefault(field.name, {})
    held[field.key] = [value, 1.0, 2.0, value] if field.listed else value
