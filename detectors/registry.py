"""Every detector by name. A new one is one line in `DETECTORS`."""

from collections.abc import Callable, Mapping
from typing import Any, Final, cast

from detectors.adwin import ADWIN
from detectors.betting import Betting
from detectors.conformal import Conformal
from detectors.cusum import CUSUM
from detectors.ddm import DDM
from detectors.e_detector import ESR, ECusum
from detectors.eddm import EDDM
from detectors.empirical_bernstein import EmpiricalBernstein
from detectors.ewma import EWMA
from detectors.fhddm import FHDDM
from detectors.hddm_a import HDDMA
from detectors.hddm_w import HDDMW
from detectors.kswin import KSWIN
from detectors.page_hinkley import PageHinkley
from detectors.parameters import Parameter, checked, parameters_of
from detectors.protocol import Detector, State, StateError
from detectors.river_adapter import PREFIX, river_detector, river_parameters

DETECTORS: Final[dict[str, type[Detector]]] = {
    "adwin": ADWIN,
    "betting": Betting,
    "conformal": Conformal,
    "cusum": CUSUM,
    "ddm": DDM,
    "e_cusum": ECusum,
    "e_sr": ESR,
    "eddm": EDDM,
    "empirical_bernstein": EmpiricalBernstein,
    "ewma": EWMA,
    "fhddm": FHDDM,
    "hddm_a": HDDMA,
    "hddm_w": HDDMW,
    "kswin": KSWIN,
    "page_hinkley": PageHinkley,
}


def names() -> list[str]:
    """Give the names of our own detectors, sorted. `river:NAME` names any of river's."""
    return sorted(DETECTORS)


def make(name: str, /, **parameters: Any) -> Detector:
    """Make a new detector, by the name of one of ours, `river:NAME`, or the class name of a river detector.

    Raises ValueError for an unknown name, and for an unknown or ill-typed parameter with its path.
    """
    detector = DETECTORS.get(name)
    if detector is None:
        return river_detector(_river_name(name), parameters)
    # A protocol says nothing of constructors, so the class is called as what it is: a callable.
    return cast("Callable[..., Detector]", detector)(**checked(detector, parameters))


def restore(state: State) -> Detector:
    """Make the detector that a snapshot was taken of, in the state that it was in.

    Raises StateError when the snapshot names no detector, is from a newer version, or is damaged.
    """
    name = state.get("detector")
    if not isinstance(name, str) or not isinstance(state.get("parameters"), Mapping):
        raise StateError(f"$.detector: expected the name of a detector with its parameters, got {name!r}")
    try:
        detector = make(name, **state["parameters"])
    except (TypeError, ValueError) as error:
        raise StateError(f"the snapshot of {name} cannot be restored: {error}") from error
    # None asks a constructor for its default; what was stored is what it came to, so that here it is damage.
    missing = [key for key, value in state["parameters"].items() if value is None]
    if missing and any(detector.snapshot()["parameters"].get(key) is not None for key in missing):
        raise StateError(f"$.parameters.{missing[0]}: expected a value, got null")
    detector.restore(state)
    return detector


def parameters(name: str) -> dict[str, Parameter]:
    """Give what a detector takes: name to what is expected, in words, and the default."""
    detector = DETECTORS.get(name)
    return river_parameters(_river_name(name)) if detector is None else parameters_of(detector)


def _river_name(name: str) -> str:
    """Give the river class that a name means."""
    if name.startswith(PREFIX):
        return name.removeprefix(PREFIX)
    if name[:1].isupper():
        return name
    raise ValueError(f"unknown detector {name!r}, expected one of {', '.join(names())} or {PREFIX}NAME")
