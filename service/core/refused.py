"""Dead letters of commands and reports that a policy refuses."""

from schemas.outputs import DeadLetter
from service.core.dead_letters import from_event
from service.core.finetuning import Refusal
from service.core.prepare import ControlRow, TaskTopics


def refused(refusal: Refusal, row: ControlRow, topics: TaskTopics) -> DeadLetter:
    """Say why a command or report was of no use."""
    return from_event(
        refusal.reason,
        refusal.message,
        refusal.path,
        topics.control,
        topics.partition,
        row.offset,
        row.event.event_time_ms,
        row.event.model_id,
    )
