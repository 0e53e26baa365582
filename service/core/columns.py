"""Records in columns: what a step hands to the join and to the monitors.

One numpy array per field; row i of each belongs to the same event. `sequence` is the running number of the record in
its task: it rises with the merged order and is the same wherever batches are cut.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Int = NDArray[np.int64]
Float = NDArray[np.float64]
Bool = NDArray[np.bool_]
Cells = NDArray[np.uint8]

# What the join keeps of a prediction. Classes are codes of the model's class table, regression values are themselves.
PREDICTION_ROW = np.dtype(
    [
        ("monitor", "<i4"),  # which model version (and so model): index into the task's monitor table
        ("segments", "<i4"),  # which set of tracked segments: index into the monitor's table; -1: none
        ("offset", "<i8"),
        ("time_ms", "<i8"),
        ("value", "<f8"),  # class code or number; NaN where the serving call failed
        ("score", "<f8"),  # NaN where absent; a minus sign: of the other class than the model's scores speak of
        ("weight", "<f4"),  # 1 / sampling_rate
    ]
)  # 44 bytes

LARGEST_WEIGHT = 1e9
"""That of an event logged at the smallest sampling rate. Older programs took in smaller ones: what the join keeps of
such a prediction is an infinite weight."""

# What the join keeps of a label.
LABEL_ROW = np.dtype(
    [
        ("model", "<i4"),  # index into the task's model table (labels know no version)
        ("revision", "<i4"),
        ("offset", "<i8"),
        ("time_ms", "<i8"),
        ("value", "<f8"),
    ]
)  # 32 bytes


def pair(first: Float, second: Float) -> Float:
    """Put two columns beside each other, shape (n, 2)."""
    rows = np.empty((len(first), 2))
    rows[:, 0], rows[:, 1] = first, second
    return rows


class Predictions(NamedTuple):
    """Predictions of one model version, in order. Shape (n,) each."""

    sequence: Int
    watermark_ms: Int
    time_ms: Int
    offset: Int
    value: Float
    """Class code or number; NaN where the serving call failed."""
    score: Float
    latency_ms: Float
    error: Bool
    weight: Float
    features: list[dict[str, float | str | bool | None] | None]
    embeddings: Sequence[dict[str, list[float | None]] | None] = ()
    """Empty where no event of the stretch has any."""
    confidence: Cells = np.empty(0, np.uint8)
    """Cell of the answer's confidence, see `metrics.confidence`; empty: nobody asked."""

    def part(self, start: int, stop: int) -> "Predictions":
        """Give the rows from start to before stop."""
        rows = slice(start, stop)
        return Predictions._make([column[rows] for column in self])


class Outcomes(NamedTuple):
    """Predictions of one model version joined with their labels, in the order in which they became whole."""

    sequence: Int
    watermark_ms: Int
    prediction_time_ms: Int
    label_time_ms: Int
    prediction_offset: Int
    label_offset: Int
    predicted: Float
    actual: Float
    score: Float
    weight: Float
    segments: Int
    probabilities: list[bytes | None]
    """float64 vectors in class-code order, as bytes; None where absent."""
    packed: NDArray[np.void] | None = None
    """The same once more, as a window of outcomes keeps them, with the loss of classes; None: to be packed there."""

    def part(self, start: int, stop: int) -> "Outcomes":
        """Give the rows from start to before stop."""
        rows = slice(start, stop)
        return Outcomes._make([None if column is None else column[rows] for column in self])

    def where(self, keep: Bool) -> "Outcomes":
        """Give the rows that are to be kept."""
        probabilities = [self.probabilities[row] for row in np.flatnonzero(keep).tolist()]
        columns = [None if column is None or isinstance(column, list) else column[keep] for column in self]
        return Outcomes._make(columns)._replace(probabilities=probabilities)


class Corrections(NamedTuple):
    """Labels that replaced an earlier label of an outcome already counted. Shape (n,) each."""

    sequence: Int
    watermark_ms: Int
    prediction_offset: Int
    """Identifies the outcome within the model's window: no two outcomes of a task share it."""
    actual: Float
    label_offset: Int

    def part(self, start: int, stop: int) -> "Corrections":
        """Give the rows from start to before stop."""
        rows = slice(start, stop)
        return Corrections._make([column[rows] for column in self])
