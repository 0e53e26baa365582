"""Whom a command or a report is for: all units of its model, or the one whose trigger it reports on."""

from collections.abc import Callable

from schemas.events import FineTuneStatus
from service.core.model import ModelMonitor
from service.core.prepare import ControlRow
from service.core.roster import Model, Roster


def addressed(row: ControlRow, roster: Roster, monitor_of: Callable[[str], ModelMonitor]) -> list[Model]:
    """Give the units, in order; none where no event of the model came before."""
    # Not one that a later record of this step names first.
    units = [model for model in roster.units(row.event.model_id) if model.since < row.sequence]
    if not isinstance(row.event, FineTuneStatus) or len(units) < 2:
        return units
    trigger = row.event.trigger_id
    knows = [model for model in units if monitor_of(model.model_id).fine_tune.knows(trigger)]
    return knows[:1] or units[:1]
