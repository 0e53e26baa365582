"""What a task did since its last commit, and when the next one is due. Knows no log and no clock."""

import math

from service.core.effects import StepResult
from service.core.intake import Positions
from service.core.verdicts import Verdict
from service.runtime.changelog import Cut
from service.runtime.outbox import Outbox
from service.runtime.settings import RuntimeSettings


class Ledger:
    """Outputs and step boundaries that wait for their commit. Times are seconds of any steady clock."""

    def __init__(
        self, settings: RuntimeSettings, outbox: Outbox, positions: Positions, number: int, now: float
    ) -> None:
        self._settings = settings
        self.outbox = outbox
        self.number = number
        """Of the last commit."""
        self._start = positions
        self._steps: list[Positions] = []
        self._verdicts: tuple[Verdict, ...] = ()
        self.records = 0
        """Taken since the last commit."""
        self._last_forced = True
        self._committed_at = self._snapshot_at = now
        self._moved_since_snapshot = False
        self._worked_s = 0.0

    @property
    def start(self) -> Positions:
        """Where the last commit ended."""
        return self._start

    def record(self, result: StepResult, took_s: float, verdicts: tuple[Verdict, ...] = ()) -> None:
        """Take in one step's outputs and boundary, and how long it took.

        `verdicts`: of the first step since the last commit, if any.
        """
        self.outbox.add(result.outputs)
        self._verdicts += verdicts
        self.records += result.records
        self._worked_s += took_s
        # A step that event time alone cut needs no boundary of its own: merged with the next it gives the same order.
        if self._steps and not self._last_forced:
            self._steps[-1] = result.end
        else:
            self._steps.append(result.end)
        self._last_forced = result.forced

    def catch_up_snapshot(self) -> None:
        """Let a snapshot be due at once: cuts were repeated, and the next owner should not have to.

        Else a service that never lives as long as `snapshot_interval_ms` repeats more at each start, for ever.
        """
        self._moved_since_snapshot = True
        self._snapshot_at = -math.inf

    def due(self, now: float) -> bool:
        """Say whether to commit now."""
        age_ms = (now - self._committed_at) * 1000
        if not self._steps:
            return self._moved_since_snapshot and self.snapshot_due(now)
        if self.outbox.urgent and age_ms >= self._settings.urgent_commit_interval_ms:
            return True
        return age_ms >= self._settings.commit_interval_ms or self.outbox.size_bytes >= self._settings.max_pending_bytes

    def snapshot_due(self, now: float) -> bool:
        """Say whether the next commit carries a snapshot: one is old, or much would have to be repeated."""
        age_ms, worked_ms = (now - self._snapshot_at) * 1000, self._worked_s * 1000
        return age_ms >= self._settings.snapshot_interval_ms or worked_ms >= self._settings.max_repeat_ms

    @property
    def settled(self) -> bool:
        """Whether all steps so far are committed."""
        return not self._steps

    @property
    def unsaved(self) -> bool:
        """Whether anything happened that a snapshot does not hold."""
        return bool(self._steps) or self._moved_since_snapshot

    def cut(self, watermark_ms: int) -> Cut:
        """Describe what the next commit covers."""
        return Cut(self.number + 1, self._start, tuple(self._steps), watermark_ms, self._verdicts)

    def committed(self, cut: Cut, now: float, *, snapshot: bool) -> None:
        """Start afresh behind a cut that the log has."""
        self.number = cut.number
        self._start = cut.end
        self._moved_since_snapshot = not snapshot
        self._steps = []
        self._verdicts = ()
        self.records = 0
        self._last_forced = True
        self._committed_at = now
        if snapshot:
            self._snapshot_at = now
            self._worked_s = 0.0
