"""A random forest that is trained, deployed and left alone; fine-tuned and deployed again when a detector says so.

This is what the service watches: a version serves without learning, an alarm asks for a fine-tuned one, and with it
the detector begins anew. `prequential` is the other way, of a model that never stops learning.
"""

from typing import Any, NamedTuple

import numpy as np
from sklearn.ensemble import RandomForestClassifier

from benchmarks.detection_quality.contenders import Contender, made
from benchmarks.detection_quality.datasets import Labelled
from benchmarks.detection_quality.prequential import Course
from benchmarks.detection_quality.streams import Values
from detectors.protocol import Level

TRAINING = 2_000
"""Rows that a version is trained on. Until they are there, those since the estimated change, the old one serves."""
TREES, LEAF = 50, 10
"""Small enough to be trained in a tenth of a second, with leaves that even out 10 % of noise."""
_CHUNK = 500


class Alarm(NamedTuple):
    """An alarm: how many of the values it was given were taken, and how many of the newest lie behind the change."""

    taken: int
    since: int


class Detection:
    """A detector over the errors of one version after the other."""

    def __init__(self, contender: Contender) -> None:
        self._contender = contender
        self.deploy()

    def deploy(self) -> None:
        """Begin anew: another version serves."""
        self._detector = made(self._contender)

    def first_alarm(self, errors: Values) -> Alarm | None:
        """Take errors up to the first alarm. Those that estimate no change give the alarm as its place."""
        progress = self._detector.update_many(1.0 - errors if self._contender.inverted else errors)
        if progress.level is not Level.DRIFT:
            return None
        verdict = self._detector.verdict()
        since = 0 if verdict.change_point is None else verdict.sample_count - verdict.change_point
        return Alarm(progress.consumed, since)


class Schedule:
    """Asks for a model of the last rows every so many events, whatever happens; never, where `interval` is None."""

    def __init__(self, interval: int | None) -> None:
        self._interval = interval
        self._count = 0

    def deploy(self) -> None:
        """Count from here."""
        self._count = 0

    def first_alarm(self, errors: Values) -> Alarm | None:
        """Count errors up to the next round number."""
        if self._interval is None or self._count + len(errors) < self._interval:
            self._count += len(errors)
            return None
        return Alarm(self._interval - self._count, TRAINING)


def run_deployed(stream: Labelled, watcher: Detection | Schedule, *, until: int | None = None) -> Course:
    """Go through the stream once, from the first version's training on: alarms, and the accuracy behind it."""
    rows = np.array([list(row.values()) for row in stream.rows[:until]])
    classes = np.array(stream.classes[:until], dtype=np.float64)
    model = _trained(rows[:TRAINING], classes[:TRAINING])
    alarms: list[int] = []
    wrong, at = 0.0, TRAINING
    while at < len(rows):
        errors = _errors(model, rows[at : at + _CHUNK], classes[at : at + _CHUNK])
        alarm = watcher.first_alarm(errors)
        if alarm is None:
            wrong, at = wrong + float(errors.sum()), at + len(errors)
            continue
        wrong, at = wrong + float(errors[: alarm.taken].sum()), at + alarm.taken
        alarms.append(at - 1)
        ready = min(max(at, at - alarm.since + TRAINING), len(rows))
        wrong += float(_errors(model, rows[at:ready], classes[at:ready]).sum())
        model, at = _trained(rows[ready - TRAINING : ready], classes[ready - TRAINING : ready]), ready
        watcher.deploy()
    return Course(alarms, 1.0 - wrong / (len(rows) - TRAINING))


def _trained(rows: Values, classes: Values) -> Any:
    return RandomForestClassifier(TREES, min_samples_leaf=LEAF, random_state=0).fit(rows, classes)


def _errors(model: Any, rows: Values, classes: Values) -> Values:
    return np.asarray(model.predict(rows) != classes, dtype=np.float64) if len(rows) else np.empty(0)
