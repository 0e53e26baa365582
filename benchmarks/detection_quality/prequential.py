"""A river model that is tested on each row, then trained with it, and begun anew when a detector says so."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from river.tree import HoeffdingTreeClassifier

from benchmarks.detection_quality.contenders import Contender, made
from benchmarks.detection_quality.datasets import Labelled, Row
from detectors.protocol import Level

MOST_KEPT = 2_000
"""Rows that are kept for fine-tuning: a change that is estimated to be older is cut there."""


class Watcher(Protocol):
    """Says after each error whether the model should be begun anew, and with how many of the last rows."""

    def update(self, error: int) -> int | None:
        """Take an error (1) or a correct prediction (0). None: no alarm; otherwise how many rows to train on."""
        ...


class DetectorWatcher:
    """A detector of ours or river's. Only ours say where the change was; with river's a model begins with nothing."""

    def __init__(self, contender: Contender) -> None:
        self._detector = made(contender)
        self._inverted = contender.inverted

    def update(self, error: int) -> int | None:
        """Give the detector its value; after an alarm rebase it."""
        if self._detector.update(float(1 - error if self._inverted else error)) is not Level.DRIFT:
            return None
        verdict = self._detector.verdict()
        since = 0 if verdict.change_point is None else verdict.sample_count - verdict.change_point
        self._detector.rebase()
        return since


class EveryWatcher:
    """Fires every so many events, whatever happens; never, where `interval` is None."""

    def __init__(self, interval: int | None) -> None:
        self._interval = interval
        self._count = 0

    def update(self, error: int) -> int | None:  # noqa: ARG002 - it does not look
        """Count."""
        self._count += 1
        return 0 if self._interval and self._count % self._interval == 0 else None


class Course(NamedTuple):
    """What came of it."""

    alarms: list[int]
    accuracy: float


def run(stream: Labelled, watcher: Watcher, *, until: int | None = None) -> Course:
    """Go through the stream once. On an alarm a new model is trained on the rows since the estimated change."""
    rows, classes = stream.rows[:until], stream.classes[:until]
    alarms: list[int] = []
    correct = 0
    model = None  # up to the first alarm it is the one that is left alone, whose errors are known
    for index, (row, label, error) in enumerate(zip(rows, classes, _left_alone(stream, until), strict=True)):
        right = not error if model is None else model.predict_one(row) == label
        correct += right
        since = watcher.update(0 if right else 1)
        if since is not None:
            alarms.append(index)
            start = index + 1 - min(since, MOST_KEPT)
            model = _trained(rows[start:index], classes[start:index])
        if model is not None:
            model.learn_one(row, label)
    return Course(alarms, correct / len(rows))


_ERRORS: dict[tuple[str, int | None], bytes] = {}


def _left_alone(stream: Labelled, until: int | None) -> bytes:
    """Give the errors (1) of a model that is never begun anew; kept for the next watcher over the stream."""
    key = (stream.name, until)
    if key not in _ERRORS:
        model = _new()
        found = bytearray()
        for row, label in zip(stream.rows[:until], stream.classes[:until], strict=True):
            found.append(model.predict_one(row) != label)
            model.learn_one(row, label)
        _ERRORS[key] = bytes(found)
    return _ERRORS[key]


def _new() -> Any:
    """Make an untrained model."""
    return HoeffdingTreeClassifier()


def _trained(rows: Sequence[Row], classes: Sequence[int]) -> Any:
    model = _new()
    for row, label in zip(rows, classes, strict=True):
        model.learn_one(row, label)
    return model


class Score(NamedTuple):
    """Alarms against the drifts that are known."""

    true: int
    false: int
    missed: int
    delays: list[int]


def scored(alarms: Sequence[int], drifts: Sequence[int], tolerance: int) -> Score:
    """Count. The first alarm within the tolerance behind a drift is true; every other alarm is false."""
    delays = []
    for drift in drifts:
        hits = [alarm - drift for alarm in alarms if drift <= alarm <= drift + tolerance]
        if hits:
            delays.append(min(hits))
    return Score(len(delays), len(alarms) - len(delays), len(drifts) - len(delays), delays)


WatcherMaker = Callable[[], Watcher]
