"""Detectors run over streams, in this process or in programs of their own; the alarms are what comes out."""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any, NamedTuple, TypeVar

import numpy as np

from benchmarks.detection_quality.contenders import Contender, made
from benchmarks.detection_quality.elsewhere import alarms_elsewhere
from benchmarks.detection_quality.streams import Values
from detectors.protocol import Level

_processes = 2

Item = TypeVar("Item")
Result = TypeVar("Result")


def alarms(contender: Contender, stream: Values, *, at_most: int | None = None) -> list[int]:
    """Give the indices at which the detector drifts; the owner rebases it after each."""
    detector = made(contender)
    values = 1.0 - stream if contender.inverted else stream
    found: list[int] = []
    taken = 0
    while taken < len(values) and (at_most is None or len(found) < at_most):
        progress = detector.update_many(values[taken:])
        taken += progress.consumed
        if progress.level is Level.DRIFT:
            found.append(taken - 1)
            detector.rebase()
    return found


def all_alarms(contender: Contender, streams: Sequence[Values]) -> list[list[int]]:
    """Do so for many streams, each with a new detector."""
    if contender.family in ("ours", "river"):
        return [alarms(contender, stream) for stream in streams]
    return alarms_elsewhere(contender, streams)


class RunLength(NamedTuple):
    """What many stable streams say about the time between false alarms."""

    events: int
    alarms: int

    @property
    def mean(self) -> float:
        """Events for each alarm; with none at all, the events: then it is at least about that."""
        return self.events / max(self.alarms, 1)

    @property
    def upper(self) -> float:
        """The largest run length that the alarms leave plausible, at 97.5 %: Poisson's exact bound."""
        return self.events / _poisson_lower(self.alarms) if self.alarms else float("inf")


def run_length(contender: Contender, streams: Sequence[Values]) -> RunLength:
    """Count events and alarms over stable streams."""
    kept = streams[: max(1, round(len(streams) * contender.share))]
    return counted(all_alarms(contender, kept), sum(len(stream) for stream in kept))


def counted(found: Sequence[Sequence[int]], events: int) -> RunLength:
    """Count the alarms that were found in so many events."""
    return RunLength(events, sum(len(places) for places in found))


def _poisson_lower(count: int) -> float:
    """Give the mean under which `count` or more has probability 2.5 % (Garwood 1936)."""
    from scipy.stats import chi2  # noqa: PLC0415 - scipy.stats takes a second to load, and workers seldom need it

    return float(chi2.ppf(0.025, 2 * count) / 2.0)


def use_processes(count: int) -> None:
    """Say in how many processes work is done from now on: two, unless a shared machine has only one to spare."""
    global _processes  # noqa: PLW0603 - one command line, one number
    _processes = count


def side_by_side(work: Callable[[Item], Result], items: Iterable[Item], *, workers: int | None = None) -> list[Result]:
    """Do the work for all items, in two processes or as many as were said; the results come in the items' order."""
    workers = workers or _processes
    if workers == 1:
        return [work(item) for item in items]
    with ProcessPoolExecutor(max_workers=workers) as pool:
        return list(pool.map(work, items))


def mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    """Give the mean and its standard error."""
    column = np.asarray(values, dtype=np.float64)
    if len(column) < 2:
        return float(column.mean()) if len(column) else float("nan"), float("nan")
    return float(column.mean()), float(column.std(ddof=1) / np.sqrt(len(column)))


Rows = list[dict[str, Any]]
