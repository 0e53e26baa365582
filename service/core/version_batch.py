"""What a stretch of records holds for one model version, and where it is cut."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from service.core.columns import Corrections, Outcomes, Predictions
from service.core.problem import Coded


class VersionBatch(NamedTuple):
    """What a stretch of records holds for one model version."""

    predictions: Predictions | None = None
    outcomes: Outcomes | None = None
    corrections: Corrections | None = None
    first_id: str = ""
    """Identifier of the first prediction."""

    @property
    def first_sequence(self) -> int:
        """Number of its first record."""
        return min([int(part.sequence[0]) for part in self[:3] if part is not None])

    @property
    def first_watermark_ms(self) -> int:
        """Watermark at its first record."""
        return min([int(part.watermark_ms[0]) for part in self[:3] if part is not None])

    @property
    def last_sequence(self) -> int:
        """Number of its last record."""
        return max([int(part.sequence[-1]) for part in self[:3] if part is not None])

    def cut(self, sequence: int) -> "tuple[VersionBatch, VersionBatch]":
        """Part what comes before the record with this number from the rest; both hold something."""
        sides: list[list[Any]] = [[], []]
        for part in self[:3]:
            at = 0 if part is None else int(np.searchsorted(part.sequence, sequence))
            sides[0].append(None if part is None or not at else part.part(0, at))
            sides[1].append(None if part is None or at == len(part.sequence) else part.part(at, len(part.sequence)))
        return VersionBatch(*sides[0]), VersionBatch(*sides[1])

    def read_by(self, coded: Coded) -> "VersionBatch":
        """Read codes from before the model was known to be a regression as the numbers that they stand for."""
        outcomes, corrections = self.outcomes, self.corrections
        if outcomes is not None:
            predicted = coded.predictions(outcomes.predicted, outcomes.prediction_offset)
            actual = coded.labels(outcomes.actual, outcomes.label_offset)
            outcomes = outcomes._replace(predicted=predicted, actual=actual, packed=None)
        if corrections is not None:
            actual = coded.labels(corrections.actual, corrections.label_offset)
            corrections = corrections._replace(actual=actual)
        return VersionBatch(self.predictions, outcomes, corrections, self.first_id)


def cut_at(
    outcomes: Outcomes | None, corrections: Corrections | None
) -> Iterator[tuple[Outcomes | None, Corrections | None]]:
    """Split outcomes where a correction stands between them, so that both take effect in order.

    What was held back until a record stands before a correction of the same record.
    """
    if corrections is None or outcomes is None:
        yield outcomes, corrections
        return
    start = 0
    for row in range(len(corrections.sequence)):
        stop = int(np.searchsorted(outcomes.sequence, corrections.sequence[row], side="right"))
        yield outcomes.part(start, stop) if stop > start else None, corrections.part(row, row + 1)
        start = stop
    if start < len(outcomes.sequence):
        yield outcomes.part(start, len(outcomes.sequence)), None
