"""What a policy of fine-tuning would have cost and saved.

A replay trains nothing, so what is saved is an estimate, the same for all policies: a fine-tune that has at least
`min_labels` outcomes of the new behaviour brings the loss back to what it was before the first change, until the next
change; one that has fewer changes nothing. What is saved is the loss above that level from there on. The changes are
the true ones where the truth is known, else those that the monitor estimated. A change is a moment of predictions:
outcomes belong to it by when their prediction was made, not by when their label came; a fine-tune is a moment of the
watermark.
"""

from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import msgspec
import numpy as np

from service.core.columns import Int
from service.replay.timeline import Losses, Timeline
from service.replay.trained import Triggered


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """What a policy costs and saves."""

    fine_tunes: int
    labels_per_fine_tune: float | None = None
    """Mean number of outcomes that each had to learn from: since the change, of baselines since their last one too."""
    loss_saved: float | None = None
    """Estimated sum of losses that would not have been: of classes, wrong answers. Null where no change is known."""
    loss_excess: float | None = None
    """All that could have been saved: the loss above the level before the first change."""


class FineTunes(NamedTuple):
    """When a policy trained, and when the world changed."""

    times_ms: list[int]
    changes_ms: list[int]
    labels: list[int] | None = None
    """How many outcomes each had to learn from, where that is known."""


class Policy(NamedTuple):
    """A policy that looks at nothing: `alarms` of them, evenly spaced over `events`, and what it costs."""

    name: str
    alarms: int
    events: int
    cost: Cost

    def event(self, number: int) -> int:
        """Say at which event an alarm was, by its number from 0."""
        return number if self.alarms == self.events else (number + 1) * self.events // (self.alarms + 1)

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Give the numbers of the first alarm at or behind an event, and of the first at or behind another."""
        first, last = (bisect_left(range(self.alarms), edge, key=self.event) for edge in (start, end))
        return first, max(first, last)


def fine_tunes_of(triggers: Sequence[Triggered], changes_ms: list[int] | None) -> FineTunes:
    """Give the monitor's own. Where the truth is not known, the changes are those that its triggers name."""
    if changes_ms is None:
        changes_ms = sorted({trigger.change_ms for trigger in triggers if trigger.change_ms is not None})
    return FineTunes([trigger.time_ms for trigger in triggers], changes_ms, [trigger.labels for trigger in triggers])


def cost_of(tunes: FineTunes, losses: Losses, min_labels: int) -> Cost:
    """Price a policy by the rule above."""
    labels = _labels(tunes, losses) if tunes.labels is None else tunes.labels
    mean = float(np.mean(labels)) if labels else None
    if not tunes.changes_ms or not len(losses.outcomes):
        return Cost(fine_tunes=len(tunes.times_ms), labels_per_fine_tune=mean)
    changes = np.searchsorted(losses.prediction_ms, tunes.changes_ms).tolist()
    before = changes[0]
    usual = float(losses.total[:before].sum() / losses.outcomes[:before].sum()) if before else 0.0
    above = losses.total - usual * losses.outcomes
    edges = [*changes, len(above)]
    saved = excess = 0.0
    for first, last in pairwise(edges):
        start = _effective(tunes.times_ms, losses, first, last, min_labels)
        excess += max(float(above[first:last].sum()), 0.0)
        saved += max(float(above[start:last].sum()), 0.0)
    return Cost(
        fine_tunes=len(tunes.times_ms),
        labels_per_fine_tune=mean,
        loss_saved=saved,
        loss_excess=max(excess, saved),
    )


def _effective(times_ms: Sequence[int], losses: Losses, first: int, last: int, min_labels: int) -> int:
    """Find the row from which the first fine-tune with enough labels of this stretch works; `last`: there is none."""
    had = np.cumsum(losses.outcomes[first:last])
    for row in np.searchsorted(losses.watermark_ms, times_ms, side="right").tolist():
        if first < row <= last and had[row - first - 1] >= min_labels:
            return int(row)
    return last


def _labels(tunes: FineTunes, losses: Losses) -> list[int]:
    """Count the outcomes since the last change or the last fine-tune, whichever was later."""
    had = np.concatenate([[0], np.cumsum(losses.outcomes)])
    changes = np.searchsorted(losses.prediction_ms, tunes.changes_ms)
    trained = np.searchsorted(losses.watermark_ms, tunes.times_ms, side="right")
    edges = np.sort(np.concatenate([[0], changes, trained]).astype(np.int64))
    since = edges[np.maximum(np.searchsorted(edges, trained) - 1, 0)]
    counts: list[int] = (had[trained] - had[since]).tolist()
    return counts


def policies(tunes: FineTunes, timeline: Timeline, min_labels: int, alarms: int) -> list[Policy]:
    """Give the baselines.

    always: alarms at every event, and trains whenever min_labels outcomes are new. never: does neither. schedule: as
    many alarms and fine-tunes as the monitor made (at least one), evenly spaced.
    """
    losses = timeline.losses
    had = np.cumsum(losses.outcomes)
    outcomes = int(had[-1]) if len(had) else 0
    often = _at(had, losses, np.arange(min_labels, outcomes + 1, min_labels))
    count = max(len(tunes.times_ms), 1)
    evenly = _at(had, losses, np.arange(1, count + 1) * outcomes // (count + 1))

    def cost(times_ms: list[int]) -> Cost:
        return cost_of(FineTunes(times_ms, tunes.changes_ms), losses, min_labels)

    return [
        Policy("always", timeline.events, timeline.events, cost(often)),
        Policy("never", 0, timeline.events, cost([])),
        Policy("schedule", max(alarms, 1), timeline.events, cost(evenly)),
    ]


def _at(had: Int, losses: Losses, counts: Int) -> list[int]:
    """Say when so many outcomes had come."""
    rows = np.searchsorted(had, counts)
    times: list[int] = losses.watermark_ms[rows[rows < len(had)]].tolist()
    return times
