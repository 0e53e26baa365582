"""What due predictions with and without labels tell against a fall of coverage; the law behind it: `label_flow`."""

import math
from typing import Final

ALARM: Final = math.log(1e9)
KEPT: Final = 0.8
FALLEN: Final = 0.4
"""Shares of the usual coverage: from KEPT on it is no fall, up to FALLEN it is one."""


def evidence(usual: float, predictions: int, labelled: int) -> float:
    """Give the logarithm of what due predictions multiply the e-process by."""
    kept, fallen = KEPT * usual, FALLEN * usual
    return labelled * math.log(fallen / kept) + (predictions - labelled) * math.log((1.0 - fallen) / (1.0 - kept))


def needed(usual: float) -> int:
    """Say how many due predictions without a label raise the alarm, at a usual coverage.

    >>> needed(1.0), needed(0.3), needed(0.1)
    (19, 142, 487)
    """
    return math.ceil(ALARM / evidence(usual, 1, 0))
