"""Whom a command or a report is for: all units of its model, or the one whose trigger it reports on."""

from collections.abc import Callable, Container

import msgspec

from schemas.events import FineTuneStatus
from service.core.model import ModelMonitor
from service.core.prepare import ControlRow
from service.core.roster import Model, Roster


def addressed(
    row: ControlRow, roster: Roster, held: Container[str], monitor_of: Callable[[str], ModelMonitor]
) -> list[Model]:
    """Give the units, in order, but for those in quarantine; none where no event of the model came before."""
    # Not one that a later record of this step names first.
    known = [model for model in roster.units(row.event.model_id) if model.since < row.sequence]
    units = [model for model in known if model.model_id not in held]
    if not isinstance(row.event, FineTuneStatus) or len(units) < 2:
        return units
    trigger = row.event.trigger_id
    knows = [model for model in units if monitor_of(model.model_id).fine_tune.knows(trigger)]
    return knows[:1] or units[:1]


def under(row: ControlRow, unit: Model) -> ControlRow:
    """Put a command under one unit of its model."""
    return row._replace(event=msgspec.structs.replace(row.event, model_id=unit.model_id))
