"""Trials of the KDD 2026 benchmark (Cerqueira et al., arXiv 2606.07789) on Electricity, made again with a river model.

A trial shuffles the rows, trains a Hoeffding tree on them one by one, and from a random place in the third quarter on
changes them: features permuted, one class skipped or renamed, rows skipped where a feature is above its median. The
model goes on learning, and no one resets it. Errors from 25 % of the rows on are what a detector sees.
"""

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from river.tree import HoeffdingTreeClassifier

from benchmarks.detection_quality.datasets import ROOT, Labelled, Row
from benchmarks.detection_quality.streams import Values

KINDS = ("x_permutations", "x_exceed_skip", "y_swaps", "y_prior_skip")
MODES = ("ABRUPT", "GRADUAL")
REGION = (0.5, 0.8)
TRAINED_SHARE = 0.25
MAX_DELAY = 2_500
"""An alarm is true up to so many rows after the onset; a gradual drift takes as many to be complete."""
SKIPPED_SHARE = 0.75
SEED = 123
CACHE = ROOT / ".cache" / "detection_quality"
VERSION = 1
"""Raise it when a trial is made differently: trials are kept under it."""


class Episode(NamedTuple):
    """The errors of one trial, and where each was among the rows (skipped rows leave gaps)."""

    errors: Values
    rows: NDArray[np.int64]
    onset: int


class _Change(NamedTuple):
    """What a trial drew."""

    onset: int
    label: int
    order: list[int]
    feature: str
    limit: float


def kept(number: int, make: Callable[[], dict[tuple[str, str], Episode]]) -> dict[tuple[str, str], Episode]:
    """Give a trial from `.cache`, where it was made before: 160,000 rows through a tree take ten seconds and more."""
    path = CACHE / f"kdd-trial-{VERSION}-{number}.npz"
    if not path.exists():
        made = make()
        path.parent.mkdir(parents=True, exist_ok=True)
        columns = {
            f"{kind} {mode} {i}": np.asarray(part) for (kind, mode), one in made.items() for i, part in enumerate(one)
        }
        np.savez_compressed(path, **columns)  # type: ignore[arg-type] # a name is never allow_pickle
    with np.load(path) as stored:
        return {
            (kind, mode): Episode(
                stored[f"{kind} {mode} 0"], stored[f"{kind} {mode} 1"], int(stored[f"{kind} {mode} 2"])
            )
            for kind in KINDS
            for mode in MODES
        }


def episodes(stream: Labelled, trial: int) -> dict[tuple[str, str], Episode]:
    """Give one trial's episodes by kind and mode. They share what comes before the onset."""
    rng = np.random.default_rng([SEED, trial])
    shuffled = rng.permutation(len(stream.rows)).tolist()
    rows, classes = [stream.rows[i] for i in shuffled], [stream.classes[i] for i in shuffled]
    change = _drawn(rng, rows)
    model, before = _run(HoeffdingTreeClassifier(), rows[: change.onset], classes[: change.onset])
    first = int(TRAINED_SHARE * len(rows)) + 1
    found = {}
    for kind in KINDS:
        for mode in MODES:
            wide = MAX_DELAY if mode == "GRADUAL" else 0
            later = _changed(rng, rows, classes, change, kind, wide)
            places = [place for place, _, _ in later]
            _, after = _run(copy.deepcopy(model), [row for _, row, _ in later], [label for _, _, label in later])
            index = np.concatenate([np.arange(change.onset), np.array(places, dtype=np.int64)])
            errors = np.array(before + after, dtype=np.float64)
            found[kind, mode] = Episode(errors[index >= first], index[index >= first], change.onset)
    return found


def _drawn(rng: np.random.Generator, rows: list[Row]) -> _Change:
    names = list(rows[0])
    feature = names[int(rng.integers(len(names)))]
    limit = float(np.median([row[feature] for row in rows]))
    onset = int(len(rows) * rng.uniform(*REGION))
    return _Change(onset, int(rng.integers(2)), rng.permutation(len(names)).tolist(), feature, limit)


def _run(model: Any, rows: list[Row], classes: list[int]) -> tuple[Any, list[int]]:
    """Test, then train; give the errors."""
    errors = []
    for row, label in zip(rows, classes, strict=True):
        errors.append(int(model.predict_one(row) != label))
        model.learn_one(row, label)
    return model, errors


def _changed(
    rng: np.random.Generator, rows: list[Row], classes: list[int], change: _Change, kind: str, wide: int
) -> list[tuple[int, Row, int]]:
    """Give place, row and class of what is left from the onset on. A gradual drift strikes each row by chance."""
    found = []
    for place in range(change.onset, len(rows)):
        row, label = rows[place], classes[place]
        if wide and rng.random() >= (place - change.onset) / wide:
            found.append((place, row, label))
            continue
        if kind == "x_permutations":
            row = _permuted(row, change.order)
        elif kind == "y_swaps":
            label = 1 - change.label
        elif (kind == "x_exceed_skip" and row[change.feature] > change.limit) or (
            kind == "y_prior_skip" and label == change.label and rng.random() < SKIPPED_SHARE
        ):
            continue
        found.append((place, row, label))
    return found


def _permuted(row: Row, order: list[int]) -> Row:
    names, values = list(row), list(row.values())
    return {name: values[i] for name, i in zip(names, order, strict=True)}
