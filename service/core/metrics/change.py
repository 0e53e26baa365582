"""Where a change of the loss lies among the predictions, told from outcomes in the order in which labels came."""

from typing import NamedTuple

import numpy as np

from service.core.columns import Float, Int


class ChangedAt(NamedTuple):
    """The first prediction after a change."""

    time_ms: int
    """Its event time."""
    offset: int
    """Its offset."""


def first_changed(split: int, time_ms: Int, offset: Int, losses: Float) -> ChangedAt:
    """Find the first prediction after a change that was found at row `split` of outcomes in order of arrival.

    Columns of shape (n,), 0 <= split < n: event time and offset of the prediction, loss (NaN where it has none).

    Where labels come in the order of their predictions it is the row's own. Where they come mixed (some late, some in
    shuffled batches), the outcomes about the row, as many before it as behind, are put into the order of their
    predictions. Among them it is the place that least squares give for a step from the mean loss before the row to
    that behind it: the minimum of the running sum of the losses less the middle of the two.
    """
    if not (time_ms[1:] < time_ms[:-1]).any():
        return ChangedAt(int(time_ms[split]), int(offset[split]))
    known = ~np.isnan(losses)
    before, after = losses[:split][known[:split]], losses[split:][known[split:]]
    first = max(0, 2 * split - len(losses))
    order = np.lexsort((offset[first:], time_ms[first:])) + first
    place = len(order) - (len(losses) - split)
    if len(before) and len(after) and np.mean(before) < np.mean(after):
        middle = (np.mean(before) + np.mean(after)) / 2
        sums = np.cumsum(np.where(known[order], losses[order] - middle, 0.0))
        place = int(np.argmin(sums)) + 1 if sums.min() < 0.0 else 0
    row = int(order[min(place, len(order) - 1)])
    return ChangedAt(int(time_ms[row]), int(offset[row]))
