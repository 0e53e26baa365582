"""What a step gives back. The core performs nothing: the shell writes, logs and counts."""

from typing import NamedTuple

from schemas.outputs import Output
from service.core.intake import Positions


class Caused(NamedTuple):
    """An output and the running number of the record that caused it. Outputs leave a step in this order."""

    sequence: int
    output: Output


class StepResult(NamedTuple):
    """One step: what came of it, and where it ended."""

    outputs: list[Output]
    end: Positions
    forced: bool
    """Whether it ended there because an input was idle, and not because event time said so."""
    records: int
