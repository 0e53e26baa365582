"""Each known defect as a small program: what the library does, and what ours does with the same values."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import numpy as np
import river.drift

from benchmarks.detection_quality.contenders import Contender, Family
from benchmarks.detection_quality.elsewhere import alarms_elsewhere, frouros_python, output
from benchmarks.detection_quality.running import alarms
from benchmarks.detection_quality.streams import Values, shifting
from detectors.adwin import ADWIN
from detectors.hddm_w import HDDMW
from detectors.kswin import KSWIN
from detectors.protocol import Level

drift: Any = river.drift  # untyped
RUNS = 200


class Shown(NamedTuple):
    """What came of a program: in words, and whether the defect was there."""

    words: str
    defective: bool


class Defect(NamedTuple):
    """A known defect. `theirs` shows it in the library, `ours` runs the same values through ours."""

    library: str
    what: str
    theirs: Callable[[], Shown] | None
    """None where the library cannot be installed here: the defect was read in its source."""
    ours: Callable[[], Shown]

    @property
    def family(self) -> Family:
        """Whose library it is."""
        return cast("Family", self.library.split()[0].lower())


def _errors(rate: float, count: int, seed: int = 7) -> Values:
    return (np.random.default_rng(seed).random(count) < rate).astype(np.float64)


def _contender(family: Family, name: str, **parameters: object) -> Contender:
    return Contender(family, name, parameters=tuple(parameters.items()))


# --- DDM ------------------------------------------------------------------------------------------------------------


def _one_error(family: Family, name: str) -> Shown:
    stream = np.zeros(4_001)
    stream[4_000] = 1.0
    found = _alarms(family, name, stream)
    return Shown("drift at the one error" if found else "no drift", bool(found))


def _missed(family: Family, name: str) -> Shown:
    """Count runs of .1 to .15 that are not seen within 4,000 events, of those without an earlier alarm."""
    streams = shifting(0.1, 0.15, 2_000, 4_000, RUNS, 11)
    found = [alarms(_contender(family, name), stream, at_most=1) for stream in streams]
    kept = [places for places in found if not places or places[0] >= 2_000]
    share = sum(not places for places in kept) / len(kept)
    return Shown(f"{share:.0%} of {len(kept)} rises not seen", share > 0.1)


def _alarms(family: Family, name: str, stream: Values, **parameters: object) -> list[int]:
    contender = _contender(family, name, **parameters)
    if family in ("ours", "river"):
        return alarms(contender, stream)
    return alarms_elsewhere(contender, [stream])[0]


# --- ADWIN ----------------------------------------------------------------------------------------------------------


def _window_river() -> Shown:
    detector = drift.ADWIN()
    for index, value in enumerate(np.concatenate([_errors(0.1, 2_000), _errors(0.6, 400)]).tolist()):
        before = detector.width
        detector.update(value)
        if detector.drift_detected:
            at_drift = detector.width
            detector.update(value)
            return Shown(f"drift at {index}: window {before:.0f}, {at_drift:.0f}, then {detector.width:.0f}", True)
    return Shown("no drift", False)


def _window_ours() -> Shown:
    detector = ADWIN()
    taken = detector.update_many(np.concatenate([_errors(0.1, 2_000), _errors(0.6, 400)])).consumed
    before = detector.snapshot()["body"]["width"]
    detector.rebase()
    after = detector.snapshot()["body"]["width"]
    return Shown(f"drift at {taken - 1}: window {before}, then {after}", after < 8)


def _late_jump(family: Family, name: str) -> Shown:
    """Every prediction is wrong from one value on, after 2,000 errors at .1; checked at every value."""
    stream = np.concatenate([_errors(0.1, 2_000), np.ones(200)])
    found = [place - 2_000 for place in _alarms(family, name, stream, clock=1) if place >= 2_000]
    return Shown(f"seen after {found[0]} values" if found else "not seen", not found or found[0] > 30)


# --- Page-Hinkley ---------------------------------------------------------------------------------------------------


def _scale(family: Family, name: str) -> Shown:
    """Run a stable normal stream of 5,000, then a shift of two deviations, at three scales."""
    rng = np.random.default_rng(3)
    stream = np.concatenate([rng.normal(size=5_000), rng.normal(2.0, 1.0, size=500)])
    words, counts = [], set()
    for scale in (0.01, 1.0, 100.0):
        found = _alarms(family, name, stream * scale)
        false = sum(place < 5_000 for place in found)
        counts.add((false, len(found) > false))
        words.append(f"x{scale:g}: {false} false, shift {'seen' if len(found) > false else 'missed'}")
    return Shown("; ".join(words), len(counts) > 1)


def _late(family: Family, name: str) -> Shown:
    """.2 to .4 after 2,000 stable events: median delay of 50 runs."""
    streams = shifting(0.2, 0.4, 2_000, 3_000, 50, 13)
    contender = _contender(family, name)
    found = (
        [alarms(contender, stream, at_most=1) for stream in streams]
        if family == "ours"
        else alarms_elsewhere(contender, streams)
    )
    firsts = [places[0] if places else 5_000 for places in found]
    delay = float(np.median([first - 2_000 for first in firsts if first >= 2_000]))
    return Shown(f"median delay {delay:,.0f}", delay > 300)


# --- FHDDM, HDDM, KSWIN, EDDM ---------------------------------------------------------------------------------------


def _falling(family: Family, name: str) -> Shown:
    """Let the error rate fall from .5 to .1: an improvement."""
    found = _alarms(family, name, np.concatenate([_errors(0.5, 2_000), _errors(0.1, 2_000, seed=8)]))
    return Shown(f"{len(found)} alarms", any(place >= 2_000 for place in found))


def _bound_river() -> Shown:
    """Give the sum of squared weights behind the bound, after one value of weight 1."""
    detector = drift.binary.HDDMW(lambda_val=0.05)
    detector.update(1)
    return _too_tight(vars(detector)["_total"].__dict__["_ibc"])


_ONE_VALUE = """
from frouros.detectors.concept_drift.streaming.statistical_process_control.hddm import SampleInfo
sample = SampleInfo(lambda_=0.05)
sample.update(1.0)
print(sample.independent_bound_condition)
"""


def _bound_frouros() -> Shown:
    return _too_tight(float(output([str(frouros_python()), "-c", _ONE_VALUE])))


def _too_tight(squares: float) -> Shown:
    return Shown(
        f"squared weights of one value: {squares:.3f}; bound {1.0 - squares**0.5:.1%} too tight", squares < 1.0
    )


def _bound_ours() -> Shown:
    detector = HDDMW(weight=0.05, drift_confidence=0.001)
    detector.update(1.0)
    edge = detector.snapshot()["body"]["rise"]["edge"]
    # edge = mean + sqrt(squares ln(1/a) / 2), and the mean is 1.
    squares = (edge - 1.0) ** 2 * 2.0 / np.log(1000.0)
    return Shown(f"squared weights of one value: {squares:.3f}", abs(squares - 1.0) > 1e-9)


def _unseeded() -> Shown:
    stream = np.random.default_rng(5).normal(size=3_000)
    found = []
    for _ in range(2):
        detector, places = drift.KSWIN(), []
        for index, value in enumerate(stream.tolist()):
            detector.update(value)
            places += [index] if detector.drift_detected else []
        found.append(places)
    began = time.process_time()
    detector = drift.KSWIN(seed=1)
    for value in stream.tolist():
        detector.update(value)
    spent = (time.process_time() - began) / len(stream) * 1e6
    return Shown(f"two runs: {len(found[0])} and {len(found[1])} alarms; {spent:.0f} us an event", found[0] != found[1])


def _seeded() -> Shown:
    stream = np.random.default_rng(5).normal(size=3_000)
    found = [_alarms("ours", "kswin", stream) for _ in range(2)]
    began = time.process_time()
    KSWIN().update_many(stream)
    spent = (time.process_time() - began) / len(stream) * 1e6
    return Shown(f"two runs: {len(found[0])} and {len(found[1])} alarms; {spent:.1f} us an event", found[0] != found[1])


def _stable(family: Family, name: str, **parameters: object) -> Shown:
    """50 stable streams of 1,000 errors at .1: how many alarm at all."""
    streams = [_errors(0.1, 1_000, seed=100 + i) for i in range(50)]
    contender = _contender(family, name, **parameters)
    found = (
        [alarms(contender, stream, at_most=1) for stream in streams]
        if family in ("ours", "river")
        else alarms_elsewhere(contender, streams)
    )
    share = sum(bool(places) for places in found)
    return Shown(f"{share} of 50 stable streams alarm", share > 25)


def _shared(family: Family) -> Shown:
    """Run a detector over a rise of the error rate, alone and beside another one over a stable stream."""
    rise = np.concatenate([_errors(0.1, 1_000), _errors(0.5, 300, seed=9)])
    calm = np.zeros(len(rise))
    if family == "moa":
        alone = alarms_elsewhere(_contender("moa", "HDDM_W_Test"), [rise])[0]
        beside = alarms_elsewhere(_contender("moa", "HDDM_W_Test"), [rise, calm], together=True)[0]
    else:
        alone = _alarms("ours", "hddm_w", rise)
        one, other, beside = HDDMW(), HDDMW(), []
        for index, (first, second) in enumerate(zip(rise.tolist(), calm.tolist(), strict=True)):
            if one.update(first) is Level.DRIFT:
                beside.append(index)
                one.rebase()
            other.update(second)
    return Shown(f"alone {alone[:3]}, beside another {beside[:3]}", alone != beside)


def _fall_is_seen() -> Shown:
    found = _alarms(
        "ours", "hddm_w", np.concatenate([_errors(0.5, 1_000), _errors(0.05, 1_000, seed=8)]), two_sided=True
    )
    return Shown(f"a fall from .5 to .05 is seen at {[p for p in found if p >= 1_000][:1]}", not found)


def _variance_is_kept() -> Shown:
    values = np.random.default_rng(4).normal(size=10_000)
    detector = ADWIN(delta=1e-9)
    detector.update_many(values)
    body = detector.snapshot()["body"]
    kept = body["spread"] / body["width"] / float(np.var(values[: body["width"]]))
    return Shown(f"variance of the window over the true one: {kept:.6f}", abs(kept - 1.0) > 1e-6)


DEFECTS = [
    Defect(
        "river DDM",
        "one error after 4,000 correct predictions is a drift (p_min = s_min = 0)",
        lambda: _one_error("river", "DDM"),
        lambda: _one_error("ours", "ddm"),
    ),
    Defect("MOA DDM", "the same", lambda: _one_error("moa", "DDM"), lambda: _one_error("ours", "ddm")),
    Defect(
        "river DDM",
        "never forgets: a rise from .1 to .15 is not seen within 4,000 events",
        lambda: _missed("river", "DDM"),
        lambda: _missed("ours", "ddm"),
    ),
    Defect("river EDDM", "alarms on stable streams", lambda: _stable("river", "EDDM"), lambda: _stable("ours", "eddm")),
    Defect("river ADWIN", "throws its window away after a drift", _window_river, _window_ours),
    Defect(
        "frouros ADWIN",
        "a sign error in the bound, and the newest bucket is skipped: late",
        lambda: _late_jump("frouros", "ADWIN"),
        lambda: _late_jump("ours", "adwin"),
    ),
    Defect(
        "river PageHinkley",
        "depends on the scale of the stream",
        lambda: _scale("river", "PageHinkley"),
        lambda: _scale("ours", "page_hinkley"),
    ),
    Defect(
        "MOA PageHinkleyDM",
        "has no floor: .2 to .4 takes hundreds of events",
        lambda: _late("moa", "PageHinkleyDM"),
        lambda: _late("ours", "page_hinkley"),
    ),
    Defect(
        "frouros PageHinkley",
        "the same",
        lambda: _late("frouros", "PageHinkley"),
        lambda: _late("ours", "page_hinkley"),
    ),
    Defect(
        "river FHDDM",
        "alarms when the error rate falls",
        lambda: _falling("river", "FHDDM"),
        lambda: _falling("ours", "fhddm"),
    ),
    Defect("river HDDMW", "its bound is one step ahead, up to 5 % too tight", _bound_river, _bound_ours),
    Defect("frouros HDDMW", "the same", _bound_frouros, _bound_ours),
    Defect(
        "frouros HDDMW",
        "two-sided, it always alarms (a non-empty tuple is true)",
        lambda: _stable("frouros", "HDDMW", two_sided_test=True),
        lambda: _stable("ours", "hddm_w", two_sided=True),
    ),
    Defect(
        "MOA HDDM_W_Test",
        "keeps its state in static fields: two detectors share it",
        lambda: _shared("moa"),
        lambda: _shared("ours"),
    ),
    Defect("river KSWIN", "unseeded by default, a scipy call for each event", _unseeded, _seeded),
    Defect("scikit-multiflow HDDM_W", "its test for a fall never fires", None, _fall_is_seen),
    Defect("scikit-multiflow ADWIN", "loses variance when buckets merge", None, _variance_is_kept),
]
