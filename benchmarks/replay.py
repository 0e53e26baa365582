"""Replay against a bare decode of the same records, and a sweep of 50 configurations against one replay.

The bare decode reads the same topics, or the same Parquet file, and makes Python objects of every record
(`orjson.loads`, `to_pylist`), and nothing else. Rounds alternate, and the median of their ratios counts. A replay does
all that the live service does but commit: decode, merge, join, every monitor of the default profile, and the outputs'
bytes.
"""

import asyncio
import itertools
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import msgspec
import orjson
import pyarrow as pa
from pyarrow import parquet

from benchmarks.events import Workload, slices
from benchmarks.running import Spent, Stopwatch, bare_log, carrier, committed, configured, filled, running
from schemas.outputs import Output
from service.config import Config
from service.core.intake import Positions
from service.core.settings import (
    AlertSettings,
    ConceptDriftSettings,
    CoreSettings,
    DetectorSettings,
    FeatureDriftSettings,
)
from service.replay.file_feed import FILE_END, FileRequest
from service.replay.mapping import ColumnMapping
from service.replay.plan import Edge, TaskPlan, make_plan
from service.replay.run import Origin
from service.replay.session import Settings, replay_tasks
from service.replay.sinks import CallSink, Marks, Sink
from service.replay.sweep.run import sweep
from service.runtime.outbox import Outbox

ROUNDS = 3

Work = Callable[[], Awaitable[Spent]]


class Encoded:
    """A sink that makes the outputs' bytes and lets go of them."""

    def __init__(self, config: Config) -> None:
        self._outbox = Outbox(config.topics, config.runtime, 0)

    def take(self, outputs: Sequence[Output]) -> None:
        """Encode."""
        self._outbox.add(outputs)
        self._outbox.clear()


async def replayed(config: Config, origin: Origin, plans: Sequence[TaskPlan]) -> Spent:
    """Replay everything."""

    async def make(plan: TaskPlan, marks: Marks | None) -> Sink:
        del plan, marks
        return CallSink(Encoded(config).take)

    settings, watch = Settings(config.core, config.runtime, config.topics), Stopwatch()
    await replay_tasks(settings, origin, plans, make, None, lambda _: None)
    return watch.read()


async def measure_log(kind: str, predictions: int, *, recorded: bool) -> dict[str, object]:
    """Compare on one carrier, with the steps of a live run or without."""
    with tempfile.TemporaryDirectory() as directory:
        async with carrier(kind, Path(directory)) as (log, _):
            inputs = await filled(log, Workload(), predictions)
            config = configured(inputs, CoreSettings())
            if recorded:
                async with running(log, config) as worker:
                    await committed(worker, inputs)
            first, last = Edge("earliest"), Edge("recorded" if recorded else "latest")
            plan, boundaries = await make_plan(log, config.topics, first, last, "auto", warm_up=False)
            origin = Origin(config.topics.inputs, log, boundaries)
            name = f"{kind}, {'as recorded' if recorded else 'merged by event time'}"
            return await _compare(
                name, inputs.records, lambda: bare_log(log, inputs), lambda: replayed(config, origin, plan.tasks)
            )


def write_parquet(path: Path, predictions: int) -> None:
    """Write the workload as a table: a column a feature, the label in the row of its prediction."""
    truth: dict[str, object] = {}
    rows: list[dict[str, object]] = []
    for part in itertools.islice(slices(Workload(), 1_000), predictions // 1_000 + 2):
        for value in part.predictions:
            event = orjson.loads(value)
            rows.append({**event.pop("features"), **event})
        truth.update((label["prediction_id"], label["label"]) for label in map(orjson.loads, part.labels))
    table = [{**row, "label": truth[str(row["prediction_id"])]} for row in rows[:predictions]]
    parquet.write_table(pa.Table.from_pylist(table), path)


def file_origin(path: Path, config: Config) -> tuple[Origin, list[TaskPlan]]:
    """Say how the table is read."""
    mapping = ColumnMapping(
        model_id="@model_id",
        model_version="@model_version",
        prediction_id="prediction_id",
        prediction="prediction",
        score="score",
        label="label",
        time="event_time_ms",
        latency="latency_ms",
    )
    request = FileRequest(path=str(path), mapping=mapping, label_delay_events=1_000)
    plan = TaskPlan(partition=0, start=Positions(0, 0, 0), end=Positions(0, FILE_END, FILE_END))
    return Origin(config.topics.inputs, file=request), [plan]


async def bare_parquet(path: Path) -> Spent:
    """Read the table into Python objects."""
    watch = Stopwatch()
    for batch in parquet.ParquetFile(path).iter_batches(batch_size=10_000):
        batch.to_pylist()
    return watch.read()


async def measure_parquet(predictions: int) -> dict[str, object]:
    """Compare on a file."""
    with tempfile.TemporaryDirectory() as directory:
        path, config = Path(directory) / "events.parquet", Config()
        write_parquet(path, predictions)
        origin, plans = file_origin(path, config)
        return await _compare(
            "parquet", 2 * predictions, lambda: bare_parquet(path), lambda: replayed(config, origin, plans)
        )


async def _compare(name: str, records: int, bare: Work, replay: Work) -> dict[str, object]:
    pairs = [(await bare(), await replay()) for _ in range(ROUNDS)]
    return {
        "case": name,
        "ratio": round(statistics.median(slow.wall_s / quick.wall_s for quick, slow in pairs), 2),
        "ratio_by_cpu": round(statistics.median(slow.cpu_s / quick.cpu_s for quick, slow in pairs), 2),
        "replay_records_per_s": round(records / statistics.median(slow.wall_s for _, slow in pairs)),
        "replay_records_per_cpu_s": round(records / statistics.median(slow.cpu_s for _, slow in pairs)),
        "bare_records_per_s": round(records / statistics.median(quick.wall_s for quick, _ in pairs)),
        "records": records,
        "rounds": ROUNDS,
    }


def on_outcomes() -> list[CoreSettings]:
    """Give 50 that differ in what is done with outcomes: five detectors, five references, two ways to alert."""
    made = []
    for name, size, pending_ms in itertools.product(
        ("e_sr", "e_cusum", "adwin", "ddm", "page_hinkley"), (200, 300, 500, 1_000, 2_000), (0, 60_000)
    ):
        drift = ConceptDriftSettings(detectors=(DetectorSettings(name=name),), reference_outcomes=size)
        default = msgspec.structs.replace(
            CoreSettings().default, concept_drift=drift, alerts=AlertSettings(pending_for_ms=pending_ms)
        )
        made.append(CoreSettings(default=default))
    return made


def on_features() -> list[CoreSettings]:
    """Give 50 that differ in how features are watched, which is what costs most: none has anything in common."""
    made = []
    for size, block, bins in itertools.product((500, 700, 1_000, 1_500, 2_000), (100, 150, 200, 300, 400), (10, 20)):
        drift = FeatureDriftSettings(reference_events=size, block_events=block, bins=bins)
        made.append(CoreSettings(default=msgspec.structs.replace(CoreSettings().default, feature_drift=drift)))
    return made


async def measure_sweep(what: str, cores: Sequence[CoreSettings], predictions: int) -> dict[str, object]:
    """Compare many configurations in one process with one replay, both from SQLite."""
    with tempfile.TemporaryDirectory() as directory:
        async with carrier("sqlite", Path(directory)) as (log, _):
            inputs = await filled(log, Workload(), predictions)
            config = configured(inputs, CoreSettings())
            edges = Edge("earliest"), Edge("latest")
            plan, _ = await make_plan(log, config.topics, *edges, "auto", warm_up=False)
            origin, settings = Origin(config.topics.inputs, log), Settings(config.core, config.runtime, config.topics)
            pairs = []
            for _ in range(ROUNDS):
                one, watch = await replayed(config, origin, plan.tasks), Stopwatch()
                await sweep(cores, settings, origin, plan.tasks, None, lambda _: None)
                pairs.append((one, watch.read()))
    return {
        "case": f"sweep of {len(cores)} configurations of {what}, one process",
        "ratio": round(statistics.median(many.wall_s / one.wall_s for one, many in pairs), 2),
        "ratio_by_cpu": round(statistics.median(many.cpu_s / one.cpu_s for one, many in pairs), 2),
        "records": inputs.records,
        "rounds": ROUNDS,
    }


def measure_sweep_command(predictions: int) -> dict[str, object]:
    """Compare the command `sweep`, on all cores, with the command `replay`; starting the processes counts."""
    with tempfile.TemporaryDirectory() as made:
        directory = Path(made)
        records = asyncio.run(_write_setting(directory, predictions))
        pairs = []
        for number in range(ROUNDS):
            one = _spent(directory, "replay", "--out", directory / f"out-{number}")
            pairs.append((one, _spent(directory, "sweep", "--plan", directory / "plan.yaml", "--json")))
    return {
        "case": f"the command sweep of {len(on_features())} configurations of feature drift, {os.cpu_count()} cores",
        "ratio": round(statistics.median(many.wall_s / one.wall_s for one, many in pairs), 2),
        "ratio_by_cpu": round(statistics.median(many.cpu_s / one.cpu_s for one, many in pairs), 2),
        "sweep_s": round(statistics.median(many.wall_s for _, many in pairs), 2),
        "sweep_cpu_s": round(statistics.median(many.cpu_s for _, many in pairs), 2),
        "records": records,
        "rounds": ROUNDS,
    }


async def _write_setting(directory: Path, predictions: int) -> int:
    """Write a filled log, the configuration that names it, and a plan of 50 changes."""
    async with carrier("sqlite", directory) as (log, _):
        inputs = await filled(log, Workload(), predictions)
    config = msgspec.to_builtins(configured(inputs, CoreSettings()))
    config["log"] = {"carrier": "sqlite", "sqlite": {"path": str(directory / "log.sqlite")}}
    names = ("reference_events", "block_events", "bins")
    changes = [
        {f"core.default.feature_drift.{name}": getattr(core.default.feature_drift, name) for name in names}
        for core in on_features()
    ]
    (directory / "config.json").write_bytes(msgspec.json.encode(config))  # JSON is YAML
    (directory / "plan.yaml").write_bytes(msgspec.json.encode({"list": [{"set": change} for change in changes]}))
    return inputs.records


def _spent(directory: Path, command: str, *options: object) -> Spent:
    watch, before = Stopwatch(), resource.getrusage(resource.RUSAGE_CHILDREN)
    span = ("--from", "earliest", "--to", "latest")
    arguments = [sys.executable, "-m", "service", command, "-c", directory / "config.json", *span, *options]
    subprocess.run(list(map(str, arguments)), check=True, capture_output=True)  # noqa: S603  # our own command
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Spent(watch.read().wall_s, cpu_s)


def run(scale: float, kinds: Sequence[str] = ("sqlite", "kafka")) -> list[dict[str, object]]:
    """Measure everything."""
    predictions = max(int(100_000 * scale), 1_000) // 1_000 * 1_000
    results = [
        asyncio.run(measure_log(kind, predictions, recorded=recorded)) for kind in kinds for recorded in (True, False)
    ]
    results.append(asyncio.run(measure_parquet(predictions)))
    sweeps = (("detectors and alerts", on_outcomes()), ("feature drift", on_features()))
    results += [asyncio.run(measure_sweep(what, cores, predictions)) for what, cores in sweeps]
    return [*results, measure_sweep_command(predictions)]
