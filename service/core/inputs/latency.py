"""How long the model takes to answer, and how often it fails: two rules on blocks of events."""

from typing import Final, TypedDict

import numpy as np

from schemas.outputs import ChangePoint, Evidence
from service.core.columns import Bool, Float, pair
from service.core.findings import Finding, Level
from service.core.inputs.blocks import Block, PendingRows, PendingState, RowTimes
from service.core.inputs.versions import require_version
from service.core.metrics.quantiles import QuantileHistogram, QuantileState
from service.core.settings import LatencySettings

_VERSION = 1

MIN_LATENCIES: Final = 20
"""A block with fewer latencies says nothing about a 95th percentile: one value in 20 lies beyond it."""


class LatencyState(TypedDict):
    """The snapshot of a LatencyMonitor."""

    version: int
    pending: PendingState
    counted: int
    totals: QuantileState
    active: dict[str, bool]


class LatencyMonitor:
    """Watches latency and serving errors of one model version.

    A rule speaks when its level changes: DRIFT with the first block whose 95th percentile (or share of errors) is
    above the limit, STABLE with the first that is not. A limit that a person set is taken at its word, so nothing is
    allowed for chance; the alert policy waits for what lasts.
    """

    def __init__(self, settings: LatencySettings) -> None:
        self._settings = settings
        self.reset()

    def reset(self) -> None:
        """Become as new."""
        self._pending = PendingRows(self._settings.block_events, self._settings.block_events)
        self._totals = QuantileHistogram()
        self._counted = 0
        """Pending rows that are in the totals already."""
        self._active: dict[str, bool] = {"latency": False, "error_rate": False}

    def observe(self, latency_ms: Float, error: Bool, times: RowTimes) -> list[Finding]:
        """Take events in order: latencies (NaN where unknown) and whether the call failed, shape (n,) each."""
        findings: list[Finding] = []
        rows = pair(latency_ms, error.astype(np.float64))
        start = 0
        while start < len(rows):
            end = start + self._pending.room
            block = self._pending.append(rows[start:end], times.part(start, end))
            if block is not None:
                self._totals.add(block.rows[self._counted :, 0])
                self._counted = 0
                self._pending.block_events = self._settings.block_events  # a restored block keeps its own size
                findings += self._judge(block)
            start = end
        return findings

    def _judge(self, block: Block) -> list[Finding]:
        latencies = block.rows[:, 0]
        latencies = latencies[~np.isnan(latencies)]
        findings: list[Finding | None] = []
        limit = self._settings.p95_above_ms
        if limit is not None and len(latencies) >= MIN_LATENCIES:
            p95 = float(np.quantile(latencies, 0.95))
            findings.append(self._apply("latency", block, _evidence("p95_ms", "latency", p95, limit, block)))
        limit = self._settings.error_rate_above
        if limit is not None:
            rate = int(block.rows[:, 1].sum()) / len(block.rows)
            findings.append(self._apply("error_rate", block, _evidence("error_rate", "error_rate", rate, limit, block)))
        return [finding for finding in findings if finding is not None]

    def _apply(self, subject: str, block: Block, evidence: Evidence) -> Finding | None:
        above = evidence.statistic > evidence.threshold
        if above == self._active[subject]:
            return None
        self._active[subject] = above
        saying = _say(evidence, above=above)
        return Finding(
            sequence=block.end.sequence,
            time_ms=block.end.watermark_ms,
            kind="latency",
            subject=subject,
            level=Level.DRIFT if above else Level.STABLE,
            evidence=(evidence,),
            summary=saying,
            change_time_ms=block.start.time_ms if above else None,
            resolution=None if above else saying,
        )

    def percentiles(self) -> dict[str, float | None]:
        """Give p50, p95 and p99 of the latency in milliseconds since the last `begin_interval`, within 1 %."""
        totals = self._totals
        if self._pending.count > self._counted:
            # Aside: who only looks must leave no trace in the state.
            totals = QuantileHistogram()
            totals.merge(self._totals)
            totals.add(self._pending.rows[self._counted :, 0])
        return totals.percentiles()

    def begin_interval(self) -> None:
        """Begin anew with the percentiles. The rules' blocks go on."""
        self._totals.reset()
        self._counted = self._pending.count

    def snapshot(self) -> LatencyState:
        """Give everything that is needed to go on elsewhere."""
        return {
            "version": _VERSION,
            "pending": self._pending.snapshot(),
            "counted": self._counted,
            "totals": self._totals.snapshot(),
            "active": dict(self._active),
        }

    def restore(self, state: LatencyState) -> None:
        """Take over a snapshot. Raises StateError when it is newer than this code."""
        require_version(state, _VERSION, "latency monitor")
        self._pending.restore(state["pending"])
        self._counted = state["counted"]
        self._totals.restore(state["totals"])
        self._active = dict(state["active"])


def _evidence(detector: str, subject: str, statistic: float, threshold: float, block: Block) -> Evidence:
    return Evidence(
        detector=detector,
        subject=subject,
        statistic=statistic,
        threshold=threshold,
        sample_count=len(block.rows),
        change_point=ChangePoint(
            sample_index=block.start.row, event_time_ms=block.start.time_ms, prediction_offset=block.start.offset
        ),
        after=statistic,
    )


def _say(evidence: Evidence, *, above: bool) -> str:
    compared = "above" if above else "not above"
    if evidence.subject == "latency":
        return f"95th percentile of latency {evidence.statistic:.4g} ms, {compared} {evidence.threshold:.4g} ms"
    return f"{evidence.statistic:.3g} of serving calls failed, {compared} {evidence.threshold:.3g}"
