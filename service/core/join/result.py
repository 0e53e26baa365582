"""What the segments of a batch did, put together."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.core.columns import LABEL_ROW, PREDICTION_ROW, Bool, Int
from service.core.join.operations import Gone, JoinedCorrections, JoinedOutcomes, JoinResult, Rows
from service.core.join.rows import JOINED_ROW, Raw, empty, in_order
from service.core.join.segment import Changes, Extras

# Arrays without items cannot be changed, so that all results may share them.
_NO_OPERATIONS = np.zeros(0, np.int64)
_NO_ROWS = empty(JOINED_ROW, 0)
_NO_PREDICTIONS, _NO_LABELS = np.zeros(0, PREDICTION_ROW), np.zeros(0, LABEL_ROW)
_NO_CORRECTIONS = JoinedCorrections(_NO_OPERATIONS, _NO_PREDICTIONS, _NO_LABELS, _NO_LABELS)


class Part(NamedTuple):
    """What one segment did. `start` and `last`: indices of its first and last operation in the batch."""

    start: int
    last: int
    changes: Changes
    evicted_predictions: list[Raw]
    evicted_labels: list[Raw]
    evicted_joined: int


def rows_of(parts: list[Raw], row: np.dtype[np.void]) -> Rows:
    """Put rows one after the other."""
    return np.concatenate(parts).view(row) if parts else np.zeros(0, row)


def result_of(new_prediction: Bool, label_fate: NDArray[np.uint8], parts: list[Part]) -> JoinResult:
    """Put the segments of a batch together; operations become indices in the batch."""
    evicted = Gone(
        rows_of([rows for part in parts for rows in part.evicted_predictions], PREDICTION_ROW),
        rows_of([rows for part in parts for rows in part.evicted_labels], LABEL_ROW),
    )
    last = np.array([part.last for part in parts], np.int64)
    predictions = np.array([sum(map(len, part.evicted_predictions)) for part in parts], np.int64)
    labels = np.array([sum(map(len, part.evicted_labels)) for part in parts], np.int64)
    return JoinResult(
        new_prediction,
        label_fate,
        _outcomes(parts),
        _corrections(parts),
        evicted,
        np.repeat(last, predictions),
        np.repeat(last, labels),
        sum(part.evicted_joined for part in parts),
    )


def _outcomes(parts: list[Part]) -> JoinedOutcomes:
    operation, rows = _joined([(part.start, part.changes.outcomes) for part in parts])
    extras = [extra for part in parts for extra in _extras_in_order(part.changes)]
    if not len(operation):
        return JoinedOutcomes(_NO_OPERATIONS, _NO_PREDICTIONS, _NO_LABELS, [])
    fields = rows.view(JOINED_ROW)
    return JoinedOutcomes(
        operation,
        fields["prediction"].copy().view(PREDICTION_ROW),
        fields["label"].copy().view(LABEL_ROW),
        extras,
    )


def _joined(parts: list[tuple[int, list[tuple[Int, Raw]]]]) -> tuple[Int, Raw]:
    """Put rows of all segments in one order. Most batches are one segment, and most segments correct nothing."""
    merged = [(start, *in_order(changes, JOINED_ROW)) for start, changes in parts if changes]
    if not merged:
        return _NO_OPERATIONS, _NO_ROWS
    if len(merged) == 1:
        start, operation, rows = merged[0]
        return operation + start, rows
    return np.concatenate([operation + start for start, operation, _ in merged]), np.concatenate(
        [rows for _, _, rows in merged]
    )


def _extras_in_order(changes: Changes) -> Extras:
    """Give the extras of a segment's outcomes, in the order in which `in_order` gives the outcomes."""
    sizes = [len(operation) for operation, _ in changes.outcomes]
    if all(extras is None for extras in changes.outcome_extras):
        return [None] * sum(sizes)
    parts = zip(changes.outcome_extras, sizes, strict=True)
    extras = [extra for part, size in parts for extra in (part if part is not None else [None] * size)]
    order = np.concatenate([operation for operation, _ in changes.outcomes]).argsort(kind="stable")
    return [extras[i] for i in order.tolist()]


def _corrections(parts: list[Part]) -> JoinedCorrections:
    operation, rows = _joined([(part.start, part.changes.corrections) for part in parts])
    if not len(operation):
        return _NO_CORRECTIONS
    old = [in_order(part.changes.old_labels, LABEL_ROW)[1] for part in parts]
    fields = rows.view(JOINED_ROW)
    return JoinedCorrections(
        operation,
        fields["prediction"].copy().view(PREDICTION_ROW),
        np.concatenate(old).view(LABEL_ROW),
        fields["label"].copy().view(LABEL_ROW),
    )
