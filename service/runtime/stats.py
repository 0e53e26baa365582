"""Numbers about a running task, for metrics, readiness and logs. Written by the task, read by anybody."""

import math
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Final, Literal, get_args

from schemas.outputs import DeadLetter, MetricSnapshot, Output
from service.core.dead_letters import REASONS
from service.core.effects import StepResult
from service.core.intake import Positions, Role
from service.core.overview import FiringIncidents, MemoryTotals, Overview, VersionTotals
from service.core.units import unit_of

Phase = Literal["waiting", "acquiring", "restoring", "running", "suspended", "stopping", "failed"]

DURATION_BOUNDS_S: Final = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
"""Upper bounds of the groups in which durations are counted; a last one has none."""


class Durations:
    """How often something took how long."""

    def __init__(self) -> None:
        self._counts = [0] * (len(DURATION_BOUNDS_S) + 1)
        self.sum_s = 0.0

    def add(self, took_s: float) -> None:
        """Count one."""
        self._counts[bisect_left(DURATION_BOUNDS_S, took_s)] += 1
        self.sum_s += took_s

    def cumulative(self) -> list[tuple[float, int]]:
        """Say how often it took at most so many seconds, by bound; the last is infinity."""
        return list(zip((*DURATION_BOUNDS_S, math.inf), accumulate(self._counts), strict=True))


@dataclass
class TaskStats:
    """Counters only rise, for as long as the process lives; a restarted task goes on counting."""

    partition: int
    phase: Phase = "waiting"
    records_total: dict[Role, int] = field(default_factory=lambda: dict.fromkeys(Role, 0))
    bytes_total: dict[Role, int] = field(default_factory=lambda: dict.fromkeys(Role, 0))
    lag_records: dict[Role, int] = field(default_factory=dict)
    """By input; nothing while the task is not ours."""
    outputs_total: dict[type[Output], int] = field(default_factory=lambda: dict.fromkeys(get_args(Output), 0))
    """All kinds from the beginning: a counter that begins to be there with its first event hides that event."""
    dead_letters_total: dict[str, int] = field(default_factory=lambda: dict.fromkeys(REASONS, 0))
    newest: dict[tuple[str, str, str | None], MetricSnapshot] = field(default_factory=dict)
    """Newest snapshot by model, version and segment; as many as the task watches."""
    overview: Overview = field(default_factory=Overview)
    """As of a recent commit: what a restart goes on from, so that no counter falls."""
    step_durations: Durations = field(default_factory=Durations)
    commit_durations: Durations = field(default_factory=Durations)
    steps_total: int = 0
    forced_steps_total: int = 0
    commits_total: int = 0
    snapshots_total: int = 0
    restarts_total: int = 0
    fenced_total: int = 0
    watermark_ms: int = 0
    positions: Positions | None = None
    """As committed; None until the task was acquired."""
    last_error: str | None = None

    @property
    def ready(self) -> bool:
        """Whether the task has its state and works."""
        return self.phase == "running"

    def acquired(self, positions: Positions, watermark_ms: int, overview: Overview) -> None:
        """Note where the task stands."""
        self.phase = "running"
        self.positions = positions
        self.watermark_ms = watermark_ms
        self.overview = overview

    def released(self) -> None:
        """Forget what is the task's: its models are told of by whoever has it next."""
        self.newest.clear()
        self.overview = Overview()
        self.lag_records.clear()
        self.watermark_ms = 0

    def read(self, role: Role, records: int, size_bytes: int) -> None:
        """Count what was fetched."""
        self.records_total[role] += records
        self.bytes_total[role] += size_bytes

    def behind(self, role: Role, records: int) -> None:
        """Note how many records of an input are not worked on yet."""
        self.lag_records[role] = records

    def stepped(self, result: StepResult, watermark_ms: int, took_s: float) -> None:
        """Count a step, what it gave and how long it took."""
        self.steps_total += 1
        self.step_durations.add(took_s)
        self.forced_steps_total += result.forced
        self.watermark_ms = watermark_ms
        for output in result.outputs:
            kind = type(output)
            self.outputs_total[kind] = self.outputs_total.get(kind, 0) + 1
            if isinstance(output, DeadLetter):
                self.dead_letters_total[output.reason] = self.dead_letters_total.get(output.reason, 0) + 1
            elif isinstance(output, MetricSnapshot):
                self.newest_of(output)

    def newest_of(self, snapshot: MetricSnapshot) -> None:
        """Keep a snapshot as the newest of its version and segment."""
        unit = snapshot.model_id if snapshot.target is None else unit_of(snapshot.model_id, snapshot.target)
        self.newest[unit, snapshot.model_version, snapshot.segment] = snapshot

    def committed(self, positions: Positions, *, took_s: float, snapshot: bool) -> None:
        """Count a commit, with how long it took."""
        self.commits_total += 1
        self.commit_durations.add(took_s)
        self.snapshots_total += snapshot
        self.positions = positions

    def by_input(self) -> Iterator[tuple[str, int, int, int | None]]:
        """Give (input, records, bytes, lag) of each input; no lag while the task is not ours."""
        for role in Role:
            yield role.name.lower(), self.records_total[role], self.bytes_total[role], self.lag_records.get(role)

    def by_output(self) -> Iterator[tuple[str, int]]:
        """Give (type, count) of each kind of output."""
        for kind, count in self.outputs_total.items():
            yield kind.__name__, count

    def dead_letters(self) -> Iterator[tuple[str, int]]:
        """Give (reason, count)."""
        yield from self.dead_letters_total.items()

    def snapshots(self) -> Iterator[MetricSnapshot]:
        """Give the newest snapshot of each model version and segment."""
        yield from self.newest.values()

    def totals(self) -> Iterator[VersionTotals]:
        """Give what each model version has had."""
        yield from self.overview.totals

    @property
    def quarantined(self) -> int:
        """How many models are in quarantine."""
        return self.overview.quarantined

    def memory(self) -> MemoryTotals:
        """Say what the monitors take, as of the last commit."""
        return self.overview.memory

    def incidents(self) -> Iterator[FiringIncidents]:
        """Give how many incidents of each model fire, by kind and severity."""
        yield from self.overview.incidents

    def misplaced(self) -> Iterator[tuple[str, str, int]]:
        """Give (model, input, records that lie in a wrong place)."""
        for model_id, role, number in self.overview.misplaced:
            yield model_id, role.name.lower(), number

    def durations(self) -> Iterator[tuple[str, list[tuple[float, int]], float]]:
        """Give how long steps and commits took; see Durations."""
        yield "step", self.step_durations.cumulative(), self.step_durations.sum_s
        yield "commit", self.commit_durations.cumulative(), self.commit_durations.sum_s
