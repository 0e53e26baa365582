"""A task that runs many configurations: decoding, merging and the join happen once."""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from schemas.outputs import Alert, FineTuneTrigger
from service.core.effects import Caused, StepResult
from service.core.intake import Merged, Positions
from service.core.model import ModelMonitor
from service.core.prepare import TaskTopics
from service.core.settings import CoreSettings, ModelProfile, PerformanceSettings
from service.replay.sweep.members import Fan
from service.replay.sweep.shared import Moment
from service.replay.timeline import MeasuredTask


class Group(NamedTuple):
    """Configurations that one pass can run: they differ in nothing that happens before the monitors."""

    numbers: list[int]
    """Their places in the sweep."""
    cores: list[CoreSettings]


def group(cores: Sequence[CoreSettings]) -> list[Group]:
    """Put configurations that one pass can run together."""
    groups: dict[bytes, Group] = {}
    for number, core in enumerate(cores):
        key = msgspec.msgpack.encode(_before_monitors(core), order="deterministic")
        found = groups.setdefault(key, Group([], []))
        found.numbers.append(number)
        found.cores.append(core)
    return list(groups.values())


def _before_monitors(core: CoreSettings) -> CoreSettings:
    return msgspec.structs.replace(
        core,
        default=_plain(core.default),
        models={model_id: _plain(profile) for model_id, profile in core.models.items()},
    )


def _plain(profile: ModelProfile) -> ModelProfile:
    """Keep of a profile what decides how records become columns."""
    return ModelProfile(
        problem=profile.problem,
        positive_label=profile.positive_label,
        segments=profile.segments,
        max_segment_values=profile.max_segment_values,
        reference=profile.reference,
        performance=PerformanceSettings(max_classes=profile.performance.max_classes),
    )


class SweepTask(MeasuredTask):
    """One task under the configurations of a group. What each puts out is in `outputs`."""

    def __init__(self, cores: Sequence[CoreSettings], topics: TaskTopics, positions: Positions) -> None:
        super().__init__(cores[0], topics, positions)
        self._cores = cores
        self._moment = Moment()
        self._now: list[list[Caused]] = [[] for _ in cores]
        """Of the step that is being taken."""
        self.outputs: list[list[Caused]] = [[] for _ in cores]
        """Alerts and triggers by configuration, since they were last taken away."""

    def _model(self, model_id: str) -> ModelMonitor:
        known = self.models.get(model_id)
        if known is None:
            model = self.roster.model(model_id)
            if model is None:
                raise KeyError(model_id)
            profiles = [core.profile(model_id) for core in self._cores]
            known = self.models[model_id] = Fan(model, self.topics, profiles, self._now, self._moment)
        return known

    def _apply(self, merged: Merged) -> StepResult:
        result = super()._apply(merged)
        for now, kept in zip(self._now, self.outputs, strict=True):
            now.sort(key=_by_sequence)
            kept.extend(caused for caused in now if isinstance(caused.output, Alert | FineTuneTrigger))
            now.clear()
        return result


def _by_sequence(caused: Caused) -> int:
    return caused.sequence
