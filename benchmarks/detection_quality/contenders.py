"""Who takes part: detectors of ours, river's, frouros' and MOA's, each with what may be tuned about it."""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from detectors.protocol import Detector, Domain
from detectors.registry import make, names

Family = Literal["ours", "river", "frouros", "moa"]
Axis = Literal["large", "small"]
"""Whether large or small values of the tuned parameter make alarms rare."""

NOMINAL = 10_000.0
"""The run length that is asked of those who let it be asked: events between false alarms."""
STREAM_EVENTS = 20_000
"""Events in a stable stream: what a bound on the probability of *ever* alarming is held against."""


class Contender(NamedTuple):
    """A detector with its parameters."""

    family: Family
    name: str
    domain: Domain = "bernoulli"
    parameters: tuple[tuple[str, Any], ...] = ()
    nominal: float | None = None
    """The run length that its parameters promise; None where they promise none."""
    guaranteed: bool = False
    """Whether that is a theorem, and not an approximation."""
    share: float = 1.0
    """The share of the simulated streams that it is run over: the slow ones get fewer."""
    note: str = ""
    """What tells it from the same detector with other parameters."""
    inverted: bool = False
    """river's FHDDM wants 1 for a correct prediction, whatever its documentation says."""

    @property
    def label(self) -> str:
        """Name it in a table."""
        name = f"{self.name}, {self.note}" if self.note else self.name
        return name if self.family == "ours" else f"{self.family} {name}"

    def with_parameters(self, extra: Mapping[str, Any]) -> "Contender":
        """Give the same detector with other parameters."""
        return self._replace(parameters=tuple({**dict(self.parameters), **extra}.items()))


def made(contender: Contender) -> Detector:
    """Make a detector of ours or river's. The others run in programs of their own."""
    name = contender.name if contender.family == "ours" else f"river:{contender.name}"
    return make(name, **dict(contender.parameters))


_EVENTS = "expected_events_between_false_alarms"
_EVER = STREAM_EVENTS / 0.02
# False alarm probability .01, and the reference's bound may fail with probability .01: at most .02 alarms a stream.

_ASKED: dict[str, tuple[dict[str, Any], float, bool]] = {
    "e_sr": ({_EVENTS: NOMINAL}, NOMINAL, True),
    "e_cusum": ({_EVENTS: NOMINAL}, NOMINAL, True),
    "conformal": ({_EVENTS: NOMINAL}, NOMINAL, True),
    "betting": ({}, _EVER, True),
    "empirical_bernstein": ({}, _EVER, True),
    "cusum": ({"run_length": NOMINAL}, NOMINAL, False),
    "page_hinkley": ({"run_length": NOMINAL}, NOMINAL, False),
}
_SHARES = {"kswin": 0.5}


def ours() -> list[Contender]:
    """Give every registered detector of ours, with a run length of 10,000 where one can be asked."""
    found = []
    for name in names():
        parameters, nominal, guaranteed = _ASKED.get(name, ({}, None, False))
        contender = Contender("ours", name, make(name).domain, tuple(parameters.items()), nominal, guaranteed)
        found.append(contender._replace(share=_SHARES.get(name, 1.0)))
    return found


RIVER = [
    Contender("river", "ADWIN", "real"),
    Contender("river", "DDM"),
    Contender("river", "EDDM"),
    Contender("river", "FHDDM", inverted=True),
    Contender("river", "HDDMA", share=0.4),
    Contender("river", "HDDMW", share=0.4),
    Contender("river", "KSWIN", "real", share=0.02),
    Contender("river", "PageHinkley", "real"),
]

FROUROS = [
    Contender("frouros", "ADWIN", "real", share=0.02),
    Contender("frouros", "CUSUM", "real", share=0.02),
    Contender("frouros", "DDM", share=0.02),
    Contender("frouros", "ECDDWT", share=0.02),
    Contender("frouros", "EDDM", share=0.02),
    Contender("frouros", "GeometricMovingAverage", "real", share=0.02),
    Contender("frouros", "HDDMA", share=0.02),
    Contender("frouros", "HDDMW", share=0.02),
    Contender("frouros", "KSWIN", "real", share=0.02),
    Contender("frouros", "PageHinkley", "real", share=0.02),
    Contender("frouros", "RDDM", share=0.02),
    Contender("frouros", "STEPD", share=0.02),
]

MOA = [
    Contender("moa", "ADWINChangeDetector", "real"),
    Contender("moa", "CusumDM", "real"),
    Contender("moa", "DDM"),
    Contender("moa", "EDDM"),
    Contender("moa", "EWMAChartDM"),
    Contender("moa", "GeometricMovingAverageDM", "real"),
    Contender("moa", "HDDM_A_Test"),
    Contender("moa", "HDDM_W_Test"),
    Contender("moa", "PageHinkleyDM", "real"),
    Contender("moa", "RDDM"),
    Contender("moa", "SEEDChangeDetector", "real"),
    Contender("moa", "STEPD"),
]


class Tuned(NamedTuple):
    """The one parameter by which a contender is brought to a run length, and where it may lie."""

    contender: Contender
    parameter: str
    low: float
    high: float
    rare_when: Axis


def tunable() -> list[Tuned]:
    """Give everyone who can be brought to a run length, with a range that surely holds it."""
    chance: tuple[float, float, Axis] = (1e-12, 0.5, "small")
    events: tuple[float, float, Axis] = (2.0, 1e9, "large")
    own = {
        "adwin": ("delta", *chance),
        "conformal": (_EVENTS, *events),
        "cusum": ("run_length", 100.0, 1e9, "large"),
        "ddm": ("drift_level", 0.5, 12.0, "large"),
        "e_cusum": (_EVENTS, *events),
        "e_sr": (_EVENTS, *events),
        "eddm": ("noise_level", 0.05, 20.0, "large"),
        "ewma": ("limit", 0.5, 12.0, "large"),
        "fhddm": ("confidence", 1e-30, 0.5, "small"),
        "hddm_a": ("drift_confidence", *chance),
        "hddm_w": ("drift_confidence", *chance),
        "kswin": ("alpha", *chance),
        "page_hinkley": ("run_length", 100.0, 1e9, "large"),
    }
    rivers = {
        "ADWIN": ("delta", *chance),
        "DDM": ("drift_threshold", 0.5, 12.0, "large"),
        "EDDM": ("beta", 0.3, 0.949, "small"),
        "FHDDM": ("confidence_level", 1e-20, 0.5, "small"),
        "HDDMA": ("drift_confidence", *chance),
        "HDDMW": ("drift_confidence", *chance),
        "PageHinkley": ("threshold", 1.0, 500.0, "large"),
    }
    plain = [Tuned(c._replace(parameters=()), *own[c.name]) for c in ours() if c.name in own]
    longer = Contender("ours", "e_sr", "unit", (("reference_size", 1_500),), note="reference 1,500")
    plain.append(Tuned(longer, *own["e_sr"]))
    return plain + [Tuned(c, *rivers[c.name]) for c in RIVER if c.name in rivers]
