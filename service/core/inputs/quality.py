"""Data quality: missing values, wrong types, numbers out of range, unseen categories, new features.

Each is a rate per feature and block, held against the rate in the reference window. A rate is an alert when it is
above the reference's by more than `max_rate_increase` and chance cannot explain it (`rates.alert_counts`). The
error budget is the model's: block_events / expected_events_between_false_incidents per block, shared by all rates of
all features (Bonferroni), which holds under any dependence between features.
"""

from collections.abc import Mapping
from typing import Final, TypedDict

import numpy as np

from schemas.outputs import ChangePoint, Evidence, FeatureContribution
from service.core.advice import figure
from service.core.classes import OTHER
from service.core.columns import Bool, Float, Int
from service.core.findings import Finding, Level
from service.core.inputs.blocks import Block
from service.core.inputs.levels import Schema
from service.core.inputs.quality_reference import (
    PROBLEMS,
    QualityReferenceState,
    ReferenceQuality,
    count_problems,
    learn_ranges,
    reference_from_state,
    reference_to_state,
)
from service.core.inputs.rates import alert_counts
from service.core.inputs.versions import require_version
from service.core.settings import DataQualitySettings

_VERSION = 1

_SAYINGS: Final = {
    "missing": "missing values in",
    "wrong_type": "values of the wrong type in",
    "out_of_range": "numbers out of range in",
    "unseen": "unseen categories in",
    "new_feature": "features that the reference did not have:",
}
TOP_FEATURES = 10
"""Features named in one piece of evidence; a person reads no more."""

MOSTLY = 0.5
"""A feature that is missing, of the wrong type, out of range or unseen in more of the events than this makes the
finding critical."""
_MOSTLY = "mostly "
"""Before the name of such a problem, in what is known already: when it becomes one, it is told again."""


class QualityState(TypedDict):
    """The snapshot of a QualityMonitor; `last`: int64, little-endian."""

    version: int
    block_events: int
    reference: QualityReferenceState | None
    last: bytes
    active: list[tuple[str, str]]


class QualityMonitor:
    """Watches the quality of one model version's features, block by block. One cause: all problems of all features."""

    def __init__(
        self, settings: DataQualitySettings, block_events: int, expected_events: float, subject: str = "features"
    ) -> None:
        self._subject = subject
        self._settings = settings
        self._block_events = block_events
        self._expected_events = expected_events
        self.reference: ReferenceQuality | None = None
        self._known_alert_counts: Int | None = None
        self._last: Int = np.empty((len(PROBLEMS), 0), np.int64)
        self._active: set[tuple[str, str]] = set()

    def learn(self, rows: Float, schema: Schema) -> None:
        """Take the reference window: rows (n, F), n > 0."""
        columns = range(rows.shape[1])
        categories = [len(schema.categories(column)) if schema.is_categorical(column) else None for column in columns]
        low, high = learn_ranges(rows, [count is not None for count in categories], schema.names, self._settings)
        limits = np.array([np.inf if count is None else count for count in categories], dtype=np.float64)
        counts = count_problems(rows, low, high, limits)
        self.adopt(ReferenceQuality(counts, len(rows), low, high, limits))

    def adopt(self, reference: ReferenceQuality) -> None:
        """Watch against a given reference."""
        self.reference = reference
        self._known_alert_counts = None
        self._last = np.zeros((len(PROBLEMS), 0), np.int64)
        self._active = set()

    @property
    def _alert_counts(self) -> Int:
        """From which count on each problem is an alert; found when the first block asks, for a restore has no time."""
        if self._known_alert_counts is None:
            assert self.reference is not None  # noqa: S101  # a block is judged against one
            counts = self.reference.counts
            self._known_alert_counts = alert_counts(
                counts,
                self.reference.total,
                self._block_events,
                increase=self._settings.max_rate_increase,
                error=min(self._block_events / self._expected_events, 0.5) / max(counts.size, 1),
            )
        return self._known_alert_counts

    def observe(self, block: Block, schema: Schema, wrong: Mapping[str, str] | None = None) -> list[Finding]:
        """Judge one whole block. The columns behind the reference's are new features.

        `wrong`: of each feature a value of the wrong type in this block, as text.
        """
        if self.reference is None or not self._settings.enabled:
            return []
        counts, alerts = self._count(block.rows)
        self._last = counts
        exceeded = (counts >= alerts) & schema.wanted[: counts.shape[1]]
        if not exceeded.any():
            return self._settle(block)
        found = {(PROBLEMS[problem], schema.names[feature]) for problem, feature in np.argwhere(exceeded).tolist()}
        mostly = exceeded[:4] & (counts[:4] > MOSTLY * len(block.rows))
        found |= {(_MOSTLY + PROBLEMS[row], schema.names[feature]) for row, feature in np.argwhere(mostly).tolist()}
        if found <= self._active:
            return []
        self._active |= found
        evidence = self._all_evidence(block, schema, exceeded, alerts)
        words = [_saying(item, self._example(item, block, schema, wrong or {})) for item in evidence]
        return [self._finding(block, evidence, "; ".join(words), critical=bool(mostly.any()))]

    def _count(self, rows: Float) -> tuple[Int, Int]:
        """Count problems, and say from which counts on each is an alert: (5, width) both."""
        low, high, categories = self._limits()
        watched = len(low)
        counts = count_problems(rows[:, :watched], low, high, categories)
        alerts = self._alert_counts
        new = rows.shape[1] - watched
        if new:
            present = np.zeros((len(PROBLEMS), new), np.int64)
            present[-1] = len(rows) - np.isnan(rows[:, watched:]).sum(axis=0)
            never = np.full((len(PROBLEMS), new), len(rows) + 1, np.int64)
            # The reference had it in none of its events: as if it were one more rate with a count of 0.
            never[-1] = self._alert_count_of_none()
            counts, alerts = np.hstack([counts, present]), np.hstack([alerts, never])
        return counts, alerts

    def _limits(self) -> tuple[Float, Float, Float]:
        assert self.reference is not None  # noqa: S101  # observe has looked
        return self.reference.low, self.reference.high, self.reference.categories

    def _alert_count_of_none(self) -> int:
        if self._alert_counts.size:
            return int(self._alert_counts[-1, 0])
        return self._block_events  # a reference without features: a new one must be in the whole block

    def _settle(self, block: Block) -> list[Finding]:
        if not self._active:
            return []
        self._active = set()
        reason = f"all rates of problems were back near the reference's in {len(block.rows)} events"
        return [
            Finding(
                sequence=block.end.sequence,
                time_ms=block.end.watermark_ms,
                kind="data_quality",
                subject=self._subject,
                level=Level.STABLE,
                resolution=reason,
            )
        ]

    def _all_evidence(self, block: Block, schema: Schema, exceeded: Bool, alerts: Int) -> tuple[Evidence, ...]:
        return tuple(
            self._evidence(problem, block, schema, np.flatnonzero(exceeded[problem]), alerts)
            for problem in range(len(PROBLEMS))
            if exceeded[problem].any()
        )

    def _finding(self, block: Block, evidence: tuple[Evidence, ...], summary: str, *, critical: bool) -> Finding:
        return Finding(
            sequence=block.end.sequence,
            time_ms=block.end.watermark_ms,
            kind="data_quality",
            subject=self._subject,
            level=Level.DRIFT,
            severity="critical" if critical else "warning",
            evidence=evidence,
            summary=summary,
            change_time_ms=block.start.time_ms,
        )

    def _example(self, item: Evidence, block: Block, schema: Schema, wrong: Mapping[str, str]) -> str:
        """Say of the worst feature what was expected, and one value that came; empty where that says nothing."""
        name = item.features[0].feature
        column = schema.names.index(name)
        if item.detector == "wrong_type":
            expected = "text" if schema.is_categorical(column) else "a number"
            return f"expected {expected}, got {wrong[name]}" if name in wrong else ""
        low, high, categories = self._limits()
        if item.detector == "out_of_range":
            values = block.rows[:, column]
            first = values[np.isfinite(values) & ((values < low[column]) | (values > high[column]))][0]
            return f"expected {figure(low[column])} to {figure(high[column])}, got {figure(float(first))}"
        if item.detector == "unseen":
            values = block.rows[:, column]
            code = int(values[np.isfinite(values) & (values >= categories[column])][0])
            names = schema.categories(column)
            known = ", ".join(figure(name) for name in names[: min(int(categories[column]), 3)])
            more = f" and {int(categories[column]) - 3} more" if categories[column] > 3 else ""
            return f"expected {known or 'none'}{more}, got {figure(names[code] if code < len(names) else OTHER)}"
        return ""

    def _evidence(self, problem: int, block: Block, schema: Schema, features: Int, alerts: Int) -> Evidence:
        size = len(block.rows)
        ranked = sorted(features.tolist(), key=lambda feature: (-int(self._last[problem, feature]), feature))
        contributions = tuple(
            FeatureContribution(
                feature=schema.names[feature],
                statistic=int(self._last[problem, feature]) / size,
                threshold=int(alerts[problem, feature]) / size,
                before=self._reference_rate(problem, feature),
                after=int(self._last[problem, feature]) / size,
            )
            for feature in ranked[:TOP_FEATURES]
        )
        return Evidence(
            detector=PROBLEMS[problem],
            subject=self._subject,
            statistic=contributions[0].statistic,
            threshold=contributions[0].threshold,
            sample_count=size,
            reference_count=self.reference.total if self.reference else None,
            change_point=ChangePoint(
                sample_index=block.start.row,
                event_time_ms=block.start.time_ms,
                prediction_offset=block.start.offset,
            ),
            before=contributions[0].before,
            after=contributions[0].after,
            features=contributions,
        )

    def _reference_rate(self, problem: int, feature: int) -> float:
        reference = self.reference
        if reference is None or feature >= reference.counts.shape[1]:
            return 0.0
        return int(reference.counts[problem, feature]) / reference.total

    def rates(self, schema: Schema) -> dict[str, dict[str, float]]:
        """Give each feature's rates in the last whole block; empty before there is one."""
        counts = self._last
        size = self._block_events
        return {
            schema.names[feature]: {
                problem: int(counts[row, feature]) / size for row, problem in enumerate(PROBLEMS[:4])
            }
            for feature in range(counts.shape[1])
            if schema.wanted[feature]
        }

    @property
    def size_bytes(self) -> int:
        """Bytes of the reference's rates and limits, and of the last block's."""
        return 0 if self.reference is None else 4 * self.reference.counts.nbytes

    def snapshot(self) -> QualityState:
        """Give reference and current findings as plain data."""
        reference = self.reference
        return {
            "version": _VERSION,
            "block_events": self._block_events,
            "reference": None if reference is None else reference_to_state(reference),
            "last": self._last.astype("<i8").tobytes(),
            "active": sorted(self._active),
        }

    def restore(self, state: QualityState) -> None:
        """Take over a snapshot. Raises StateError when it is newer than this code."""
        require_version(state, _VERSION, "quality monitor")
        self._block_events = state["block_events"]
        if state["reference"] is not None:
            self.adopt(reference_from_state(state["reference"]))
        else:
            self.reference = None
        self._last = np.frombuffer(state["last"], "<i8").astype(np.int64).reshape(len(PROBLEMS), -1)
        self._active = {(problem, name) for problem, name in state["active"]}


def _saying(item: Evidence, example: str) -> str:
    shares = [f"{feature.feature} ({feature.statistic:.1%})" for feature in item.features[:3]]
    if example:
        shares[0] = f"{shares[0][:-1]}: {example})"
    more = f" and {len(item.features) - 3} more" if len(item.features) > 3 else ""
    return f"{_SAYINGS[item.detector]} {', '.join(shares)}{more}"
