"""What goes into the join and what comes out of it, in columns."""

from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.core.columns import LABEL_ROW, Bool, Int

Rows = NDArray[np.void]


class LabelFate(IntEnum):
    """What became of one label."""

    WAITING = 0
    """No prediction yet: it waits, and is an orphan when its horizon passes."""
    REPLACED = 1
    """It waits in the place of an earlier label, of a lower revision, which is gone."""
    JOINED = 2
    CORRECTED = 3
    """It replaced the label, of a lower revision, of an outcome."""
    DUPLICATE = 4
    """Its revision is not higher than that of the label which is known. Dropped."""


class JoinOps(NamedTuple):
    """Predictions and labels in the order of the step; n operations."""

    is_label: Bool
    """Shape (n,)."""
    keys: NDArray[np.uint64]
    """Shape (n, 2), as `hash_keys` gives them."""
    watermark_ms: Int
    """Clock at each operation, on which horizons are counted; never falls, within a batch or between batches."""
    predictions: Rows
    """PREDICTION_ROW of each prediction, in order."""
    labels: Rows
    """LABEL_ROW of each label, in order."""
    extras: list[bytes | None] | None = None
    """Bytes to keep with each prediction until it is joined (class probabilities); None: there are none."""


class JoinedOutcomes(NamedTuple):
    """Predictions with their labels, in the order of the operations that completed them. Shape (k,) each."""

    operation: Int
    """Index in the batch, rising."""
    predictions: Rows
    labels: Rows
    extras: list[bytes | None]


class JoinedCorrections(NamedTuple):
    """Labels that replaced the label of an outcome, in order. Shape (k,) each."""

    operation: Int
    predictions: Rows
    old_labels: Rows
    labels: Rows


class LateLabels(NamedTuple):
    """Labels that no prediction waits for any more, in the order of their offsets. Shape (n,) each."""

    labels: Rows
    made_ms: Int
    """Event time of the prediction."""
    answered: Bool
    """Whether it had a label: this one came once more. Else it had waited in vain."""


NO_LATE = LateLabels(np.zeros(0, LABEL_ROW), np.zeros(0, np.int64), np.zeros(0, np.bool_))


class Gone(NamedTuple):
    """Entries that are no longer kept, without having been joined: oldest first in each."""

    predictions: Rows
    """PREDICTION_ROW of predictions that waited for a label."""
    labels: Rows
    """LABEL_ROW of labels that waited for a prediction."""
    late: LateLabels = NO_LATE
    """Came since the last call of `expire`, and are of predictions that have left the join."""


class JoinResult(NamedTuple):
    """What a batch did."""

    new_prediction: Bool
    """Of each prediction; false: one with the same key is remembered, so this one is a duplicate to be dropped."""
    label_fate: NDArray[np.uint8]
    """Of each label, a LabelFate."""
    outcomes: JoinedOutcomes
    corrections: JoinedCorrections
    evicted: Gone
    """Given up because the bounds of entries or bytes were reached."""
    evicted_predictions_after: Int
    """Index of the operation after which each evicted prediction was given up."""
    evicted_labels_after: Int
    evicted_joined: int
    """Outcomes forgotten early for the same reason: later duplicates and corrections of them are not recognised."""


class JoinSizes(NamedTuple):
    """How much is kept."""

    waiting: int
    orphans: int
    joined: int
    size_bytes: int
    """As compared with `max_bytes`: what the entries need when packed."""
    memory_bytes: int
    """Really held. At most about twice `size_bytes`; depends on where batches were cut, so not for outputs."""
