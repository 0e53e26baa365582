"""From the lists of an embedding to rows of numbers, a piece at a time."""

import struct
from collections.abc import Sequence
from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np

from service.core.columns import Float, Int
from service.core.inputs.feature_table import MISSING, WRONG_TYPE

Vector = Sequence[float | None] | None

USABLE: Final = 0.0
"""What stands in the matrix of data quality for a vector that is watched. MISSING: there was none, or an empty list."""


class Read(NamedTuple):
    """What a piece of events holds of one embedding."""

    rows: Float
    """The usable vectors, shape (k, dimension)."""
    at: Int
    """Which event each is of, shape (k,)."""
    codes: Float
    """USABLE, MISSING or WRONG_TYPE of each event, shape (n,)."""
    wrong_dimension: int
    not_finite: int


def lengths_of(values: Sequence[Vector]) -> Int:
    """Count the numbers of each vector; 0 where there is none. Shape (n,)."""
    return np.fromiter((len(value) if value else 0 for value in values), np.int64, len(values))


def read(values: Sequence[Vector], lengths: Int, dimension: int) -> Read:
    """Take the vectors of this dimension (0: not known yet) with finite numbers; say what is wrong with the others.

    Numbers are taken as 32-bit floats, which is what models make: a number beyond 3.4e38 is not finite.
    """
    fits = (lengths == dimension) & (lengths > 0)
    at = np.flatnonzero(fits)
    rows = _packed([values[row] for row in at.tolist()], dimension)
    with np.errstate(over="ignore"):
        rows = rows.astype(np.float32).astype(np.float64)
    finite = np.asarray(np.isfinite(rows).all(axis=1))
    codes = np.where(lengths == 0, MISSING, WRONG_TYPE)
    codes[at[finite]] = USABLE
    not_finite = len(at) - int(np.count_nonzero(finite))
    wrong = int(np.count_nonzero(lengths)) - len(at)
    if not_finite:
        rows, at = rows[finite], at[finite]
    return Read(rows, at, codes, wrong, not_finite)


def _packed(vectors: list[Vector], dimension: int) -> Float:
    """Give vectors of one length as rows, with NaN for null."""
    pack = _packer(dimension).pack
    try:
        # A third of the time of numpy.array, which looks at each number's type.
        packed = b"".join([pack(*vector) for vector in vectors if vector is not None])
    except struct.error:  # a null
        return np.array(vectors, dtype=np.float64).reshape(len(vectors), dimension)
    return np.frombuffer(packed, np.float64).reshape(len(vectors), dimension)


@lru_cache(maxsize=64)
def _packer(dimension: int) -> struct.Struct:
    return struct.Struct(f"{dimension}d")
