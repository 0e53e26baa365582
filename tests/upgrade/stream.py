"""A stream that leaves something in every corner of a task's state. It knows nothing of the program that reads it.

Only the standard library: an older program's state is made by running this file beside that program's sources.
"""

import json
import random
from typing import Any, NamedTuple

START_MS = 1_790_000_000_000
STEP_MS = 100
LABEL_DELAY_MS = 4_000
EVENTS = 2_000
"""Predictions of all models together up to the moment of the snapshot."""
CONTINUED = 800
"""Predictions after it."""
CHANGE = 1_300
"""From here on models are worse and features have moved."""
RECOVERY = EVENTS + 250
"""From here on both are as before: incidents that were open in the state are resolved."""

_DETECTORS = [
    "adwin",
    "betting",
    "conformal",
    "cusum",
    "ddm",
    "e_cusum",
    "e_sr",
    "eddm",
    "empirical_bernstein",
    "ewma",
    "fhddm",
    "hddm_a",
    "hddm_w",
    "kswin",
    "page_hinkley",
]

SETTINGS: dict[str, Any] = {
    "default": {
        "segments": ["country"],
        "snapshot_interval_ms": 20_000,
        "feature_drift": {"reference_events": 150, "block_events": 40, "max_features": 6, "max_categories": 4},
        "embedding_drift": {"reference_vectors": 96, "random_features": 16},
        "concept_drift": {"reference_outcomes": 100},
        "performance": {
            "max_window_outcomes": 200,
            "windows": [{"last": 100}, {"duration_ms": 60_000}],
            "rules": [{"metric": "accuracy", "window": "last_100", "below": 0.75}],
        },
        "fine_tune": {"min_labels": 60, "verify_outcomes": 60},
        "latency": {"p95_above_ms": 40.0, "block_events": 50},
    },
    "models": {
        "every": {
            "concept_drift": {
                "reference_outcomes": 100,
                "detectors": [{"name": name} for name in _DETECTORS],
                "alert_on": "majority",
            },
            "performance": {"max_window_outcomes": 200},
            "alerts": {"pending_for_ms": 5_000, "keep_firing_for_ms": 20_000},
        },
    },
    "join": {
        "label_horizon_ms": 120_000,
        "orphan_horizon_ms": 60_000,
        "correction_horizon_ms": 30_000,
    },
    "tick_ms": 1_000,
    "max_models": 9,
    "max_unpredicted_models": 2,
}

_MODELS = ("churn", "digits", "price", "vectors", "every")


class Records(NamedTuple):
    """JSON values of the three inputs in the order of their offsets."""

    control: list[bytes]
    predictions: list[bytes]
    labels: list[bytes]


def records(first: int, count: int, seed: int) -> Records:
    """Make the predictions with these numbers, and the labels that came meanwhile."""
    rng = random.Random(seed)
    made = Records([], [], [])
    for number in range(first, first + count):
        # What is young at the end has all its monitors in their reference windows.
        model = "young" if number % 50 == 49 and number > EVENTS - 600 else _MODELS[number % len(_MODELS)]
        event, truth = _prediction(number, model, rng)
        made.predictions.append(_bytes(event))
        made.labels.extend(_labels(number, event, truth, rng))
    made.labels.sort(key=lambda value: int(json.loads(value)["event_time_ms"]))
    return made


def commands(first: int, fingerprint: str | None, trigger: tuple[str, str] | None) -> list[bytes]:
    """Mute an incident, take up a trigger (its id and model), and tell what else people say."""
    time_ms = START_MS + first * STEP_MS
    said: list[dict[str, Any]] = [
        {"type": "version_deployed", "model_id": "digits", "model_version": "2"},
        {"type": "fine_tune", "model_id": "price", "reason": "a person asks"},
    ]
    if fingerprint is not None:
        said.append({"type": "mute_alert", "model_id": "churn", "fingerprint": fingerprint, "mute_for_ms": 3_600_000})
    if trigger is not None:
        said.append({"type": "fine_tune_status", "trigger_id": trigger[0], "model_id": trigger[1], "status": "running"})
    return [_bytes(event | {"event_time_ms": time_ms}) for event in said]


def later_commands(first: int, trigger: tuple[str, str] | None) -> list[bytes]:
    """Report what became of the trigger, and let a model's monitors begin anew, after the snapshot."""
    time_ms = START_MS + (first + 100) * STEP_MS
    said: list[dict[str, Any]] = [{"type": "reset_monitor", "model_id": "vectors"}]
    if trigger is not None:
        completed = {"type": "fine_tune_status", "status": "completed", "model_version": "3"}
        said.append(completed | {"trigger_id": trigger[0], "model_id": trigger[1]})
    return [_bytes(event | {"event_time_ms": time_ms}) for event in said]


def _prediction(number: int, model: str, rng: random.Random) -> tuple[dict[str, Any], Any]:
    changed = CHANGE <= number < RECOVERY
    event: dict[str, Any] = {
        "prediction_id": f"p{number}",
        "model_id": model,
        "model_version": "2" if model == "digits" and number % 4 == 0 and number > 800 else "1",
        "event_time_ms": START_MS + number * STEP_MS,
        "latency_ms": round(rng.uniform(5, 60 if changed else 30), 1),
        "segments": {"country": rng.choice(["DE", "FR", "PL"])},
        "features": _features(number, changed, rng),
    }
    if rng.random() < 0.02:
        return event | {"error": True}, None
    wrong = rng.random() < (0.5 if changed else 0.08)
    if model in ("churn", "every", "young"):
        truth: Any = rng.choice(["leaves", "stays"])
        answer = {"leaves": "stays", "stays": "leaves"}[truth] if wrong else truth
        score = round(rng.uniform(0.02, 0.48), 2)
        event |= {"prediction": answer, "score": score if answer == "leaves" else round(1 - score, 2)}
        if number % 3 == 0:
            event["sampling_rate"] = 0.5
    elif model == "digits":
        truth = rng.choice(["one", "two", "three"])
        answer = rng.choice(["one", "two", "three"]) if wrong else truth
        rest = {"one": 0.15, "two": 0.15, "three": 0.15} | {answer: 0.7}
        event |= {"prediction": answer, "probabilities": rest}
    elif model == "price":
        truth = round(rng.gauss(20, 5), 2)
        event["prediction"] = round(truth + rng.gauss(0, 8 if changed else 1), 2)
    else:
        truth = rng.random() < 0.5
        event["prediction"] = truth ^ wrong
        shift = 0.7 if changed else 0.0
        event["embeddings"] = {"text": [round(rng.gauss(shift, 1), 2) for _ in range(6)]}
    return event, truth


def _features(number: int, changed: bool, rng: random.Random) -> dict[str, Any]:
    """Numbers, texts, booleans, missing values, a wrong type now and then, and one name too many."""
    values: dict[str, Any] = {
        "age": round(rng.gauss(55 if changed else 40, 9), 1),
        "income": None if rng.random() < (0.3 if changed else 0.02) else round(rng.lognormvariate(3, 0.5), 1),
        "plan": rng.choice(["basic", "plus", "pro", "team", "trial"]) if changed else rng.choice(["basic", "plus"]),
        "active": rng.random() < 0.7,
        "visits": rng.randrange(12),
    }
    if number % 97 == 0:
        values["age"] = "forty"
    if number % 10 == 0:
        values |= {"rare": 1.0, "beyond": 2.0}
    return values


def _labels(number: int, event: dict[str, Any], truth: Any, rng: random.Random) -> list[bytes]:
    time_ms = START_MS + number * STEP_MS + LABEL_DELAY_MS
    told = {"prediction_id": event["prediction_id"], "model_id": event["model_id"], "event_time_ms": time_ms}
    made: list[bytes] = []
    if truth is not None and rng.random() < 0.9:  # the others wait for ever
        made.append(_bytes(told | {"label": truth}))
        if number % 20 == 0:
            made.append(_bytes(told | {"label": truth, "event_time_ms": time_ms + 500}))  # said twice
        if number % 15 == 0:
            other = truth + 1 if isinstance(truth, float) else truth
            made.append(_bytes(told | {"label": other, "revision": 1, "event_time_ms": time_ms + 900}))
    if number % 25 == 0:  # its prediction never comes
        made.append(_bytes(told | {"prediction_id": f"lost{number}", "label": "stays"}))
    if number % 200 == 0:
        made.append(_bytes(told | {"model_id": "unheard", "label": "stays"}))
    return made


def _bytes(event: dict[str, Any]) -> bytes:
    return json.dumps(event, separators=(",", ":")).encode()
