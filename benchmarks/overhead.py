"""What exactly-once costs: throughput with commits against without, a snapshot of everything, and its recovery.

Both runs are the same service over the same records of many models, from its empty state until the core has seen the
last record; the one without commits is told to commit but once, at the end. A snapshot is what the graceful stop
writes: all models have changed since the last. A service snapshots every `snapshot_interval_ms`, so its share of the
time is added to that of the commits. Recovery is that of a service which stopped gracefully: one that was killed also
works again through what came since its last snapshot, at the speed of the monitor.
"""

import asyncio
import statistics
import tempfile
from pathlib import Path
from typing import NamedTuple

from benchmarks.events import Workload
from benchmarks.monitor import MANY_RATE, many_models
from benchmarks.running import (
    Inputs,
    Spent,
    Stopwatch,
    carrier,
    committed,
    configured,
    filled,
    running,
    watched,
)
from service.eventlog.protocol import Log
from service.runtime.settings import RuntimeSettings

ROUNDS = 3
NEVER_MS = 86_400_000
NO_COMMITS = {
    "commit_interval_ms": NEVER_MS,
    "snapshot_interval_ms": NEVER_MS,
    "urgent_commit_interval_ms": NEVER_MS,
    "max_pending_bytes": 1 << 40,
}


class Run(NamedTuple):
    """One run with commits."""

    work: Spent
    stop: Spent
    recovery: Spent


async def with_commits(log: Log, inputs: Inputs, models: int) -> Run:
    """Run, stop gracefully, start again."""
    config = configured(inputs, many_models(models))
    async with running(log, config) as worker:
        watch = Stopwatch()
        await watched(worker, inputs)
        work = watch.read()
        await committed(worker, inputs)
        watch = Stopwatch()
    stop, watch = watch.read(), Stopwatch()
    async with running(log, config):
        return Run(work, stop, watch.read())


async def without_commits(log: Log, inputs: Inputs, models: int) -> Spent:
    """Run until everything has been watched, and commit only then; gives the time before that."""
    async with running(log, configured(inputs, many_models(models), **NO_COMMITS)) as worker:
        watch = Stopwatch()
        await watched(worker, inputs)
        return watch.read()


async def measure(kind: str, models: int, predictions: int, rounds: int = ROUNDS) -> dict[str, object]:
    """Compare on one carrier."""
    runs, bare = [], []
    with tempfile.TemporaryDirectory() as directory:
        async with carrier(kind, Path(directory)) as (log, _):
            inputs = await filled(log, Workload(models=models, events_per_second=MANY_RATE), predictions)
            for _ in range(rounds):
                runs.append(await with_commits(log, inputs, models))
                bare.append(await without_commits(log, inputs, models))
    pairs = list(zip(runs, bare, strict=True))
    stop_s = statistics.median(each.stop.wall_s for each in runs)
    return {
        "case": f"{kind}, {models} models of 20 features",
        "commits_cost_ratio": round(
            statistics.median(run.work.wall_s / without.wall_s for run, without in pairs) - 1, 3
        ),
        "commits_cost_ratio_by_cpu": round(
            statistics.median(run.work.cpu_s / without.cpu_s for run, without in pairs) - 1, 3
        ),
        "snapshot_cost_ratio": round(stop_s * 1000 / RuntimeSettings().snapshot_interval_ms, 3),
        "snapshot_s": round(stop_s, 2),
        "recover_s": round(statistics.median(each.recovery.wall_s for each in runs), 2),
        "recover_cpu_s": round(statistics.median(each.recovery.cpu_s for each in runs), 2),
        "records_per_s": round(inputs.records / statistics.median(each.work.wall_s for each in runs)),
        "records_per_s_without_commits": round(inputs.records / statistics.median(each.wall_s for each in bare)),
        "records": inputs.records,
        "rounds": rounds,
    }


def run(scale: float, kinds: tuple[str, ...] = ("kafka", "sqlite")) -> list[dict[str, object]]:
    """Measure all carriers."""
    models, predictions = max(int(1_000 * scale), 2), max(int(200_000 * scale), 2_000)
    return [asyncio.run(measure(kind, models, predictions)) for kind in kinds]
