"""A river model that learns row by row, and the folder in which its versions lie.

A version is a small JSON file: the whole state of the model as plain numbers, so that anybody can read it and nothing
is executed when it is loaded.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import orjson
from river import compose, linear_model, optim, preprocessing, utils

LEARNING_RATE = 0.05
FORMAT = 1
"""Of the files. A file of another number is refused."""


class ModelError(ValueError):
    """A version is not in the store, or cannot be read."""


class OnlineModel:
    """Logistic regression on standardised features: predicts, and learns from one row at a time."""

    def __init__(self) -> None:
        self._scaler = preprocessing.StandardScaler()
        self._regression = linear_model.LogisticRegression(optimizer=optim.SGD(LEARNING_RATE))
        self._pipeline = compose.Pipeline(self._scaler, self._regression)

    def probability(self, features: Mapping[str, Any]) -> float:
        """Give the probability of the positive class."""
        return float(self._pipeline.predict_proba_one(numbers(features)).get(True, 0.5))

    def learn(self, features: Mapping[str, Any], positive: bool) -> None:
        """Learn one row."""
        self._pipeline.learn_one(numbers(features), positive)

    def state(self) -> dict[str, Any]:
        """Give everything that was learnt as plain data."""
        return {
            "format": FORMAT,
            "counts": dict(self._scaler.counts),
            "means": dict(self._scaler.means),
            "vars": dict(self._scaler.vars),
            "weights": dict(self._regression.weights),
            "intercept": float(self._regression.intercept),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> "OnlineModel":
        """Make the model that gave a state. Raises ModelError."""
        if state.get("format") != FORMAT:
            raise ModelError(f"a model file of format {state.get('format')!r}, expected {FORMAT}")
        model = cls()
        model._scaler.counts = Counter(state["counts"])
        model._scaler.means = defaultdict(float, state["means"])
        model._scaler.vars = defaultdict(float, state["vars"])
        model._regression._weights = utils.VectorDict(state["weights"])  # noqa: SLF001  (river has no public way)
        model._regression.intercept = state["intercept"]
        return model


class ModelStore:
    """Versions of one model in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def save(self, version: str, model: OnlineModel) -> None:
        """Keep a version. Readers see the old file or the new one, never half of it."""
        path = self._path(version)
        draft = path.with_suffix(".draft")
        draft.write_bytes(orjson.dumps(model.state(), option=orjson.OPT_SORT_KEYS))
        draft.replace(path)

    def load(self, version: str) -> OnlineModel:
        """Give a version. Raises ModelError."""
        try:
            return OnlineModel.from_state(orjson.loads(self._path(version).read_bytes()))
        except (OSError, orjson.JSONDecodeError, KeyError) as error:
            raise ModelError(f"version {version} cannot be loaded: {error}") from error

    def _path(self, version: str) -> Path:
        # Versions come from a topic: nothing in them may lead out of the folder.
        return self._folder / f"{quote(version, safe='')}.json"


def numbers(features: Mapping[str, Any]) -> dict[str, float]:
    """Turn features into numbers: a text becomes one feature for each of its values, what is missing is left out.

    In the order of their names, so that sums, and with them the model, do not depend on how an event was written.
    """
    known = sorted((name, value) for name, value in features.items() if value is not None)
    return dict((f"{name}={value}", 1.0) if isinstance(value, str) else (name, float(value)) for name, value in known)


def is_positive(label: float | str | bool) -> bool:
    """Say which class a label is, however its producer writes it."""
    return label in (1.0, "1", "1.0", "true", "True")
