"""Feeds broken records to codec and task, and counts: nothing crashes, nothing hangs, nothing is lost or told twice."""

import os
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple, get_args

import numpy as np

from schemas.cloudevents import to_message
from schemas.outputs import DeadLetter
from schemas.rejection import Reason
from service.core.decode import Rejected, decode_block
from service.core.intake import Block, Positions, Role
from service.core.prepare import TaskTopics
from service.core.settings import (
    ConceptDriftSettings,
    CoreSettings,
    DetectorSettings,
    FeatureDriftSettings,
    JoinSettings,
    ModelProfile,
    PerformanceSettings,
)
from service.core.task import Task
from tests.core.stream import ALL_IDLE, START_MS, TOPICS
from tests.fuzz.mill import Mill

BATCH = 4000
SHARES = {Role.CONTROL: 0.02, Role.PREDICTIONS: 0.58, Role.LABELS: 0.4}
RESTORE_EVERY = 50
"""Batches between two restorations of the task from its own state: odd names must survive that too."""
BATCH_LIMIT_S = 20.0
"""Of CPU time, which a busy machine does not stretch: a batch takes about 0.2 s, so one that takes so long hangs."""

SETTINGS = CoreSettings(
    default=ModelProfile(
        segments=("country",),
        max_segment_values=5,
        concept_drift=ConceptDriftSettings(detectors=(DetectorSettings(name="ddm"),)),
        feature_drift=FeatureDriftSettings(max_features=30, max_categories=20),
        performance=PerformanceSettings(max_window_outcomes=500, max_classes=10),
        snapshot_interval_ms=600_000,
    ),
    join=JoinSettings(max_entries=5000, label_horizon_ms=600_000, orphan_horizon_ms=60_000),
    tick_ms=60_000,
    max_models=24,
    max_unpredicted_models=24,
    max_record_bytes=65_536,
)


class Figures(NamedTuple):
    """What was counted."""

    records: int
    events: int
    dead_letters: Counter[str]
    """By reason: those that the codec refused, and those that the core could not use."""
    outputs: int
    seconds: float
    slowest_batch_s: float
    grown_bytes: int
    """Resident memory at the end, above that at a quarter of the way."""

    def __str__(self) -> str:
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in self.dead_letters.most_common())
        return (
            f"{self.records:,} records in {self.seconds:.0f} s ({self.records / self.seconds:,.0f}/s; slowest batch "
            f"{self.slowest_batch_s:.1f} s): {self.events:,} events, {self.outputs:,} outputs, memory "
            f"{self.grown_bytes / 1e6:+.0f} MB; dead letters: {reasons}"
        )


class Campaign:
    """One task that is fed for long."""

    def __init__(self, seed: int, records: int) -> None:
        self._mill = Mill(seed)
        self._task = Task(SETTINGS, TaskTopics(*TOPICS[:3], partition=0), Positions(0, 0, 0))
        self._entries: dict[str, bytes] = {}
        # One byte a record, claimed at the start, so that what grows later is the task's.
        self._buried = {role: np.zeros(int(records * share) + 2 * BATCH, np.uint8) for role, share in SHARES.items()}
        self._refused: Counter[str] = Counter()
        self._unusable: Counter[str] = Counter()
        self._unusable_predictions = 0
        self._accepted = dict.fromkeys(Role, 0)
        self._outputs = 0
        self._records = 0

    def run(self, records: int) -> Figures:
        """Feed so many; raises AssertionError where a count does not fit."""
        began = time.monotonic()
        slowest, settled = 0.0, 0
        batches = -(-records // BATCH)
        for number in range(batches):
            start = time.process_time()
            self._batch(START_MS + number * BATCH * 20)
            if number % RESTORE_EVERY == RESTORE_EVERY - 1:
                self._restore()
            slowest = max(slowest, time.process_time() - start)
            assert slowest < BATCH_LIMIT_S, f"batch {number} took {slowest:.0f} s"
            if number == batches // 4:
                settled = resident_bytes()
        self._restore()
        self._check_totals()
        return Figures(
            self._records,
            sum(self._accepted.values()),
            self._refused + self._unusable,
            self._outputs,
            time.monotonic() - began,
            slowest,
            resident_bytes() - settled,
        )

    def _batch(self, now_ms: int) -> None:
        refused: dict[tuple[str, int], str] = {}
        for role, share in SHARES.items():
            refused.update(self._offer(role, self._mill.records(role, int(BATCH * share), now_ms), now_ms))
        while (result := self._task.step(ALL_IDLE, BATCH)) is not None:
            self._outputs += len(result.outputs)
            for output in result.outputs:
                to_message(output, source="tidegauge/fuzz")
                if isinstance(output, DeadLetter):
                    self._bury(output, refused)
        assert not refused, f"refused, but no dead letter: {refused}"

    def _offer(self, role: Role, values: list[bytes | None], now_ms: int) -> dict[tuple[str, int], str]:
        """Decode; give what was refused, by its place, and why."""
        first = self._task.intake.position(role)
        offsets = np.arange(first, first + len(values))
        stamps = np.full(len(values), now_ms)
        block: Block = decode_block(role, offsets, stamps, values, first + len(values), SETTINGS)
        self._task.intake.offer(role, block)
        bad = np.flatnonzero(block.times_ms < 0).tolist()
        self._records += len(values)
        self._accepted[role] += len(values) - len(bad)
        refused = {}
        for row in bad:
            rejected: Rejected = block.events[row]
            assert rejected.rejection.reason in get_args(Reason)
            refused[TOPICS.of(role), int(offsets[row])] = rejected.rejection.reason
        return refused

    def _bury(self, letter: DeadLetter, refused: dict[tuple[str, int], str]) -> None:
        role = Role(TOPICS.index(letter.topic))
        self._buried[role][letter.offset] += 1
        assert self._buried[role][letter.offset] == 1, f"two dead letters for {letter.topic}@{letter.offset}"
        assert letter.message
        wanted = refused.pop((letter.topic, letter.offset), None)
        if wanted is not None:
            assert letter.reason == wanted
            self._refused[letter.reason] += 1
        else:
            self._unusable[letter.reason] += 1
            self._unusable_predictions += role is Role.PREDICTIONS

    def _restore(self) -> None:
        for name, entry in self._task.changed_state().items():
            self._entries.pop(name, None)
            if entry is not None:
                self._entries[name] = entry
        positions = self._task.intake.taken
        self._task = Task.restore(SETTINGS, self._task.topics, positions, dict(self._entries))

    def _check_totals(self) -> None:
        """Every record was taken, and is an event or a dead letter; every prediction was watched, or says why not."""
        assert self._task.sequence == self._records
        assert sum(self._accepted.values()) + sum(self._refused.values()) == self._records
        counts = [version.counts.values for model in self._task.models.values() for version in model.versions.values()]
        watched = sum(count["predictions"] + count["duplicates"] for count in counts)
        assert watched + self._unusable_predictions == self._accepted[Role.PREDICTIONS]


def resident_bytes() -> int:
    """Say how much memory this process holds."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
