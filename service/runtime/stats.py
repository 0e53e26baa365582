"""Numbers about a running task, for metrics, readiness and logs. Written by the task, read by anybody."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from schemas.outputs import DeadLetter, MetricSnapshot, Output
from service.core.effects import StepResult
from service.core.intake import Positions, Role

Phase = Literal["waiting", "acquiring", "restoring", "running", "suspended", "stopping", "failed"]


@dataclass
class TaskStats:
    """Counters only rise, for as long as the process lives; a restarted task goes on counting."""

    partition: int
    phase: Phase = "waiting"
    records_total: dict[Role, int] = field(default_factory=lambda: dict.fromkeys(Role, 0))
    bytes_total: dict[Role, int] = field(default_factory=lambda: dict.fromkeys(Role, 0))
    lag_records: dict[Role, int] = field(default_factory=lambda: dict.fromkeys(Role, 0))
    outputs_total: dict[type[Output], int] = field(default_factory=dict)
    dead_letters_total: dict[str, int] = field(default_factory=dict)
    newest: dict[tuple[str, str, str | None], MetricSnapshot] = field(default_factory=dict)
    """Newest snapshot by model, version and segment; as many as the task watches."""
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

    def acquired(self, positions: Positions, watermark_ms: int) -> None:
        """Note where the task stands."""
        self.phase = "running"
        self.positions = positions
        self.watermark_ms = watermark_ms

    def read(self, role: Role, records: int, size_bytes: int) -> None:
        """Count what was fetched."""
        self.records_total[role] += records
        self.bytes_total[role] += size_bytes

    def behind(self, role: Role, records: int) -> None:
        """Note how many records of an input are not read yet."""
        self.lag_records[role] = records

    def stepped(self, result: StepResult, watermark_ms: int) -> None:
        """Count a step and what it gave."""
        self.steps_total += 1
        self.forced_steps_total += result.forced
        self.watermark_ms = watermark_ms
        for output in result.outputs:
            kind = type(output)
            self.outputs_total[kind] = self.outputs_total.get(kind, 0) + 1
            if isinstance(output, DeadLetter):
                self.dead_letters_total[output.reason] = self.dead_letters_total.get(output.reason, 0) + 1
            elif isinstance(output, MetricSnapshot):
                self.newest[output.model_id, output.model_version, output.segment] = output

    def committed(self, positions: Positions, *, snapshot: bool) -> None:
        """Count a commit."""
        self.commits_total += 1
        self.snapshots_total += snapshot
        self.positions = positions

    def by_input(self) -> Iterator[tuple[str, int, int, int]]:
        """Give (input, records, bytes, lag) of each input."""
        for role in Role:
            yield role.name.lower(), self.records_total[role], self.bytes_total[role], self.lag_records[role]

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
