"""The exponential histogram of ADWIN: buckets of 1, 2, 4, ... values, at most a few of each size.

Datar, Gionis, Indyk and Motwani 2002. Row r holds buckets of 2^r values, oldest first. Where a row would hold one
bucket more than it may, its two oldest become one of the next row. Which buckets merge depends on counts alone and
never on values, so the rows at every later check can be written down for a whole column at once: all buckets that a row
ever holds, in order, are its tape, and at a check it holds a span of the tape.
"""

from typing import NamedTuple

import numpy as np

from detectors.columns import Indices
from detectors.protocol import Values

Tapes = list[Values]
Rows = list[list[float]]


class Spans(NamedTuple):
    """The buckets at c checks, at most b of them, oldest first; where there are fewer, empty ones of size 0."""

    tapes: Tapes
    spread_tapes: Tapes
    starts: Indices
    """Shape (rows, c): where on its tape a row's span starts at a check."""
    ends: Indices
    sizes: Values
    """Shape (c, b): how many values a bucket holds."""
    totals: Values
    """Shape (c, b): their sums."""

    def held(self, check: int) -> tuple[Rows, Rows]:
        """Give each row's sums and sums of squared deviations at one check, without empty rows at the end."""
        rows = range(len(self.tapes))
        spans = [slice(int(self.starts[r, check]), int(self.ends[r, check])) for r in rows]
        filled = 1 + max((r for r in rows if spans[r].stop > spans[r].start), default=-1)
        totals = [self.tapes[r][spans[r]].tolist() for r in range(filled)]
        return totals, [self.spread_tapes[r][spans[r]].tolist() for r in range(filled)]


def pooled(totals: Rows, spreads: Rows) -> tuple[int, float, float]:
    """Give count, sum and sum of squared deviations of all values, oldest bucket first.

    Chan, Golub and LeVeque 1983: two parts of n and k values add n k / (n + k) times their means' squared distance.
    """
    count, total, spread = 0, 0.0, 0.0
    for row in reversed(range(len(totals))):
        size = 1 << row
        for part, around in zip(totals[row], spreads[row], strict=True):
            away = part / size - total / count if count else 0.0
            spread += around + away * away * size * count / (count + size)
            count, total = count + size, total + part
    return count, total, spread


def insert_few(totals: Rows, spreads: Rows, values: list[float], most: int) -> None:
    """Insert values one by one, each a bucket of its own, into rows of at most `most` buckets."""
    if not totals:
        totals.append([])
        spreads.append([])
    totals[0].extend(values)
    spreads[0].extend([0.0] * len(values))
    row = 0
    while len(totals[row]) > most:
        if row + 1 == len(totals):
            totals.append([])
            spreads.append([])
        taken = 2 * ((len(totals[row]) - most + 1) // 2)
        _merge_few(totals, spreads, row, taken)
        del totals[row][:taken], spreads[row][:taken]
        row += 1


def _merge_few(totals: Rows, spreads: Rows, row: int, taken: int) -> None:
    """Merge the oldest `taken` buckets of a row, pair by pair, into the next row: `_merged` bit for bit."""
    size = float(1 << row)
    half = size * 0.5
    sums, around = totals[row], spreads[row]
    append_sum, append_around = totals[row + 1].append, spreads[row + 1].append
    for i in range(0, taken, 2):
        first, second = sums[i], sums[i + 1]
        away = first / size - second / size
        append_sum(first + second)
        append_around(around[i] + around[i + 1] + half * away * away)


def insert(totals: Rows, spreads: Rows, values: Values, every: int, most: int) -> Spans:
    """Insert values one by one, each a bucket of its own, and give the buckets behind each `every` values.

    A row holds at most `most` buckets. `values` is of shape (c every,). The rows are left as they were; the outcome is
    `insert_few`'s bit for bit.
    """
    arrived: Indices = np.arange(every, len(values) + 1, every)
    tapes, spread_tapes, starts, ends = [], [], [], []
    sums, around, row, size = values, np.zeros_like(values), 0, 1.0
    while row < len(totals) or len(sums):
        held = len(totals[row]) if row < len(totals) else 0
        tape = np.concatenate((totals[row], sums)) if held else sums
        spread_tape = np.concatenate((spreads[row], around)) if held else around
        end = held + arrived
        # Each merge takes two away when a row reaches most + 1, so a row that was ever given `end` buckets has merged
        # ceil((end - most) / 2) pairs.
        merged = np.maximum(0, (end - most + 1) // 2)
        tapes.append(tape)
        spread_tapes.append(spread_tape)
        starts.append(2 * merged)
        ends.append(end)
        sums, around = _merged(tape, spread_tape, int(merged[-1]), size)
        arrived, row, size = merged, row + 1, 2.0 * size
    return _gathered(tapes, spread_tapes, np.array(starts), np.array(ends), most)


def _merged(tape: Values, spread_tape: Values, pairs: int, size: float) -> tuple[Values, Values]:
    """Merge the oldest `pairs` pairs of buckets of `size` values each."""
    first, second = tape[0 : 2 * pairs : 2], tape[1 : 2 * pairs : 2]
    away = first / size - second / size
    around = spread_tape[0 : 2 * pairs : 2] + spread_tape[1 : 2 * pairs : 2] + size * 0.5 * away * away
    return first + second, around


def _gathered(tapes: Tapes, spread_tapes: Tapes, starts: Indices, ends: Indices, most: int) -> Spans:
    """Lay the spans of all rows side by side, the row of the largest (oldest) buckets first."""
    bases = np.cumsum([0] + [len(tape) for tape in tapes[:-1]])
    where = starts[:, :, None] + np.arange(most)
    filled = where < ends[:, :, None]
    flat = np.where(filled, where + bases[:, None, None], 0)
    sums = np.where(filled, np.concatenate(tapes)[flat], 0.0)
    sizes = np.where(filled, np.exp2(np.arange(len(tapes)))[:, None, None], 0.0)
    side_by_side = [part[::-1].transpose(1, 0, 2).reshape(starts.shape[1], -1) for part in (sizes, sums)]
    return Spans(tapes, spread_tapes, starts, ends, side_by_side[0], side_by_side[1])
