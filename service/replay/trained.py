"""The requests to train in a replay, each once: what was asked for, and how it ended as far as the range tells."""

from collections.abc import Sequence
from typing import Final

import msgspec

from schemas.outputs import FineTuneTrigger
from service.replay.timeline import Timeline

UNDER_WAY: Final = ("requested", "running", "verifying")


class Triggered(msgspec.Struct, frozen=True, kw_only=True):
    """One request to train."""

    trigger_id: str
    model_version: str
    event: int
    time_ms: int
    change_ms: int | None
    """Where the monitor says that the change was."""
    mode: str
    labels: int
    loss_before: float | None
    loss_during: float | None
    loss_after: float | None
    ended: str | None
    verified_better: bool | None


def triggered(triggers: Sequence[FineTuneTrigger], timeline: Timeline) -> list[Triggered]:
    """Read one model's triggers."""
    ends = {item.trigger_id: item for item in triggers if item.state not in UNDER_WAY}
    return [_one(item, ends.get(item.trigger_id), timeline) for item in triggers if item.state == "requested"]


def _one(asked: FineTuneTrigger, end: FineTuneTrigger | None, timeline: Timeline) -> Triggered:
    return Triggered(
        trigger_id=asked.trigger_id,
        model_version=asked.model_version,
        event=max(timeline.event_at(asked.event_time_ms) - 1, 0),
        time_ms=asked.event_time_ms,
        change_ms=asked.window_start_ms,
        mode=asked.mode,
        labels=asked.labels,
        loss_before=asked.loss_before,
        loss_during=asked.loss_during,
        loss_after=None if end is None else end.loss_after,
        ended=None if end is None else end.state,
        verified_better=None if end is None else end.verified_better,
    )
