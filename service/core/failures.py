"""Errors of the core that say who was being worked on, so that the shell can tell a bad record from a bad model."""

from typing import Literal

Phase = Literal["observe", "tick", "command", "snapshot", "tell", "encode"]
"""What was being done: records taken in, a timer, a command, state written, a metric snapshot or another output made
into bytes."""

TIMER_PHASES: frozenset[Phase] = frozenset({"tick", "snapshot", "tell"})
"""Phases that no record in particular is to blame for."""


class ModelError(Exception):
    """Work on one model raised. The cause is chained; it is no fault of the input's syntax, which dead letters tell."""

    def __init__(self, model_id: str, phase: Phase, cause: Exception) -> None:
        super().__init__(f"model {model_id}, {phase}: {type(cause).__name__}: {cause}")
        self.model_id = model_id
        self.phase = phase
