"""Exponentially weighted means of whole columns, the same wherever the columns are cut.

y <- a y + (1 - a) x is a chain of roundings that no vector operation repeats. Here the rounding is tied to the count
of values instead: within a block of 32, y_i = a^i (y_0 + (1 - a) sum_j a^-j x_j), where the sum is accumulated in
order, and the last y of a block is the first of the next. a^-32 is at most 10^32 for a >= .1, and the sum is dominated
by its latest terms, so that no digits are lost.
"""

from functools import lru_cache
from typing import NamedTuple

import msgspec
import numpy as np

from detectors.protocol import Values

BLOCK = 32


class Decay(msgspec.Struct, forbid_unknown_fields=True):
    """Where an exponentially weighted mean stands in its block."""

    anchor: float = 0.0
    """The mean before the block."""
    inner: float = 0.0
    """The sum of a^-j x_j over the block's values."""
    phase: int = 0
    """How many values of the block there are, less than 32."""
    mean: float = 0.0


class _Powers(NamedTuple):
    down: list[float]
    up: list[float]
    downs: Values
    ups: Values


@lru_cache(maxsize=64)
def _powers(keep: float) -> _Powers:
    """Give a^1..a^32 and a^-1..a^-32, as lists and as columns."""
    downs = np.multiply.accumulate(np.full(BLOCK, keep))
    return _Powers(downs.tolist(), (1.0 / downs).tolist(), downs, 1.0 / downs)


def decayed(state: Decay, value: float, weight: float) -> float:
    """Take one value with the weight 1 - a, and give the mean behind it."""
    powers = _powers(1.0 - weight)
    phase = state.phase
    state.inner += powers.up[phase] * value
    state.mean = powers.down[phase] * (state.anchor + weight * state.inner)
    state.phase = phase + 1
    if state.phase == BLOCK:
        state.anchor, state.inner, state.phase = state.mean, 0.0, 0
    return state.mean


def decayed_column(state: Decay, values: Values, weight: float) -> Values:
    """Give the mean behind each of the values, `decayed` bit for bit, and leave the state as it was."""
    powers = _powers(1.0 - weight)
    blocks = -(-(state.phase + len(values)) // BLOCK)
    table = np.zeros(blocks * BLOCK)
    table[state.phase : state.phase + len(values)] = values
    table = table.reshape(blocks, BLOCK) * powers.ups
    if state.phase:
        table[0, state.phase - 1] = state.inner
    inner = np.add.accumulate(table, axis=1)
    anchors = [state.anchor]
    for total in inner[:-1, -1].tolist():
        anchors.append(powers.down[-1] * (anchors[-1] + weight * total))
    means = powers.downs * (np.array(anchors)[:, None] + weight * inner)
    return np.asarray(means.ravel()[state.phase : state.phase + len(values)])


def decayed_many(state: Decay, values: Values, weight: float) -> None:
    """Take values; the state is then what `decayed` would leave."""
    if not len(values):
        return
    powers = _powers(1.0 - weight)
    means = decayed_column(state, values, weight)
    rest = (state.phase + len(values)) % BLOCK
    fresh = min(rest, len(values))
    if state.phase + len(values) >= BLOCK:
        # The block of the last values began within the column, or ends with it.
        state.anchor = float(means[len(values) - rest - 1]) if rest < len(values) else state.mean
        state.inner, start = 0.0, 0
    else:
        start = state.phase
    for offset, value in enumerate(values[len(values) - fresh :].tolist()):
        state.inner += powers.up[start + offset] * value
    state.phase, state.mean = rest, float(means[-1])
