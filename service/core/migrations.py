"""How entries of older programs become entries of this one: every conversion, in one table.

Whoever changes what a kind of entry holds raises its version in `VERSIONS` (service/core/task_state.py), once for each
release, and adds a small function here that makes of the old payload one of the next version: several of the same step
are composed. A default given here should mean "begins now". What was once published stays readable: nothing is ever
taken out of this table. tests/upgrade keeps the state of every published version, and shapes.json what each kind holds.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np

from service.core.clock import FRESH

Conversion = Callable[[Any], Any]
"""Makes of a payload of one version one of the next. It may change what it is given."""

Migrations = Mapping[tuple[str, int], Conversion]
"""(kind, version) to what makes a payload of that version one of the next."""


def composed(*conversions: Conversion) -> Conversion:
    """Make one conversion of several, done in order."""

    def convert(payload: Any) -> Any:
        for conversion in conversions:
            payload = conversion(payload)
        return payload

    return convert


def with_quarantine(task: Any) -> Any:
    """Nobody was kept away."""
    return task | {"quarantine": {"version": 1, "held": {}, "strikes": []}}


def with_strays(task: Any) -> Any:
    """No record was seen in a wrong place."""
    return task | {"strays": {"version": 1, "counts": [], "open": [], "alerts": {}}}


def with_names(task: Any) -> Any:
    """Of labels that wait already nobody knows the identifiers."""
    return task | {"names": {"version": 1, "names": []}}


def with_outcome_time(monitors: Any) -> Any:
    """Let change points say when the first label told of them; of those found before, nobody knows."""
    return monitors


def with_memory(task: Any) -> Any:
    """Let nobody be put by; who spoke last is not known."""
    return task | {"memory": {"spoken": [], "parked": [], "evicted_total": 0, "dropped_total": 0}}


def with_forgotten(model: Any) -> Any:
    """Let no version have been dropped for want of memory."""
    return model | {"forgotten": []}


def with_models_described(task: Any) -> Any:
    """Let fields of a model have names; nobody has said yet of which class its scores speak.

    What its first value told of its problem holds.
    """
    names = ("model_id", "problem", "classes", "overflowed", "segments")
    models = [dict(zip(names, model, strict=True)) for model in task["roster"]["models"]]
    for model in models:
        undecided = model["problem"] == "auto" and not model["classes"]
        model |= {
            "scores": {"said": None, "style": None},
            "undecided": {"answers": 0, "ends": (0, 0)} if undecided else None,
            "coded": None,
        }
    task["roster"]["models"] = models
    return task


def with_meaning(version: Any) -> Any:
    """Of which class scores speak is found out from the answers that are kept."""
    return version | {"meaning": {"decided": None, "told": []}, "held": {"answers": b"", "outcomes": b""}}


def with_loss_course(payload: Any) -> Any:
    """Let what is normal for the loss begin with its reference window, and an open alarm be followed from now on."""
    loss = payload["loss"]
    opened_at, mean = loss.pop("opened_at"), loss["reference_mean"]
    loss["course"] = None
    if mean is not None:
        count, (scaled, variance) = loss["reference_count"], loss["scaled"]
        normal = {"count": count, "total": count * scaled, "squares": count * (variance + scaled * scaled)}
        nothing = {"count": 0, "total": 0.0, "squares": 0.0}
        aftermath = {"reference": normal, "inflation": loss["dependence"], "level": nothing}
        loss["course"] = {
            "notes": [{"number": payload["window"]["total"] if opened_at is None else opened_at, "normal": normal}],
            "opened_at": opened_at,
            "aftermath": None if opened_at is None else aftermath,
        }
    return payload


def with_no_features(monitors: Any) -> Any:
    """Leave nothing out before the next reference window, and give examples from the next block on."""
    return monitors | {"features": monitors["features"] | {"left_out": [], "wrong": {}}}


def with_confidence(monitors: Any) -> Any:
    """Watch no confidence before the next reference window: in the present one there is none."""
    return monitors | {"predictions": monitors["predictions"] | {"confidence": False}}


def with_supply(model: Any) -> Any:
    """Nothing is known of what producers sent: that watch begins now."""
    return model | {"supply": None}


def with_squared_losses(version: Any) -> Any:
    """Take the sampled losses for zeros and ones, whose squares they are."""
    losses = version["features"]["losses"]
    columns, width = losses["shape"]
    total = float(np.frombuffer(losses["sum"], "<f8")[:width].sum()) if columns else 0.0
    version["features"]["losses"] = losses | {"squares": total}
    return version


def with_log_clock(task: Any) -> Any:
    """Let the clock of the log begin with the next record, and models' go on from where the task's only one stood."""
    begun_ms = task.pop("newest_ms")
    del task["last_tick"]
    input_clocks = [[now_ms, *FRESH, *FRESH] for now_ms in task.pop("clocks_ms")]
    return task | {"log_clock": [0, *FRESH], "input_clocks": input_clocks, "clocks": {}, "begun_ms": begun_ms}


def with_clock(model: Any) -> Any:
    """Leave open where the model's clock stands: it had none of its own."""
    return model | {"clock": None}


MIGRATIONS: Final[Migrations] = {
    ("task", 1): composed(with_quarantine, with_models_described, with_strays, with_memory, with_names, with_log_clock),
    ("model", 1): composed(with_outcome_time, with_supply, with_forgotten, with_clock),
    ("version", 1): composed(
        with_outcome_time, with_meaning, with_loss_course, with_no_features, with_confidence, with_squared_losses
    ),
    ("cut", 1): composed(),
}
"""As `("version", 1): composed(with_target, with_clock)`."""
