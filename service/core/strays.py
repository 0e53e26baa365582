"""Counts records that lie in the wrong place, and tells of them: one incident for each model, input and fault."""

from collections import deque
from collections.abc import Iterator
from typing import Any, Final, NamedTuple, TypedDict

from schemas.outputs import Evidence
from service.core.advice import STRAY_SUBJECTS
from service.core.alerting import AlertPolicy, Transition
from service.core.columns import Int
from service.core.effects import Caused
from service.core.findings import ALL, Finding, Level
from service.core.intake import Lane, Merged, Role
from service.core.layout import inside
from service.core.placement import Stray
from service.core.settings import HOUR_MS, AlertSettings

MAX_MODELS: Final = 1_000
"""Models of which misplaced records are told. Those of further ones are counted together."""
QUIET_MS: Final = HOUR_MS
"""Event time without such a record after which its incident ends."""

_VERSION: Final = 1
_AT_ONCE: Final = AlertSettings(pending_for_ms=0, keep_firing_for_ms=0)
_INPUTS: Final = {Role.CONTROL: "control", Role.PREDICTIONS: "predictions", Role.LABELS: "labels"}


class _Found(NamedTuple):
    """One misplaced record on its way to being told."""

    sequence: int
    time_ms: int
    role: Role
    stray: Stray


class StraysState(TypedDict):
    """The snapshot of a StrayBook."""

    version: int
    counts: list[tuple[str, int, int]]
    """Model, input, misplaced records so far."""
    open: list[tuple[str, int, str, int]]
    """Model, input, fault and the watermark of its last record, of each incident that fires."""
    alerts: dict[str, dict[str, Any]]
    """Of each model with incidents their policy's snapshot; the policy checks it."""


class StrayBook:
    """What is known of misplaced records. All of it is part of the task's state."""

    def __init__(self) -> None:
        self.counts: dict[tuple[str, Role], int] = {}
        """Misplaced records by model and input; model "(all)" where there were too many models."""
        self.alerts: dict[str, AlertPolicy] = {}
        """The incidents about each model."""
        self._open: dict[tuple[str, Role, str], int] = {}
        self._waiting: deque[_Found] = deque()

    def expect(self, merged: Merged, sequence: Int, watermark_ms: Int) -> None:
        """Take in a step's misplaced records; `until` tells of them in their turn."""
        found = [
            _Found(int(sequence[place]), max(int(watermark_ms[place]), 0), role, stray)
            for role, lane in merged.lanes.items()
            for place, stray in _places(merged, role, lane)
        ]
        self._waiting.extend(sorted(found, key=_sequence))

    def until(self, sequence: int | None) -> Iterator[Caused]:
        """Count and tell of what comes before a record; None: of all the rest."""
        while self._waiting and (sequence is None or self._waiting[0].sequence < sequence):
            found = self._waiting.popleft()
            for transition in self._take(found):
                yield Caused(found.sequence, transition.alert)

    def _take(self, found: _Found) -> list[Transition]:
        stray, role = found.stray, found.role
        model_id = stray.model_id
        if model_id not in self.alerts:
            if len(self.alerts) >= MAX_MODELS:
                self.counts[ALL, role] = self.counts.get((ALL, role), 0) + 1
                return []
            self.alerts[model_id] = AlertPolicy(model_id, _AT_ONCE)
        count = self.counts[model_id, role] = self.counts.get((model_id, role), 0) + 1
        cause = (model_id, role, stray.fault)
        known = cause in self._open
        self._open[cause] = max(found.time_ms, self._open.get(cause, 0))
        if known:
            return []
        # The records as they are now; how many there were by then is the evidence.
        finding = _finding(found, count, Level.DRIFT)
        return self.alerts[model_id].advance(finding, ALL)

    def tick(self, now_ms: int, sequence: int) -> Iterator[Caused]:
        """Tell of what is before a record, and end the incidents of which nothing was seen for long."""
        yield from self.until(sequence)
        over = [cause for cause, last_ms in self._open.items() if last_ms + QUIET_MS <= now_ms]
        for model_id, role, fault in over:
            del self._open[model_id, role, fault]
            found = _Found(sequence, now_ms, role, Stray(model_id, fault, ""))  # type: ignore[arg-type]  # of its own
            finding = _finding(found, self.counts[model_id, role], Level.STABLE)
            for transition in self.alerts[model_id].advance(finding, ALL):
                yield Caused(sequence, transition.alert)

    def snapshot(self) -> StraysState:
        """Give it as plain data."""
        return {
            "version": _VERSION,
            "counts": [(model_id, int(role), count) for (model_id, role), count in self.counts.items()],
            "open": [(model_id, int(role), fault, last) for (model_id, role, fault), last in self._open.items()],
            "alerts": {model_id: policy.snapshot() for model_id, policy in self.alerts.items()},
        }

    def restore(self, state: StraysState) -> None:
        """Take over a snapshot."""
        self.counts = {(model_id, Role(role)): count for model_id, role, count in state["counts"]}
        self._open = {(model_id, Role(role), fault): last for model_id, role, fault, last in state["open"]}
        for model_id, alerts in state["alerts"].items():
            self.alerts[model_id] = AlertPolicy(model_id, _AT_ONCE)
            with inside(f"alerts[{model_id!r}]"):
                self.alerts[model_id].restore(alerts)


def _places(merged: Merged, role: Role, lane: Lane) -> list[tuple[int, Stray]]:
    """Give the misplaced records of an input with their rows in merged order."""
    if not lane.strays:
        return []
    rows = (merged.roles == role).nonzero()[0].tolist()
    return [(row, stray) for row, stray in zip(rows, lane.strays, strict=True) if stray is not None]


def _sequence(found: _Found) -> int:
    return found.sequence


def _finding(found: _Found, count: int, level: Level) -> Finding:
    subject = STRAY_SUBJECTS[_INPUTS[found.role], found.stray.fault]
    evidence = Evidence(
        detector="placement", subject=subject, statistic=float(count), threshold=1.0, sample_count=count
    )
    return Finding(
        sequence=found.sequence,
        time_ms=found.time_ms,
        kind="operational",
        subject=subject,
        level=level,
        severity="critical",
        evidence=(evidence,),
        summary=f"its {_INPUTS[found.role]} {found.stray.words}: they do not meet those of its other inputs",
        resolution="no such record for an hour of event time",
    )
