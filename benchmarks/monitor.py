"""The whole monitor on one core against `orjson.loads` of the same bytes, in the same run.

The monitor: bytes are decoded, merged, joined, watched by everything that the default profile switches on, and what
comes out is encoded for its topics. Rounds of both alternate, so that a busy machine slows both, and CPU time is
measured. The ratio is that of the totals: metric snapshots fall due in few rounds, and a median would leave them out.
Before the first round every model has its reference windows.
"""

import cProfile
import gc
import pstats
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import orjson

from benchmarks.events import START_MS, Slice, Workload, slices
from service.core.decode import decode_block
from service.core.intake import Positions, Role
from service.core.prepare import TaskTopics
from service.core.settings import ConceptDriftSettings, CoreSettings, FeatureDriftSettings, ModelProfile
from service.core.task import Task
from service.runtime.outbox import Outbox
from service.runtime.settings import RuntimeSettings, TopicSettings

CHUNK = 1_000
"""Records decoded at once: the carriers' fetches are cut so, because more decoded objects than fit a cache are slow."""
ROUNDS = 10
MANY_RATE = 4_000
"""Events a second of all models: the measured 200,000 are 50 s, in which each model writes one metric snapshot."""
LARGE_STEP = 20_000
"""A step costs something for each model that it touches, so many models want large ones: 20 records of each here."""


class Case(NamedTuple):
    """One figure."""

    name: str
    workload: Workload
    labels: bool
    warm_up: int
    """Predictions before the first round."""
    step_records: int = RuntimeSettings().max_step_records


def cases(scale: float) -> list[Case]:
    """Give what is measured. Each of a thousand models is past its reference and its first block (which makes bets)."""
    few, warm = int(2_000 * max(scale, 1.0)), int(320_000 * scale)
    many = Workload(models=max(int(1_000 * scale), 2), events_per_second=MANY_RATE)
    return [
        Case("1 model, 18 numbers and 2 categories, with labels", Workload(), True, few),
        Case("1 model, 18 numbers and 2 categories, no labels", Workload(), False, few),
        Case("1 model, 20 numbers, with labels", Workload(categorical=0), True, few),
        Case(f"{many.models} models, 18 numbers and 2 categories, with labels", many, True, warm),
        Case(f"{many.models} models, 18 numbers and 2 categories, no labels", many, False, warm),
        Case(f"{many.models} models, with labels, steps of {LARGE_STEP}", many, True, warm, LARGE_STEP),
    ]


class Monitor:
    """A task and its outbox, fed as the runtime feeds them."""

    def __init__(self, settings: CoreSettings, step_records: int) -> None:
        self._settings = settings
        self._step_records = step_records
        self.task = Task(settings, TaskTopics("control", "predictions", "labels", 0), Positions(0, 0, 0))
        self._outbox = Outbox(TopicSettings(), RuntimeSettings(), 0)
        self.outputs = 0

    def take(self, part: Slice) -> None:
        """Do everything that a slice of the stream asks for."""
        for start in range(0, len(part.predictions), self._step_records):
            stop = start + self._step_records
            self._offer(Role.PREDICTIONS, part.predictions[start:stop])
            self._offer(Role.LABELS, part.labels[start:stop])
            self._step()

    def _offer(self, role: Role, values: Sequence[bytes]) -> None:
        intake = self.task.intake
        for start in range(0, len(values), CHUNK):
            chunk, position = values[start : start + CHUNK], intake.position(role)
            offsets = np.arange(position, position + len(chunk))
            stamps = np.full(len(chunk), START_MS + 10**9)
            intake.offer(role, decode_block(role, offsets, stamps, chunk, position + len(chunk), self._settings))

    def _step(self) -> None:
        # All inputs are at their end, as on a service that keeps up.
        while (result := self.task.step(frozenset(Role), self._step_records)) is not None:
            self._outbox.add(result.outputs)
            self.outputs += len(result.outputs)
        self._outbox.clear()


class Round(NamedTuple):
    """CPU seconds of one round."""

    loads_s: float
    monitor_s: float


def measure(case: Case, predictions: int, profile: cProfile.Profile | None = None) -> dict[str, object]:
    """Measure one case over about so many predictions."""
    size = max(predictions // ROUNDS // CHUNK, 1) * CHUNK
    monitor = Monitor(many_models(case.workload.models), case.step_records)
    stream = slices(case.workload, size)
    _warm_up(monitor, stream, case)
    rounds = [_round(monitor, _labelled(next(stream), case), number, profile) for number in range(ROUNDS)]
    total = Round(sum(each.loads_s for each in rounds), sum(each.monitor_s for each in rounds))
    records, count = size * ROUNDS * (2 if case.labels else 1), size * ROUNDS
    return {
        "case": case.name,
        "ratio": round(total.monitor_s / total.loads_s, 2),
        "ratio_of_median_round": round(statistics.median(each.monitor_s / each.loads_s for each in rounds), 2),
        "monitor_records_per_s": round(records / total.monitor_s),
        "loads_records_per_s": round(records / total.loads_s),
        "monitor_us_per_prediction": round(total.monitor_s / count * 1e6, 2),
        "rounds": ROUNDS,
        "predictions_per_round": size,
        "step_records": case.step_records,
        "outputs": monitor.outputs,
    }


def _warm_up(monitor: Monitor, stream: Iterator[Slice], case: Case) -> None:
    done = 0
    while done < case.warm_up:
        part = _labelled(next(stream), case)
        monitor.take(part)
        done += len(part.predictions)


def _labelled(part: Slice, case: Case) -> Slice:
    return part if case.labels else part._replace(labels=[])


def _round(monitor: Monitor, part: Slice, number: int, profile: cProfile.Profile | None) -> Round:
    gc.collect()
    if number % 2:
        monitor_s = _watch(monitor, part, profile)
        return Round(_load(part), monitor_s)
    loads_s = _load(part)
    return Round(loads_s, _watch(monitor, part, profile))


def _load(part: Slice) -> float:
    began = time.process_time()
    for values in part:
        for start in range(0, len(values), CHUNK):
            [orjson.loads(value) for value in values[start : start + CHUNK]]
    return time.process_time() - began


def _watch(monitor: Monitor, part: Slice, profile: cProfile.Profile | None) -> float:
    if profile is not None:
        profile.enable()
    began = time.process_time()
    monitor.take(part)
    spent = time.process_time() - began
    if profile is not None:
        profile.disable()
    return spent


def many_models(models: int) -> CoreSettings:
    """Give the default settings; for many models with shorter references, so that each gets past its own."""
    if models == 1:
        return CoreSettings()
    profile = ModelProfile(
        feature_drift=FeatureDriftSettings(reference_events=100),
        concept_drift=ConceptDriftSettings(reference_outcomes=100),
    )
    return CoreSettings(default=profile)


def run(scale: float, *, profile: bool = False) -> list[dict[str, object]]:
    """Measure all cases; `profile` prints where the monitor spends its time."""
    results = []
    for case in cases(scale):
        recorded = cProfile.Profile() if profile else None
        results.append(measure(case, int(200_000 * scale), recorded))
        if recorded is not None:
            print(case.name, file=sys.stderr)
            pstats.Stats(recorded, stream=sys.stderr).sort_stats("tottime").print_stats(25)
    return results
