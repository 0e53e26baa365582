"""Labels of predictions that have left the join: what becomes of them, and who is told."""

from collections.abc import Callable, Mapping

import numpy as np

from service.core.advice import duration, instant
from service.core.columns import Int
from service.core.dead_letters import UseReason, from_event
from service.core.effects import Caused
from service.core.failures import at_work_on
from service.core.join import LateLabels
from service.core.join.operations import Rows
from service.core.label_flow import Unmet
from service.core.model import ModelMonitor
from service.core.prepare import TaskTopics
from service.core.roster import Roster
from service.core.settings import JoinSettings

PATH = "$.prediction_id"
NO_PREDICTION = (
    "no prediction with its id came in time: there is none, its id, row, target, model or partition differs, or it "
    "left so long ago that its id is forgotten (core.join.remembered_ids)"
)

Names = Mapping[int, str | None]
"""Offset of a label to the prediction that it named, where that is known."""


def bury_orphans(
    labels: Rows, names: Names, topics: TaskTopics, roster: Roster, sequence: Int, why: str
) -> list[Caused]:
    """Make a dead letter of each label that waited in vain, caused by the record with the number beside it."""
    return [
        Caused(
            number,
            from_event(
                "unknown_prediction",
                f"{PATH}: {why}",
                PATH,
                topics.labels,
                topics.partition,
                int(row["offset"]),
                int(row["time_ms"]),
                roster.models[int(row["model"])].model_id,
                names.get(int(row["offset"])),
            ),
        )
        for number, row in zip(sequence.tolist(), labels, strict=True)
    ]


def bury_late(
    late: LateLabels,
    names: Names,
    topics: TaskTopics,
    roster: Roster,
    settings: JoinSettings,
    now_ms: int,
    sequence: int,
) -> list[Caused]:
    """Make a dead letter of each. `label_too_late`: nobody waited for it any more; else it came once more, too late."""
    letters = []
    columns = (late.labels, late.made_ms.tolist(), late.answered.tolist())
    for label, made_ms, answered in zip(*columns, strict=True):
        reason: UseReason
        made = f"its prediction of {instant(made_ms)}"
        if not answered:
            reason = "label_too_late"
            waited = f"core.join.label_horizon_ms ({duration(settings.label_horizon_ms)})"
            why = f"{made} had waited for {waited}; this label came after {duration(max(now_ms - made_ms, 0))}"
        else:
            reason = "correction_too_late" if label["revision"] > 0 else "late_duplicate"
            kept = f"core.join.correction_horizon_ms ({duration(settings.correction_horizon_ms)})"
            why = f"{made} has had its label, longer ago than {kept}"
        letter = from_event(
            reason,
            f"{PATH}: {why}",
            PATH,
            topics.labels,
            topics.partition,
            int(label["offset"]),
            int(label["time_ms"]),
            roster.models[int(label["model"])].model_id,
            names.get(int(label["offset"])),
        )
        letters.append(Caused(sequence, letter))
    return letters


def note_late(
    late: LateLabels,
    topics: TaskTopics,
    roster: Roster,
    models: Mapping[str, ModelMonitor],
    watermark_of: Callable[[int], int],
    sequence: int,
) -> list[str]:
    """Let the models know of theirs; give which those are. `watermark_of`: a model's, by its place in the roster."""
    told = []
    for place in np.unique(late.labels["model"]).tolist():
        model_id = roster.models[place].model_id
        monitor = models.get(model_id)
        if monitor is None:
            continue
        ours = late.labels["model"] == place
        in_vain = ours & ~late.answered
        names = [f"offset {offset} of {topics.labels}" for offset in late.labels["offset"][in_vain].tolist()]
        moment = np.full(len(names), watermark_of(place))
        labels = Unmet(np.full(len(names), sequence), moment, names)
        with at_work_on(model_id, "tick"):
            monitor.note_late(labels, late.made_ms[in_vain], int(np.count_nonzero(ours & late.answered)))
        told.append(model_id)
    return told
