"""What a stretch of records holds for one model version."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from service.core.columns import Corrections, Outcomes, Predictions


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

    def in_order(self) -> Iterator[tuple[Outcomes | None, Corrections | None]]:
        """Split outcomes where a correction stands between them, so that both take effect in order."""
        outcomes, corrections = self.outcomes, self.corrections
        if corrections is None or outcomes is None:
            yield outcomes, corrections
            return
        start = 0
        for row in range(len(corrections.sequence)):
            stop = int(np.searchsorted(outcomes.sequence, corrections.sequence[row]))
            yield outcomes.part(start, stop) if stop > start else None, corrections.part(row, row + 1)
            start = stop
        if start < len(outcomes.sequence):
            yield outcomes.part(start, len(outcomes.sequence)), None
