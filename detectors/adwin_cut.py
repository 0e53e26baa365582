"""Where ADWIN's window may be cut: the test of every bucket boundary, for one check and for many at once.

`check` and `check_many` do the same operations in the same order, so that they agree bit for bit.
"""

import math
from typing import NamedTuple

import numpy as np

from detectors.exponential_histogram import Rows, Spans
from detectors.protocol import Values


class CutRule(NamedTuple):
    """When a boundary is tested and how much chance allows: see `ADWIN` for the meaning of each."""

    delta: float
    clock: int
    min_window_length: int
    grace_period: int

    def tests(self, width: float) -> bool:
        """Say whether a window is wide enough: one value has no two parts, and ln ln W needs two."""
        return width > max(1, self.grace_period)

    def log_term(self, width: float) -> float:
        """Give d = ln(2 ln W / delta). By `math.log`: numpy's may differ in the last bit with its input's layout."""
        return math.log(2.0 * math.log(max(width, 2.0)) / self.delta)


class Boundary(NamedTuple):
    """The boundary whose difference in means is largest against what chance allows."""

    statistic: float
    """That ratio. At least 1: a change."""
    newer: float
    """How many values lie behind it."""
    mean: float
    """The mean of those values."""


class Boundaries(NamedTuple):
    """The same for c checks. Shapes (c,)."""

    statistic: Values
    newer: Values
    mean: Values

    def at(self, index: int) -> Boundary:
        """Give what one check found."""
        return Boundary(float(self.statistic[index]), float(self.newer[index]), float(self.mean[index]))


def check(rule: CutRule, rows: Rows, total: float, spread: float, width: float) -> Boundary:
    """Test every boundary of a window in rows of buckets, given its sum, sum of squared deviations and count."""
    best = Boundary(0.0, width, total / width if width else 0.0)
    if not rule.tests(width):
        return best
    shortest, less = float(rule.min_window_length), rule.min_window_length - 1.0
    log_term = rule.log_term(width)
    linear, variance = (2.0 / 3.0) * log_term, spread / width
    older, newer, older_total, newer_total = 0.0, width, 0.0, total
    for row in range(len(rows) - 1, -1, -1):
        size = float(1 << row)
        for part in rows[row]:
            older += size
            newer -= size
            older_total += part
            newer_total -= part
            if older < shortest or newer < shortest:
                continue
            reciprocal = 1.0 / (older - less) + 1.0 / (newer - less)
            chance = math.sqrt(2.0 * reciprocal * variance * log_term) + linear * reciprocal
            mean = newer_total / newer
            ratio = abs(older_total / older - mean) / chance
            if ratio > best.statistic:
                best = Boundary(ratio, newer, mean)
    return best


def check_many(rule: CutRule, spans: Spans, totals: Values, spreads: Values, widths: Values) -> Boundaries:
    """Test every boundary of c windows. Shapes: spans (c, b), the others (c,)."""
    shortest, less = float(rule.min_window_length), rule.min_window_length - 1.0
    older = np.add.accumulate(spans.sizes, axis=1)
    newer = widths[:, None] - older
    older_total = np.add.accumulate(spans.totals, axis=1)
    newer_total = np.subtract.accumulate(np.concatenate((totals[:, None], spans.totals), axis=1), axis=1)[:, 1:]
    wide = np.array([rule.tests(width) for width in widths.tolist()])
    fit = (older >= shortest) & (newer >= shortest) & wide[:, None]
    # Boundaries that are not tested get harmless numbers and then the ratio 0.
    older, newer = np.where(fit, older, shortest), np.where(fit, newer, shortest)
    reciprocal = 1.0 / (older - less) + 1.0 / (newer - less)
    log_term = np.array([rule.log_term(width) for width in widths.tolist()])[:, None]
    chance = np.sqrt(2.0 * reciprocal * (spreads / widths)[:, None] * log_term) + (2.0 / 3.0) * log_term * reciprocal
    mean = newer_total / newer
    ratio = np.where(fit, np.abs(older_total / older - mean) / chance, 0.0)
    rows, best = np.arange(len(widths)), ratio.argmax(axis=1)
    found = ratio[rows, best]
    none = found == 0.0
    return Boundaries(
        found, np.where(none, widths, newer[rows, best]), np.where(none, totals / widths, mean[rows, best])
    )
