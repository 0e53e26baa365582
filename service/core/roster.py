"""Who is watched: models, their class tables, and their versions' places in the task's columns."""

from typing import NamedTuple, TypedDict

import msgspec
import numpy as np

from schemas.events import Label, Prediction, Scalar
from service.core.classes import UNSEEN, ClassTable, NumberTable, class_name
from service.core.columns import Int
from service.core.metrics.catalogue import ResolvedProblem
from service.core.problem import MOST_CLASSES, NEVER, Coded, CodedState, Finder, FinderState
from service.core.said import SaidScores, SaidScoresState
from service.core.segments import SegmentTable, SegmentTableState
from service.core.settings import CoreSettings, JoinSettings, ModelProfile, Problem
from service.core.units import model_of, split


class VersionKey(NamedTuple):
    """A model version. Its place in the roster is the `monitor` of a PREDICTION_ROW."""

    model_id: str
    model_version: str


class Model:
    """What the predictions and labels of one model share."""

    def __init__(self, model_id: str, place: int, profile: ModelProfile, problem: Problem, since: int = -1) -> None:
        self.model_id = model_id
        self.since = since
        """Number of the first record that named it; -1: of an earlier step."""
        self.place = place
        """The `model` of a LABEL_ROW."""
        self.label_horizon_ms = JoinSettings().label_horizon_ms
        """How long its predictions wait for a label."""
        self.profile = profile
        self.problem = problem
        """binary, multiclass or regression; auto until the first events tell, and where they tell of classes."""
        # A stored reference holds class codes: they must mean here what they meant where it was made.
        reference = profile.reference.data or {}
        if problem == "auto" and reference.get("predictions") and not reference.get("classes"):
            self.problem = "regression"
        self.decided_at = -1 if self.problem != "auto" or reference.get("classes") else NEVER
        """Number of the record that told whether it is a regression; -1: known before, NEVER: not known yet."""
        self.coded: Coded | None = None
        """What codes stand for that were given before it was known to be a regression."""
        self._finder = Finder()
        self.table = self._make_table(list(reference.get("classes", [])), 0)
        self.follows: set[str] = set()
        """Versions of which another target came first: what goes into the model is watched there, once."""
        self.segments = SegmentTable(profile.segments, profile.max_segment_values)
        self.scores = SaidScores(profile.positive_label)

    def is_regression_before(self, sequence: int) -> bool:
        """Whether it was known to be a regression before the record with this number."""
        return self.problem == "regression" and self.decided_at < sequence

    def classification(self, classes: int) -> ResolvedProblem:
        """Say which kind of classification it is, with so many classes."""
        if self.problem in ("binary", "multiclass"):
            return self.problem
        return "binary" if classes <= 2 else "multiclass"

    @property
    def is_undecided(self) -> bool:
        """Whether it may still be a classification or a regression."""
        return self.decided_at == NEVER

    def register(self, value: Scalar, sequence: int, offset: int, *, is_label: bool, scored: bool) -> float:
        """Give the code of a value (a regression: the number), making one for a class that is new.

        `sequence` and `offset`: of the record that holds it; must not fall.
        """
        if self.is_undecided:
            self._consider(value, sequence, offset, is_label=is_label, scored=scored)
        code = self.table[value]
        return self.table.register(value, sequence) if code == UNSEEN else code

    def _consider(self, value: Scalar, sequence: int, offset: int, *, is_label: bool, scored: bool) -> None:
        names = self.table.names
        distinct = len(names) + (class_name(value) not in names)
        found = self._finder.take(value, distinct, offset, is_label=is_label, scored=scored)
        if found is not None:
            self.settle(sequence, regression=found == "regression")

    def settle(self, sequence: int, *, regression: bool) -> None:
        """Say what the problem is, at the record with this number."""
        self.decided_at = sequence
        if isinstance(self.table, NumberTable):
            return
        if not regression:
            self.table.max_classes = max(self.profile.performance.max_classes, len(self.table.names))
            return
        if self.table.names:
            self.coded = Coded([float(int(name)) for name in self.table.names], self._finder.ends)
        self.problem = "regression"
        self.table = NumberTable()

    def snapshot(self) -> "WatchedState":
        """Give it as plain data."""
        return {
            "model_id": self.model_id,
            "problem": self.problem,
            "classes": list(self.table.names),
            "overflowed": self.table.overflowed,
            "segments": self.segments.snapshot(),
            "scores": self.scores.snapshot(),
            "undecided": self._finder.snapshot() if self.is_undecided else None,
            "coded": None if self.coded is None else self.coded.snapshot(),
        }

    def restore(self, state: "WatchedState") -> None:
        """Take over a snapshot."""
        self.problem = state["problem"]
        undecided, coded = state["undecided"], state["coded"]
        self.decided_at = -1 if undecided is None else NEVER
        self.coded = None if coded is None else Coded(coded["numbers"], coded["ends"])
        self.table = self._make_table(state["classes"], state["overflowed"])
        if undecided is not None:
            self._finder.restore(undecided)
            if self.profile.problem != "auto":  # it was said since
                self.problem = self.profile.problem
                self.settle(-1, regression=self.problem == "regression")
        self.segments.restore(state["segments"])
        self.scores.restore(state["scores"])

    def _make_table(self, names: list[str], overflowed: int) -> ClassTable | NumberTable:
        if self.problem == "regression":
            return NumberTable()
        most = self.profile.performance.max_classes
        return ClassTable(MOST_CLASSES if self.is_undecided else max(most, len(names)), names, overflowed)


class WatchedState(TypedDict):
    """The snapshot of a Model."""

    model_id: str
    problem: Problem
    classes: list[str]
    """In the order of their codes."""
    overflowed: int
    """Values of classes beyond the limit."""
    segments: SegmentTableState
    scores: SaidScoresState
    undecided: FinderState | None
    coded: CodedState | None


class RosterState(TypedDict):
    """The snapshot of a Roster."""

    models: list[WatchedState]
    versions: list[tuple[str, str]]
    refused_total: int
    first_refused: int | None
    first_label_refused: int | None


class Roster:
    """Models and versions in the order of their first record, which is the same wherever batches were cut."""

    def __init__(self, settings: CoreSettings) -> None:
        self._settings = settings
        self.models: list[Model] = []
        self.versions: list[VersionKey] = []
        self._model_places: dict[str, int] = {}
        self._version_places: dict[VersionKey, int] = {}
        self._units: dict[str, list[Model]] = {}
        """Model to its units, one for each of its targets."""
        self._leading: dict[tuple[str, str], str] = {}
        """Model and version to the unit that was named first."""
        self._models_of: Int = np.zeros(0, dtype=np.int64)
        """Place of each version's model, of as many as have been asked for."""
        self._unpredicted: set[str] = set()
        """Models that only labels have named so far. They have room of their own: whoever sends labels of models that
        do not exist must not take the places of those that do."""
        self.refused_total = 0
        """Events of models or versions for which there was no room."""
        self.first_refused: int | None = None
        """Number of the first prediction among them in the task."""
        self.first_label_refused: int | None = None
        """Number of the first label among them."""

    def model(self, model_id: str) -> Model | None:
        """Find a model."""
        place = self._model_places.get(model_id)
        return None if place is None else self.models[place]

    def units(self, model_id: str) -> list[Model]:
        """Give the units of a model, in order: itself, where it has one output, else one for each target."""
        return self._units.get(model_id, [])

    def model_of(self, version_place: int) -> Model:
        """Find the model of a version."""
        return self.models[self._model_places[self.versions[version_place].model_id]]

    def model_place(self, model_id: str) -> int:
        """Give the place of a model that is known."""
        return self._model_places[model_id]

    def place_of(self, model_id: str, model_version: str) -> int:
        """Give the place of a version that is watched."""
        return self._version_places[VersionKey(model_id, model_version)]

    def models_of(self, version_places: Int) -> Int:
        """Give the places of versions' models."""
        if len(self._models_of) < len(self.versions):
            known = self.versions[len(self._models_of) :]
            places = [self._model_places[key.model_id] for key in known]
            self._models_of = np.append(self._models_of, np.array(places, dtype=np.int64))
        found: Int = self._models_of[version_places]
        return found

    def version_places(self, events: list[Prediction]) -> list[int | None]:
        """Find the places of the events' versions; None where a version is not watched yet."""
        places = self._version_places
        # A plain tuple hashes and compares as the VersionKey does, and is made in half the time.
        return [places.get((event.model_id, event.model_version)) for event in events]  # type: ignore[call-overload]

    def model_places(self, events: list[Label]) -> list[int | None]:
        """Find the places of the labels' models; None where a model is not known yet."""
        places = self._model_places
        return [places.get(event.model_id) for event in events]

    def add_version(self, key: VersionKey, sequence: int) -> int | None:
        """Give a version, first named by the record with this number, a place; None when there is no room.

        Numbers of a step must not fall, here and in `add_unpredicted`.
        """
        known = self._version_places.get(key)
        if known is not None:
            return known
        # Each model with a prediction has a version, so this bounds how many of those there are as well.
        if len(self.versions) >= self._settings.max_models:
            self.refused_total += 1
            if self.first_refused is None:
                self.first_refused = sequence
            return None
        if key.model_id not in self._model_places and self._has_many_targets(key.model_id):
            return None
        self._unpredicted.discard(key.model_id)
        if key.model_id not in self._model_places:
            self._add_model(key.model_id, sequence)
        return self._place(key)

    def _place(self, key: VersionKey) -> int:
        self._version_places[key] = len(self.versions)
        self.versions.append(key)
        leading = self._leading.setdefault((model_of(key.model_id), key.model_version), key.model_id)
        if leading != key.model_id:
            self.models[self._model_places[key.model_id]].follows.add(key.model_version)
        return len(self.versions) - 1

    def _has_many_targets(self, unit: str) -> bool:
        """Whether there is no room for one more target of its model; if so, count it."""
        model_id, target = split(unit)
        if target is None or len(self.units(model_id)) < self._settings.max_targets:
            return False
        self.refused_total += 1
        return True

    def add_unpredicted(self, model_id: str, sequence: int) -> int | None:
        """Give the model of a label a place, also before its first prediction; None when there is no room."""
        place = self._model_places.get(model_id)
        if place is not None:
            return place
        if len(self._unpredicted) >= self._settings.max_unpredicted_models:
            self.refused_total += 1
            if self.first_label_refused is None:
                self.first_label_refused = sequence
            return None
        if self._has_many_targets(model_id):
            return None
        self._unpredicted.add(model_id)
        return self._add_model(model_id, sequence)

    def _add_model(self, model_id: str, sequence: int) -> int:
        name, target = split(model_id)
        profile, place = self._settings.profile(name), len(self.models)
        if target is not None:
            profile = _of_target(profile)
        self._model_places[model_id] = place
        self.models.append(Model(model_id, place, profile, profile.problem, sequence))
        self._units.setdefault(model_of(model_id), []).append(self.models[-1])
        self.models[-1].label_horizon_ms = self._settings.join.label_horizon_ms
        return place

    def snapshot(self) -> RosterState:
        """Give names and tables as plain data."""
        return {
            "models": [model.snapshot() for model in self.models],
            "versions": [(key.model_id, key.model_version) for key in self.versions],
            "refused_total": self.refused_total,
            "first_refused": self.first_refused,
            "first_label_refused": self.first_label_refused,
        }

    def restore(self, state: RosterState) -> None:
        """Take over a snapshot."""
        self.refused_total = state["refused_total"]
        self.first_refused = state["first_refused"]
        self.first_label_refused = state["first_label_refused"]
        for model in state["models"]:
            self._add_model(model["model_id"], -1)
            self.models[-1].restore(model)
        for model_id, version in state["versions"]:
            self._place(VersionKey(model_id, version))
        self._unpredicted = self._model_places.keys() - {key.model_id for key in self.versions}


def _of_target(profile: ModelProfile) -> ModelProfile:
    """Leave out of a stored reference what is of answers: it is one target's, and does not say whose."""
    data = profile.reference.data
    if data is None:
        return profile
    inputs = {part: data[part] for part in ("version", "model_version", "features", "embeddings") if part in data}
    reference = msgspec.structs.replace(profile.reference, data=inputs)
    return msgspec.structs.replace(profile, reference=reference)
