"""How long labels come behind their predictions."""

import numpy as np

from service.core.columns import Int, Outcomes
from service.core.metrics.quantiles import QuantileHistogram, QuantileState

_MOST_WAITING = 64
"""Batches of delays that wait to be counted, and the size from which one is counted at once: 32 kB at most."""


class LabelDelays:
    """Counts delays since the last interval began. Some wait to be counted: a thousand cost as much as one."""

    def __init__(self) -> None:
        self._counted = QuantileHistogram()
        self._waiting: list[Int] = []

    def add(self, outcomes: Outcomes) -> None:
        """Take outcomes in order."""
        delays = outcomes.label_time_ms - outcomes.prediction_time_ms
        self._waiting.append(delays)
        if len(self._waiting) >= _MOST_WAITING or len(delays) >= _MOST_WAITING:
            self._settle()

    def _settle(self) -> None:
        if self._waiting:
            self._counted.add(np.maximum(np.concatenate(self._waiting), 0).astype(np.float64))
            self._waiting.clear()

    def percentiles(self) -> dict[str, float | None]:
        """Give p50, p95 and p99, milliseconds."""
        self._settle()
        return self._counted.percentiles()

    def begin_interval(self) -> None:
        """Forget what came so far."""
        self._settle()
        self._counted.reset()

    def snapshot(self) -> QuantileState:
        """Give it as plain data."""
        self._settle()
        return self._counted.snapshot()

    def restore(self, state: QuantileState) -> None:
        """Take over a snapshot."""
        self._counted.restore(state)
