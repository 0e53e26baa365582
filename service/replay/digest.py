"""What a score and a report need of a replay's outputs, in bounded memory."""

from collections.abc import Sequence
from typing import Final, NamedTuple, TypeVar

from schemas.outputs import Alert, DeadLetter, FineTuneTrigger, MetricSnapshot, Output

Kept = TypeVar("Kept")

MAX_TRANSITIONS: Final = 200_000
"""Alerts and triggers kept, each. Further ones are counted, and not scored."""
MAX_SNAPSHOTS: Final = 1_200
"""Metric snapshots kept per model version: more than a picture has columns. At the limit every other one goes."""
MAX_SERIES: Final = 200
"""Model versions of which snapshots are kept; those of further ones are counted."""


class Point(NamedTuple):
    """One metric snapshot, as far as it is drawn."""

    time_ms: int
    predictions: int
    outcomes: int
    values: dict[str, dict[str, float | None]]
    """Window to metric to value."""
    drift: dict[str, float | None]


class Series:
    """The snapshots of one model version, evenly thinned."""

    def __init__(self) -> None:
        self.points: list[Point] = []
        self._stride = 1
        self._seen = 0

    def add(self, snapshot: MetricSnapshot) -> None:
        """Take the next one."""
        if self._seen % self._stride == 0:
            values = {window.window: window.values for window in snapshot.windows if window.count or window.predictions}
            counts = (snapshot.predictions_total, snapshot.outcomes_total)
            self.points.append(Point(snapshot.event_time_ms, *counts, values, snapshot.drift))
        self._seen += 1
        if len(self.points) > MAX_SNAPSHOTS:
            self.points = self.points[::2]
            self._stride *= 2


class Digest:
    """Takes outputs in order."""

    def __init__(self) -> None:
        self.alerts: list[Alert] = []
        self.triggers: list[FineTuneTrigger] = []
        self.series: dict[tuple[str, str], Series] = {}
        self.dead_letters: dict[str, int] = {}
        """By reason."""
        self.left_out = 0
        """Outputs beyond a limit."""

    def take(self, outputs: Sequence[Output]) -> None:
        """Take the outputs of a step."""
        for output in outputs:
            if isinstance(output, MetricSnapshot):
                self._snapshot(output)
            elif isinstance(output, DeadLetter):
                self.dead_letters[output.reason] = self.dead_letters.get(output.reason, 0) + 1
            elif isinstance(output, Alert):
                self._keep(self.alerts, output)
            else:
                self._keep(self.triggers, output)

    def _keep(self, kept: list[Kept], output: Kept) -> None:
        if len(kept) < MAX_TRANSITIONS:
            kept.append(output)
        else:
            self.left_out += 1

    def _snapshot(self, snapshot: MetricSnapshot) -> None:
        if snapshot.segment is not None:
            return
        key = (snapshot.model_id, snapshot.model_version)
        series = self.series.get(key)
        if series is None and len(self.series) < MAX_SERIES:
            series = self.series[key] = Series()
        if series is None:
            self.left_out += 1
        else:
            series.add(snapshot)
