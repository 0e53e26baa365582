"""Errors of the core that say who was being worked on, so that the shell can tell a bad record from a bad model."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from service.core.units import shown

Phase = Literal["observe", "tick", "command", "snapshot", "tell", "encode"]
"""What was being done: records taken in, a timer, a command, state written, a metric snapshot or another output made
into bytes."""

TIMER_PHASES: frozenset[Phase] = frozenset({"tick", "snapshot", "tell"})
"""Phases that no record in particular is to blame for."""


@contextmanager
def at_work_on(model_id: str, phase: Phase) -> Iterator[None]:
    """Let whatever raises within name the model. Costs a microsecond: a loop over all models has a try of its own."""
    try:
        yield
    except Exception as error:
        raise ModelError(model_id, phase, error) from error


class ModelError(Exception):
    """Work on one model raised. The cause is chained; it is no fault of the input's syntax, which dead letters tell."""

    def __init__(self, model_id: str, phase: Phase, cause: Exception) -> None:
        super().__init__(f"model {shown(model_id)}, {phase}: {type(cause).__name__}: {cause}")
        self.model_id = model_id
        self.phase = phase
