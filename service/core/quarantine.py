"""Models at which the core raises, and single records: kept away from everything else, counted, told.

A model in quarantine has no monitors. Its records become dead letters before anything looks at them; a `reset_monitor`
of all its versions lets it out, and its monitors begin anew.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple, TypedDict

import msgspec

from detectors.protocol import State
from schemas.events import Control, ResetMonitor
from schemas.outputs import DeadLetter
from schemas.rejection import Rejection
from service.core.advice import QUARANTINE_SUBJECT
from service.core.alerting import AlertPolicy, Transition
from service.core.columns import Int
from service.core.dead_letters import from_rejected, unknown_model
from service.core.decode import Rejected
from service.core.findings import ALL, Finding, Level
from service.core.intake import Lane, Merged, Role
from service.core.prepare import ControlRow, TaskTopics
from service.core.settings import AlertSettings
from service.core.units import model_of
from service.core.verdicts import Isolate, Quarantine, Verdict

MAX_HELD: Final = 100
"""Models in quarantine at a time. Where more fail the fault is hardly theirs: a person must decide."""

STRIKES: Final = 3
"""Records of one model in a row, of one input, that were isolated: then it is the model, and not its records."""

MAX_STRUCK: Final = 1_000
"""Models and inputs whose isolated records are counted. Beyond it the one struck first is forgotten."""

HELD: Final = "the model is in quarantine"
"""Why its other incidents end."""

_VERSION: Final = 1
_AT_ONCE: Final = AlertSettings(pending_for_ms=0, keep_firing_for_ms=0)


class Mark(NamedTuple):
    """Where a step begins: what an alert says of when and since where."""

    sequence: int
    time_ms: int
    where: str
    """The first record that is refused, as topic[partition]@offset."""


def mark_of(merged: Merged, sequence: int, watermark_ms: int, topics: TaskTopics) -> Mark:
    """Describe the first record of a step."""
    role = Role(int(merged.roles[0]))
    where = f"{topics.of(role)}[{topics.partition}]@{int(merged.lanes[role].offsets[0])}"
    return Mark(sequence, max(watermark_ms, 0), where)


class Held(msgspec.Struct):
    """A model in quarantine."""

    why: str
    since: str
    """The record before which it began, as topic[partition]@offset."""
    since_ms: int
    """Watermark there."""
    records: int
    """Dead letters since then."""
    alerts: State


class Strikes(msgspec.Struct):
    """Records of one model and input that were isolated in a row."""

    count: int
    progress: int
    """How many of its records the model had taken in then: where it took in more, the row has ended."""


class QuarantineState(TypedDict):
    """The snapshot of a QuarantineBook."""

    version: int
    held: dict[str, tuple[str, str, int, int, dict[str, Any]]]
    """By model the fields of a Held."""
    strikes: list[tuple[str, int, int, int]]
    """Model, input, records isolated in a row, records that were taken in."""


class QuarantineBook:
    """Who is kept away. All of it is part of the task's state."""

    def __init__(self) -> None:
        self.held: dict[str, Held] = {}
        self.strikes: dict[tuple[str, int], Strikes] = {}

    # ---------------------------------------------------------------------------------------------- verdicts

    def hold(self, verdict: Quarantine, mark: Mark) -> list[Transition]:
        """Take a model in; give the alert that says so. Its monitors are the caller's to drop."""
        alerts = AlertPolicy(verdict.model_id, _AT_ONCE)
        finding = Finding(
            sequence=mark.sequence,
            time_ms=mark.time_ms,
            kind="operational",
            subject=QUARANTINE_SUBJECT,
            level=Level.DRIFT,
            severity="critical",
            summary=f"its monitors fail ({verdict.why}) and were dropped; dead letters since {mark.where}",
        )
        transitions = alerts.advance(finding, ALL)
        self.held[verdict.model_id] = Held(verdict.why, mark.where, mark.time_ms, 0, alerts.snapshot())
        for key in [key for key in self.strikes if key[0] == verdict.model_id]:
            del self.strikes[key]
        return transitions

    def strike(self, verdict: Isolate, progress: int) -> None:
        """Count a record that is isolated; `progress`: how many records of its input its model has taken in."""
        if verdict.model_id is None or verdict.role == Role.CONTROL:
            return
        key = (verdict.model_id, verdict.role)
        before = self.strikes.pop(key, None)
        in_a_row = before.count if before is not None and before.progress == progress else 0
        self.strikes[key] = Strikes(in_a_row + 1, progress)
        while len(self.strikes) > MAX_STRUCK:
            del self.strikes[next(iter(self.strikes))]

    def in_a_row(self, model_id: str, role: int, progress: int) -> int:
        """Say how many of a model's records of one input were isolated with none between them that was taken in."""
        found = self.strikes.get((model_id, role))
        return found.count if found is not None and found.progress == progress else 0

    def released_by(self, event: Control, time_ms: int) -> list[Transition]:
        """Let out whom a command lets out: all units of a model; give the ends of their alerts."""
        ended: list[Transition] = []
        for unit in self._freed_by(event):
            alerts = AlertPolicy(unit, _AT_ONCE)
            alerts.restore(self.held.pop(unit).alerts)
            ended += alerts.withdraw(None, "the monitors were reset", time_ms)
        return ended

    def _freed_by(self, event: object) -> list[str]:
        if not isinstance(event, ResetMonitor) or event.model_version is not None:
            return []
        return [unit for unit in self.held if model_of(unit) == event.model_id]

    # --------------------------------------------------------------------------------------------- screening

    def screened(self, merged: Merged, verdicts: Iterable[Verdict]) -> Merged:
        """Put dead letters in the place of records that are kept away.

        Those behind a command that lets their model out are not: but it is still in when the step begins, for timers
        may come before the command.
        """
        refused: dict[Role, dict[int, Rejected]] = {role: {} for role in Role}
        for verdict in verdicts:
            if not isinstance(verdict, Isolate):
                continue
            row = _row_of(merged.lanes[Role(verdict.role)], verdict.offset)
            refused[Role(verdict.role)][row] = _isolated(verdict)
        freed = self._releases(merged, refused[Role.CONTROL]) if self.held else {}
        if self.held:
            for role in Role:
                self._refuse_held(merged, role, freed, refused[role])
        lanes = {role: _without(merged.lanes[role], rows) for role, rows in refused.items()}
        return merged._replace(lanes=lanes)

    def _releases(self, merged: Merged, refused: Mapping[int, Rejected]) -> dict[str, int]:
        """Find the first command that lets each model out, by its row in merged order."""
        freed: dict[str, int] = {}
        rows = _merged_rows(merged, Role.CONTROL)
        for at, event in enumerate(merged.lanes[Role.CONTROL].events):
            for unit in self._freed_by(event) if at not in refused else ():
                freed.setdefault(unit, int(rows[at]))
        return freed

    def _refuse_held(self, merged: Merged, role: Role, freed: Mapping[str, int], refused: dict[int, Rejected]) -> None:
        rows: Int | None = None
        for at, event in enumerate(merged.lanes[role].events):
            if isinstance(event, Rejected) or event.model_id not in self.held:
                continue
            rows = _merged_rows(merged, role) if rows is None else rows
            if event.model_id in freed and rows[at] >= freed[event.model_id]:
                continue
            refused.setdefault(at, _quarantined(event.model_id))
            self.held[event.model_id].records += 1

    def unreached(self, row: ControlRow, topics: TaskTopics) -> DeadLetter:
        """Make the dead letter of a command that reaches nobody: its model is not known, or all of it in quarantine."""
        if all(model_of(unit) != row.event.model_id for unit in self.held):
            return unknown_model(row.event, topics.control, topics.partition, row.offset)
        rejected = _quarantined(row.event.model_id)
        return from_rejected(rejected, topics.control, topics.partition, row.offset, row.event.event_time_ms)

    # ------------------------------------------------------------------------------------------------- state

    def snapshot(self) -> QuarantineState:
        """Give it as plain data."""
        return {
            "version": _VERSION,
            "held": {
                model_id: (held.why, held.since, held.since_ms, held.records, held.alerts)
                for model_id, held in self.held.items()
            },
            "strikes": [(*key, strikes.count, strikes.progress) for key, strikes in self.strikes.items()],
        }

    def restore(self, state: QuarantineState) -> None:
        """Take over a snapshot."""
        self.held = {model_id: Held(*held) for model_id, held in state["held"].items()}
        self.strikes = {
            (model_id, role): Strikes(count, progress) for model_id, role, count, progress in state["strikes"]
        }


def _row_of(lane: Lane, offset: int) -> int:
    found = [row for row, at in enumerate(lane.offsets.tolist()) if at == offset]
    if not found:
        raise ValueError(f"the record at offset {offset}, which was isolated, is not in the step that it belongs to")
    return found[0]


def _merged_rows(merged: Merged, role: Role) -> Int:
    """Give the row in merged order of each record of a lane."""
    rows: Int = (merged.roles == role).nonzero()[0]
    return rows


def _without(lane: Lane, refused: Mapping[int, Rejected]) -> Lane:
    if not refused:
        return lane
    events, times_ms = list(lane.events), lane.times_ms.copy()
    for row, rejected in refused.items():
        events[row] = rejected
        times_ms[row] = -1
    return lane._replace(events=events, times_ms=times_ms)


def _isolated(verdict: Isolate) -> Rejected:
    message = f"$: the service fails at this record, again after a restart: {verdict.why}"
    return Rejected(Rejection(0, "isolated", message, "$", verdict.model_id), b"", 0)


def _quarantined(model_id: str) -> Rejected:
    message = "$.model_id: the model is in quarantine; send reset_monitor to watch it again"
    return Rejected(Rejection(0, "quarantined", message, "$.model_id", model_id), b"", 0)
