"""The rows that the join keeps, byte for byte.

Columns of nested records are slow in numpy (assigning one goes field by field, ten times the cost of a memcpy), so a
row holds the prediction and the label as opaque bytes and, over them, the few fields that the join itself reads.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from service.core.columns import LABEL_ROW, PREDICTION_ROW, Int

Raw = NDArray[np.void]
"""Rows as opaque items, shape (n,). `view` of a row type gives their fields."""

WAITING: Final = 1
ORPHAN: Final = 2
JOINED: Final = 3
KINDS: Final = (WAITING, ORPHAN, JOINED)
KIND_NAMES: Final = {WAITING: "waiting", ORPHAN: "orphans", JOINED: "joined"}

PREDICTION_BYTES: Final = np.dtype(f"V{PREDICTION_ROW.itemsize}")
LABEL_BYTES: Final = np.dtype(f"V{LABEL_ROW.itemsize}")


def _offset(row: np.dtype[np.void], name: str) -> int:
    fields = row.fields
    assert fields is not None  # noqa: S101 - both row types are records
    return int(fields[name][1])


# `time_ms` of each is when it began to be what it is, on the clock that operations bring: what its horizon counts from.
# A prediction that waits for its label. `extra`: where its class probabilities begin in the block's extras; -1: none.
WAITING_ROW: Final = np.dtype(
    {
        "names": ["hi", "lo", "prediction", "time_ms", "extra"],
        "formats": ["<u8", "<u8", PREDICTION_BYTES, "<i8", "<i4"],
        "offsets": [0, 8, 16, 64, 60],
        "itemsize": 72,
    }
)
# A label that came before its prediction.
ORPHAN_ROW: Final = np.dtype(
    {
        "names": ["hi", "lo", "label", "time_ms", "revision"],
        "formats": ["<u8", "<u8", LABEL_BYTES, "<i8", "<i4"],
        "offsets": [0, 8, 16, 48, 16 + _offset(LABEL_ROW, "revision")],
        "itemsize": 56,
    }
)
# A prediction with its label. It began when the label in force was joined.
JOINED_ROW: Final = np.dtype(
    {
        "names": ["hi", "lo", "time_ms", "label", "revision", "prediction"],
        "formats": ["<u8", "<u8", "<i8", LABEL_BYTES, "<i4", PREDICTION_BYTES],
        "offsets": [0, 8, 16, 24, 24 + _offset(LABEL_ROW, "revision"), 56],
        "itemsize": 100,
    }
)
UNTIMED: Final = -(1 << 62)
"""The `time_ms` of entries whose time is not known: it is to be that of the next operation."""
ROW_TYPES: Final = {WAITING: WAITING_ROW, ORPHAN: ORPHAN_ROW, JOINED: JOINED_ROW}


def raw(rows: NDArray[np.void]) -> Raw:
    """See records as opaque items of the same bytes; copied only where they are not contiguous."""
    return np.ascontiguousarray(rows).view(f"V{rows.dtype.itemsize}")


def empty(row: np.dtype[np.void], count: int) -> Raw:
    """Make `count` rows of zeros."""
    return np.zeros(count, f"V{row.itemsize}")


def in_order(parts: list[tuple[Int, Raw]], row: np.dtype[np.void]) -> tuple[Int, Raw]:
    """Merge parts, each of rows with the operations that caused them, by operation."""
    if len(parts) == 1:
        return parts[0]
    if not parts:
        return np.zeros(0, np.int64), empty(row, 0)
    operation = np.concatenate([part[0] for part in parts])
    order = operation.argsort(kind="stable")
    return operation.take(order), np.concatenate([part[1] for part in parts]).take(order)
