"""What exactly-once costs: throughput with commits against without, a snapshot of everything, and its recovery.

Both runs are the same service over the same records of many models, measured from the moment when every model has its
reference windows until the core has seen the last record; the one without commits is told to commit but once, at the
end. Rounds alternate, and every other one begins with the other run. Neither takes a snapshot meanwhile. What one costs
is measured by itself, as the graceful stop that writes it: all models have changed since the last, which is the worst
case. A service takes one every `snapshot_interval_ms`, and sooner where it worked for `max_repeat_ms`, so the larger of
both shares of the time is added to that of the commits.

Recovery is measured twice, to the moment when the service is ready: after that graceful stop, and after the kill -9 of
a real process which had worked, since its last snapshot, for as long as the settings let it.
"""

import asyncio
import statistics
import tempfile
from pathlib import Path
from typing import NamedTuple

from benchmarks.events import Workload, time_ms
from benchmarks.killing import Killed, killed
from benchmarks.monitor import MANY_RATE, many_models
from benchmarks.running import (
    Carrier,
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
WARM = 140
"""Predictions of each model before measuring begins. References are 100 events and 100 outcomes, with labels 1,000
predictions behind: at 1,000 models that is one more of each; the rest is for those whose labels came unevenly."""
NEVER_MS = 86_400_000
NO_SNAPSHOTS = {"snapshot_interval_ms": NEVER_MS, "max_repeat_ms": NEVER_MS}
NO_COMMITS = {
    **NO_SNAPSHOTS,
    "commit_interval_ms": NEVER_MS,
    "urgent_commit_interval_ms": NEVER_MS,
    "max_pending_bytes": 1 << 40,
}


class Load(NamedTuple):
    """What both runs have to do."""

    inputs: Inputs
    models: int
    warm_ms: int
    """Event time at which measuring begins."""


class Run(NamedTuple):
    """One run with commits."""

    work: Spent
    stop: Spent
    recovery: Spent
    commits: int


async def with_commits(log: Log, load: Load) -> Run:
    """Run, stop gracefully, start again."""
    config = configured(load.inputs, many_models(load.models), **NO_SNAPSHOTS)
    async with running(log, config) as worker:
        await watched(worker, load.warm_ms)
        watch, before = Stopwatch(), worker.stats[0].commits_total
        await watched(worker, load.inputs.newest_ms)
        work, commits = watch.read(), worker.stats[0].commits_total - before
        await committed(worker, load.inputs)
        watch = Stopwatch()
    stop, watch = watch.read(), Stopwatch()
    async with running(log, config):
        return Run(work, stop, watch.read(), commits)


async def without_commits(log: Log, load: Load) -> Spent:
    """Run until everything has been watched, and commit only then; gives the time before that."""
    async with running(log, configured(load.inputs, many_models(load.models), **NO_COMMITS)) as worker:
        await watched(worker, load.warm_ms)
        watch = Stopwatch()
        await watched(worker, load.inputs.newest_ms)
        return watch.read()


async def measure(kind: str, models: int, predictions: int, rounds: int = ROUNDS) -> dict[str, object]:
    """Compare on one carrier."""
    runs, bare = [], []
    with tempfile.TemporaryDirectory() as directory:
        async with carrier(kind, Path(directory)) as opened:
            load = await _load(opened, models, predictions)
            for number in range(rounds):
                if number % 2:
                    bare.append(await without_commits(opened.log, load))
                runs.append(await with_commits(opened.log, load))
                if not number % 2:
                    bare.append(await without_commits(opened.log, load))
            core = many_models(models)
            unsaved = configured(load.inputs, core, **NO_SNAPSHOTS)
            crash = await killed(opened, Path(directory), unsaved, load.warm_ms, load.inputs.records)
    return {
        "case": f"{kind}, {models} models of 20 features",
        **_figures(runs, bare, crash),
        "records": load.inputs.records,
        "rounds": rounds,
    }


async def _load(opened: Carrier, models: int, predictions: int) -> Load:
    workload = Workload(models=models, events_per_second=MANY_RATE)
    inputs = await filled(opened.log, workload, predictions)
    return Load(inputs, models, time_ms(min(WARM * models, predictions // 2), workload))


def _figures(runs: list[Run], bare: list[Spent], crash: Killed) -> dict[str, object]:
    pairs = list(zip(runs, bare, strict=True))
    settings = RuntimeSettings()
    stop_s = statistics.median(each.stop.wall_s for each in runs)
    every_s = min(settings.snapshot_interval_ms, settings.max_repeat_ms) / 1000
    return {
        "commits_cost_ratio": round(
            statistics.median(run.work.wall_s / without.wall_s for run, without in pairs) - 1, 3
        ),
        "commits_cost_ratio_by_cpu": round(
            statistics.median(run.work.cpu_s / without.cpu_s for run, without in pairs) - 1, 3
        ),
        "snapshot_cost_ratio": round(stop_s / every_s, 3),
        "snapshot_s": round(stop_s, 2),
        "snapshot_cpu_s": round(statistics.median(each.stop.cpu_s for each in runs), 2),
        "recover_s": round(statistics.median(each.recovery.wall_s for each in runs), 2),
        "recover_cpu_s": round(statistics.median(each.recovery.cpu_s for each in runs), 2),
        "recover_after_kill_s": round(crash.recovery.wall_s, 2),
        "recover_after_kill_cpu_s": round(crash.recovery.cpu_s, 2),
        "worked_before_kill_s": round(crash.worked_s, 2),
        "repeated_records": crash.repeated_records,
        "work_s": round(statistics.median(each.work.wall_s for each in runs), 2),
        "work_cpu_s": round(statistics.median(each.work.cpu_s for each in runs), 2),
        "work_without_commits_s": round(statistics.median(each.wall_s for each in bare), 2),
        "work_without_commits_cpu_s": round(statistics.median(each.cpu_s for each in bare), 2),
        "commits": statistics.median(each.commits for each in runs),
    }


def run(scale: float, kinds: tuple[str, ...] = ("kafka", "sqlite")) -> list[dict[str, object]]:
    """Measure all carriers."""
    models = max(int(1_000 * scale), 2)
    return [asyncio.run(measure(kind, models, max(2 * WARM * models, 2_000))) for kind in kinds]
