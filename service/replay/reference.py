"""A whole replay as one reference window: what `tidegauge profile build` learns.

The records go through the same task as the live service's, so a stored window is what the service itself would have
learnt from them. Only its length is another: it ends where the records end.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec

from detectors.protocol import State
from schemas.outputs import DeadLetter, Output
from service.core.effects import Caused
from service.core.intake import Positions
from service.core.learning import close_windows, learn_all, learnt
from service.core.prepare import TaskTopics
from service.core.reference import Reference, check_reference
from service.core.roster import VersionKey
from service.core.settings import CoreSettings, ModelProfile, ReferenceProfile
from service.core.task import Task
from service.core.units import SEPARATOR, model_of
from service.core.version_batch import VersionBatch
from service.replay.plan import TaskPlan
from service.replay.run import Origin, Report
from service.replay.session import Settings, replay_tasks
from service.replay.sinks import CallSink, Marks, Sink

MAX_REFERENCE_EVENTS: Final = 1_000_000
"""Events, and outcomes, of one window: the most that `reference_events` may say. Those behind it are not in it.

While it is learnt, a value takes 8 bytes (twice that where the rows must be moved): 20 features 160 to 320 MB.
"""

MIN_EVENTS: Final = 100
"""Events, or labels, that a window must have: the least that `reference_events` may say."""
MIN_OUTCOMES: Final = 30
"""Losses, and outcomes with a confidence, that a window must have: the least that `reference_outcomes` may say."""

NAMED_VERSIONS: Final = 10
_NEVER_MS: Final = 1 << 60


class LearningError(ValueError):
    """There is no reference window to be learnt from these records; the message says why."""


class Wanted(NamedTuple):
    """Whose reference window it is."""

    model_id: str | None = None
    """None: the only model that there is."""
    model_version: str | None = None
    """None: the only version that there is."""

    def includes(self, key: VersionKey) -> bool:
        """Whether it is this one's."""
        return self.model_id in (None, model_of(key.model_id)) and self.model_version in (None, key.model_version)


class Learnt(NamedTuple):
    """A reference window, and what it was learnt from."""

    key: VersionKey
    data: State
    """Plain data, as it is stored."""
    reference: Reference
    """The same, checked."""
    records: int
    counts: dict[str, int]
    """What the join did with the version's predictions and labels."""
    dead_letters: dict[str, int]
    """Records that could not be used, by reason."""
    too_few: dict[str, int]
    """Parts that had too few events, and are therefore left out, with how many they had."""


class LearningTask(Task):
    """A task that hands on one model version's records only. Of several that are wanted it takes the first."""

    def __init__(self, settings: CoreSettings, topics: TaskTopics, positions: Positions, wanted: Wanted) -> None:
        super().__init__(settings, topics, positions)
        self._wanted = wanted
        self.chosen: VersionKey | None = None

    def _deliver(self, key: VersionKey, batch: VersionBatch) -> list[Caused]:
        if self.chosen is None and self._wanted.includes(key):
            self.chosen = key
        return super()._deliver(key, batch) if key == self.chosen else []

    def versions(self) -> list[VersionKey]:
        """Give all versions that are wanted and were met."""
        return [key for key in self.roster.versions if self._wanted.includes(key)]


async def learn_reference(
    settings: Settings, origin: Origin, plans: Sequence[TaskPlan], wanted: Wanted, limit: int, report: Report
) -> Learnt:
    """Learn one version's reference window from all records of the plans, at most `limit` events and outcomes of it.

    Raises LearningError, and what the origin raises.
    """
    settings = msgspec.structs.replace(settings, core=learning_settings(settings.core, limit))
    dead: Counter[str] = Counter()
    records = 0
    found: list[tuple[int, LearningTask]] = []

    def take(outputs: Sequence[Output]) -> None:
        dead.update(output.reason for output in outputs if isinstance(output, DeadLetter))

    async def make_sink(plan: TaskPlan, marks: Marks | None) -> Sink:  # noqa: ARG001  # the signature of all sinks
        return CallSink(take)

    for plan in plans:
        made: list[LearningTask] = []

        def make_task(
            core: CoreSettings, topics: TaskTopics, at: Positions, made: list[LearningTask] = made
        ) -> LearningTask:
            made.append(LearningTask(core, topics, at, wanted))
            return made[0]

        records += await replay_tasks(settings, origin, [plan], make_sink, None, report, make_task)
        # Of a task without the version nothing is kept: its join may be large.
        found += [(plan.partition, task) for task in made if task.chosen is not None]
    return _learnt(_only(found, wanted), records, dict(sorted(dead.items())))


def learning_settings(core: CoreSettings, limit: int) -> CoreSettings:
    """Change settings so that windows are as long as they may be, and nothing else is done with the records."""
    return msgspec.structs.replace(
        core,
        default=_learning_profile(core.default, limit),
        models={model_id: _learning_profile(profile, limit) for model_id, profile in core.models.items()},
    )


def _learning_profile(profile: ModelProfile, limit: int) -> ModelProfile:
    replace = msgspec.structs.replace
    return replace(
        profile,
        segments=(),
        reference=ReferenceProfile(),
        # What is switched off now may be switched on later, and then wants its part.
        feature_drift=replace(profile.feature_drift, enabled=True, reference_events=limit),
        embedding_drift=replace(profile.embedding_drift, enabled=True, reference_vectors=limit),
        data_quality=replace(profile.data_quality, enabled=True),
        prediction_drift=replace(profile.prediction_drift, enabled=True),
        label_drift=replace(profile.label_drift, enabled=True),
        concept_drift=replace(profile.concept_drift, detectors=(), reference_outcomes=limit),
        performance=replace(profile.performance, windows=(), rules=()),
        fine_tune=replace(profile.fine_tune, enabled=False),
        snapshot_interval_ms=_NEVER_MS,
    )


def _only(found: Sequence[tuple[int, LearningTask]], wanted: Wanted) -> LearningTask:
    """Find the one task that has the one version. Raises LearningError."""
    versions = sorted({key for _, task in found for key in task.versions()})
    if not versions:
        model = "" if wanted.model_id is None else f" of model {wanted.model_id}"
        version = "" if wanted.model_version is None else f", version {wanted.model_version}"
        raise LearningError(f"there is no usable prediction{model}{version}")
    if len(versions) > 1:
        named = ", ".join(
            f"{key.model_id.replace(SEPARATOR, ' target ')} version {key.model_version}"
            for key in versions[:NAMED_VERSIONS]
        )
        more = f" and {len(versions) - NAMED_VERSIONS} more" if len(versions) > NAMED_VERSIONS else ""
        raise LearningError(f"a reference window is of one model version, and there are {named}{more}: choose one")
    if len(found) > 1:
        places = ", ".join(str(partition) for partition, _ in found)
        raise LearningError(
            f"predictions of {versions[0].model_id} are in partitions {places}: the service watches each on its own. "
            "All records of a model belong under one key, its model_id; or name the offsets of one partition"
        )
    return found[0][1]


def _learnt(task: LearningTask, records: int, dead_letters: dict[str, int]) -> Learnt:
    key = task.versions()[0]
    model = task.models[key.model_id]
    known = task.roster.model(key.model_id)
    if known is not None:
        learn_all(known, model)
    version = model.versions[key.model_version]
    close_windows(version)
    data = learnt(version)
    too_few = _leave_out_short(data)
    if data["features"] is None and data["predictions"] is None:
        had = max(too_few.values(), default=0)
        raise LearningError(f"a reference window needs {MIN_EVENTS} events at least, and there are {had}")
    counts = {name: count for name, count in version.counts.values.items() if count}
    return Learnt(key, data, check_reference(data), records, counts, dead_letters, too_few)


def _leave_out_short(data: State) -> dict[str, int]:
    """Take out the parts that have too few events; say which, and how many they had."""
    reference = check_reference(data)
    parts = {
        "features": reference.features,
        "embeddings": reference.embeddings,
        "predictions": reference.predictions,
        "labels": reference.labels,
    }
    had = {name: part.sample_count for name, part in parts.items() if part is not None}
    too_few = {name: count for name, count in had.items() if count < MIN_EVENTS}
    if reference.loss is not None and reference.loss.count < MIN_OUTCOMES:
        too_few["loss"] = reference.loss.count
    if reference.confidence is not None and reference.confidence.sample_count < MIN_OUTCOMES:
        too_few["confidence"] = reference.confidence.sample_count
    data.update(dict.fromkeys(too_few))
    return too_few
