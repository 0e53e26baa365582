"""The training window of a fine-tune trigger: which records of the topics hold the outcomes since a change."""

from schemas.outputs import OffsetRange
from service.core.finetuning import TrainingWindow, sample_of
from service.core.finetuning.lifecycle import Moment
from service.core.intake import Role
from service.core.prepare import TaskTopics
from service.core.version import VersionMonitor


def training_window(version: VersionMonitor, change: int, at: Moment, topics: TaskTopics) -> TrainingWindow:
    """Describe the outcomes of a version since one by its number, and the losses before and since."""
    since = version.window.since(change)
    changed = version.window.changed_at(since.first_number)
    predictions = since.prediction_offsets
    if predictions is not None and changed is not None:
        # Late labels of predictions from before the change are no reason to train on these.
        predictions = (min(max(predictions[0], changed.offset), predictions[1]), predictions[1])
    ranges = []
    for role, offsets in ((Role.PREDICTIONS, predictions), (Role.LABELS, since.label_offsets)):
        if offsets is not None:
            ranges.append(
                OffsetRange(
                    topic=topics.of(role),
                    partition=topics.partition,
                    start_offset=offsets[0],
                    end_offset=offsets[1] + 1,
                )
            )
    return TrainingWindow(
        ranges=tuple(ranges),
        start_ms=None if changed is None else changed.time_ms,
        end_ms=at.time_ms,
        labels=since.outcomes,
        coverage=version.coverage(at.sequence),
        before=sample_of(version.window.losses(0, change)),
        during=sample_of(version.window.losses(change, version.window.total)),
    )
