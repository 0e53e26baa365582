"""Streams, cuts and detectors for the laws that every detector obeys."""

from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from hypothesis import strategies as st

from detectors.protocol import Detector, Level, Values
from detectors.registry import make, names


@dataclass(frozen=True)
class Variant:
    """A detector with parameters: those of the registry as they come, and small ones that meet every branch sooner."""

    name: str
    parameters: tuple[tuple[str, Any], ...] = ()

    def new(self) -> Detector:
        return make(self.name, **dict(self.parameters))

    @property
    def domain(self) -> str:
        return self.new().domain

    @property
    def most(self) -> int:
        """How long its streams may be: river's KSWIN costs some 400 us a value."""
        return 90 if self.name == "river:KSWIN" else 700

    def __str__(self) -> str:
        return " ".join([self.name, *(f"{key}={value}" for key, value in self.parameters)])


def variant(name: str, **parameters: Any) -> Variant:
    return Variant(name, tuple(parameters.items()))


OWN = [variant(name) for name in names()]

SMALL = [
    variant("adwin", delta=0.2, clock=1, max_buckets=2, min_window_length=1, grace_period=1),
    variant("adwin", delta=0.05, clock=7, max_buckets=3),
    variant("adwin", compat="river"),
    variant("cusum", reference_size=30, run_length=100.0, direction="both"),
    variant("cusum", reference_size=40, run_length=200.0, allowance=0.5, direction="down"),
    variant("ddm", warm_start=1, memory=50, drift_level=2.0, warning_level=1.0),
    variant("ddm", warm_start=120, memory=70, floor=0.2),
    variant("ddm", compat="river"),
    variant("eddm", warm_start=4, noise_level=0.5),
    variant("eddm", compat="river"),
    variant("ewma", reference_size=30, limit=2.0, direction="both", weight=0.3),
    variant("ewma", reference_size=50, limit=1.5, direction="down", weight=0.02),
    variant("fhddm", window_size=20, confidence=0.1),
    variant("hddm_a", drift_confidence=0.05, two_sided=True),
    variant("hddm_w", drift_confidence=0.05, warning_confidence=0.2, weight=0.3, two_sided=True),
    variant("kswin", window_size=20, stat_size=8, alpha=0.1, clock=1),
    variant("kswin", window_size=31, stat_size=11, alpha=0.2, clock=3, seed=7),
    variant("kswin", compat="river", window_size=40, stat_size=15, alpha=0.05),
    variant("page_hinkley", reference_size=30, run_length=100.0, direction="both"),
    variant("page_hinkley", compat="river", threshold=4.0, min_instances=5),
]

RIVER = [
    variant("river:ADWIN", clock=8),
    variant("river:PageHinkley", threshold=5.0),
    variant("river:DDM"),
    variant("river:EDDM"),
    variant("river:HDDMA", two_sided_test=True),
    variant("river:HDDMW"),
    variant("river:binary.FHDDM", sliding_window_size=30, short_window_size=10, confidence_level=0.1),
    variant("river:DummyDriftDetector", trigger_method="random", t_0=50, w=10),
    variant("river:KSWIN", window_size=30, stat_size=10),
]

EVERY = OWN + SMALL + RIVER


@st.composite
def streams(draw: st.DrawFn, domain: str, most: int = 700) -> Values:
    """A stream of one to four pieces with their own means, of a kind that its detector takes."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    pieces = draw(st.integers(1, 4))
    means = np.array([draw(st.sampled_from([0.0, 0.01, 0.1, 0.3, 0.6, 0.95, 1.0])) for _ in range(pieces)])
    length = draw(st.integers(1, most))
    mean = np.repeat(means, -(-length // pieces))[:length]
    kinds = {"bernoulli": ["ones"], "unit": ["ones", "beta"], "real": ["ones", "beta", "normal", "ties", "scaled"]}
    kind = draw(st.sampled_from(kinds[domain]))
    if kind == "ones":
        return (rng.random(length) < mean).astype(np.float64)
    if kind == "beta":
        return rng.beta(4.0 * mean + 0.1, 4.1 - 4.0 * mean)
    values = rng.normal(size=length) + 4.0 * mean
    return np.round(values) if kind == "ties" else values * 10.0 ** draw(st.integers(-9, 9)) + 1e6 * (kind == "scaled")


def cuts() -> st.SearchStrategy[list[int]]:
    """Lengths of the pieces that a stream is given in; what is left over is the last piece."""
    return st.lists(st.integers(1, 250), max_size=8)


def feed(detector: Detector, values: Values | list[float], *, rebase: bool = True) -> list[int]:
    """Give all values through `update_many`, with a rebase after each drift; give the indices of the drifts."""
    drifts, taken = [], 0
    while taken < len(values):
        progress = detector.update_many(values[taken:])
        assert progress.consumed > 0
        taken += progress.consumed
        if progress.level is Level.DRIFT:
            drifts.append(taken - 1)
            if rebase:
                detector.rebase()
    return drifts


def feed_singly(detector: Detector, values: Values, *, rebase: bool = True) -> list[int]:
    """Do the same through `update`."""
    drifts = []
    for index, value in enumerate(values.tolist()):
        if detector.update(value) is Level.DRIFT:
            drifts.append(index)
            if rebase:
                detector.rebase()
    return drifts


def packed(detector: Detector) -> bytes:
    return msgspec.msgpack.encode(detector.snapshot())


def bernoulli(seed: int, *pieces: tuple[float, int]) -> Values:
    """Errors at given rates over given lengths."""
    rates = np.concatenate([np.full(length, rate) for rate, length in pieces])
    return (np.random.default_rng(seed).random(len(rates)) < rates).astype(np.float64)
