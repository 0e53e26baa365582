"""Bringing a detector to a run length: the value of its one parameter at which stable streams alarm that seldom."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from benchmarks.detection_quality.contenders import Contender, Tuned
from benchmarks.detection_quality.running import run_length
from benchmarks.detection_quality.streams import Values

STEPS = 9
"""Halvings of the parameter's logarithm: from 1e-12 .. 0.5 they leave 5 %."""
CLOSE = 0.05
"""A run length this near to the target, relatively, ends the search: 50 alarms cannot tell it apart."""


class Calibrated(NamedTuple):
    """A contender at the run length that was asked for, or as near as it comes."""

    contender: Contender
    parameter: str
    value: float
    run_length: float
    """On the streams that it was tuned on."""


def tuned(candidate: Tuned, streams: Sequence[Values], target: float) -> Calibrated:
    """Search the parameter, common streams for all values of it.

    The run length need not be monotone in its last digits; the nearest value that was tried is taken.
    """
    common, rare = candidate.low, candidate.high
    if candidate.rare_when == "small":
        common, rare = rare, common
    tried: list[Calibrated] = []
    for _ in range(STEPS):
        value = math.sqrt(common * rare)
        contender = candidate.contender.with_parameters({candidate.parameter: value})
        length = run_length(contender, streams).mean
        tried.append(Calibrated(contender, candidate.parameter, value, length))
        if abs(math.log(length / target)) < CLOSE:
            break
        common, rare = (value, rare) if length < target else (common, value)
    return min(tried, key=lambda one: abs(math.log(one.run_length / target)))
