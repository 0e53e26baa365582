"""Any of river's drift detectors behind our protocol.

river is imported when an adapter is made and not before: importing `river.drift` takes 0.6 s and loads scipy.
"""

import inspect
import random
import zlib
from collections import deque
from typing import Any, ClassVar

import numpy as np

from detectors.columns import column, number
from detectors.parameters import Parameter
from detectors.protocol import Domain, Level, Progress, State, StateError, Values, Verdict
from detectors.sealing import VERSION, require_envelope

PREFIX = "river:"

DEEPEST = 8
"""Attributes of attributes that are followed. river's detectors have three levels; deeper ones are refused."""

_PLAIN = (bool, int, float, str, type(None))


class RiverDetector:
    """One of river's detectors, by class name: `river:PageHinkley`, `river:binary.FHDDM` or `river:FHDDM`.

    river says only whether there is a warning or a drift: the statistic is 1 for a drift, 0.5 for a warning, 0
    otherwise, and the threshold 1. There is no estimate of the change point. river's detectors reset themselves with
    the first value after a drift, whether or not the owner does.

    A snapshot is the detector's own attributes as plain data, written back into a newly made one on restore: no class
    is ever looked up by a name in a snapshot. What river keeps in Rust it gives as bytes that only the same release is
    sure to read, so a snapshot from another release of river is refused. A detector with attributes that are neither
    plain data, nor river's, nor a `random.Random` cannot be snapshotted and is refused when it is made. Where a class
    takes a `seed` it is 0 unless given, since unseeded detectors are not repeatable.
    """

    name: ClassVar[str] = "river"
    domain: ClassVar[Domain] = "real"

    def __init__(self, river_name: str, parameters: dict[str, Any]) -> None:
        """Make it anew. `river_detector` knows which of the two classes takes its values."""
        self._class = _find(river_name)
        self._river_name = river_name
        known = _parameters(self._class)
        for name in parameters:
            if name not in known:
                raise ValueError(f"$.{name}: unknown parameter, expected one of {', '.join(sorted(known)) or 'none'}")
        self._parameters = dict(parameters)
        if "seed" in known and self._parameters.get("seed") is None:
            self._parameters["seed"] = 0
        _require_plain(self._parameters)
        self.reset()
        _captured(self._detector, "$", 0)

    def update(self, value: float) -> Level:
        """Take one value and say the level after it."""
        return self._take(self._native(number(value, self.domain)))

    def update_many(self, values: Values | list[float]) -> Progress:
        """Take values (shape (n,)) in order, stopping behind the first that drifts."""
        for index, value in enumerate(column(values, self.domain).tolist()):
            if self._take(self._native(value)) is Level.DRIFT:
                return Progress(index + 1, Level.DRIFT)
        return Progress(len(values), self._level())

    def verdict(self) -> Verdict:
        """Say the level, which is all that river says."""
        level = self._level()
        return Verdict(level=level, statistic=level / 2.0, threshold=1.0, sample_count=self._count)

    def reset(self) -> None:
        """Become as new."""
        self._detector = self._made(self._parameters)
        self._count = 0

    def rebase(self) -> None:
        """Forget everything, which is what river does."""
        self.reset()

    def snapshot(self) -> State:
        """Give the detector's attributes as plain data."""
        return {
            "version": VERSION,
            "detector": PREFIX + self._river_name,
            "parameters": dict(self._parameters),
            "river": _river_version(),
            "count": self._count,
            "body": _captured(self._detector, "$", 0),
        }

    def restore(self, state: State) -> None:
        """Take over a snapshot. Raises StateError for another detector's, another release's, or a damaged one."""
        require_envelope(state, PREFIX + self._river_name)
        if state.get("river") != _river_version():
            raise StateError(f"$.river: expected {_river_version()}, got {state.get('river')}: its bytes may differ")
        count, parameters = state.get("count"), state.get("parameters")
        if type(count) is not int or not isinstance(parameters, dict):
            raise StateError("the snapshot of a river detector is damaged: $.count or $.parameters is missing")
        try:
            made = self._made(parameters)
        except ValueError as error:
            raise StateError(f"the snapshot of a river detector is damaged: {error}") from error
        _write_back(made, state.get("body"), "$")
        self._detector, self._parameters, self._count = made, dict(parameters), count

    def _made(self, parameters: dict[str, Any]) -> Any:
        """Make river's object. What it refuses is a ValueError, whatever river makes of it."""
        try:
            return self._class(**parameters)
        except (TypeError, ValueError) as error:
            raise ValueError(f"$: {PREFIX}{self._river_name} refuses {parameters}: {error}") from error

    def _native(self, value: float) -> float | int:
        """Give river's binary detectors the whole number that their documentation asks for."""
        return int(value) if self.domain == "bernoulli" else value

    def _take(self, value: float) -> Level:
        self._detector.update(value)
        self._count += 1
        return self._level()

    def _level(self) -> Level:
        if self._detector.drift_detected:
            return Level.DRIFT
        return Level.WARNING if getattr(self._detector, "warning_detected", False) else Level.STABLE


class RiverBinaryDetector(RiverDetector):
    """One of river's detectors for zeros and ones."""

    domain: ClassVar[Domain] = "bernoulli"


def river_detector(river_name: str, parameters: dict[str, Any]) -> RiverDetector:
    """Make a river detector by class name. Raises ValueError for an unknown name or parameter."""
    is_binary = any(parent.__name__.startswith("Binary") for parent in _find(river_name).__mro__)
    return (RiverBinaryDetector if is_binary else RiverDetector)(river_name, parameters)


def river_parameters(river_name: str) -> dict[str, Parameter]:
    """Give what a river detector takes, from its signature: names and defaults. river checks the values itself."""
    return {
        name: Parameter(expected="what river expects", default=default, annotation=Any)
        for name, default in _parameters(_find(river_name)).items()
    }


def _find(river_name: str) -> type[Any]:
    """Give river's class of that name. Raises ValueError where there is none, naming those that there are."""
    from river import drift  # noqa: PLC0415 - 0.6 s, see the top of this file
    from river.base.drift_detector import _BaseDriftDetector  # noqa: PLC0415 - the one root of them all

    found = {
        name: value
        for module in (drift, drift.binary)
        for name, value in vars(module).items()
        if inspect.isclass(value) and issubclass(value, _BaseDriftDetector)
    }
    short = river_name.removeprefix("binary.")
    if short not in found:
        raise ValueError(f"unknown river detector {river_name!r}, expected one of {', '.join(sorted(found))}")
    return found[short]


def _parameters(detector: type[Any]) -> dict[str, Any]:
    arguments = inspect.signature(detector).parameters.values()
    return {a.name: None if a.default is inspect.Parameter.empty else a.default for a in arguments}


def _require_plain(parameters: dict[str, Any]) -> None:
    for name, value in parameters.items():
        if not isinstance(value, _PLAIN):
            kind = type(value).__name__
            # A ValueError, as for any parameter that a configuration got wrong.
            raise ValueError(f"$.{name}: expected a number, a string, true, false or null, got a {kind}")  # noqa: TRY004


def _river_version() -> str:
    from river.__version__ import __version__  # noqa: PLC0415 - 0.6 s, see the top of this file

    return str(__version__)


def _captured(value: Any, path: str, depth: int) -> Any:
    """Give a value as plain data, anything but numbers and strings as {kind: content}."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, (list, deque)):
        return {"items": [_captured(item, f"{path}[{i}]", DEEPEST) for i, item in enumerate(value)]}
    if isinstance(value, random.Random):
        return {"generator": list(value.getstate()[1])}
    if inspect.ismethod(value):
        return {"method": value.__name__}
    inner = _inner(value)
    if isinstance(inner, bytes):
        return {"bytes": inner, "crc32": zlib.crc32(inner)}
    if not isinstance(inner, dict) or depth >= DEEPEST:
        raise ValueError(f"{path}: a {type(value).__name__} in river's detector cannot be given as plain data")
    return {"attributes": {name: _captured(part, f"{path}.{name}", depth + 1) for name, part in inner.items()}}


def _inner(value: Any) -> Any:
    """Give what an object of river's holds: bytes where it is Rust, a dict where it is Python; None for others."""
    if not type(value).__module__.startswith("river."):
        return None
    return value.__getstate__() if hasattr(value, "__setstate__") else vars(value)


def _write_back(target: Any, captured: Any, path: str) -> None:
    """Write captured attributes into an object that was newly made with the same parameters."""
    attributes = captured.get("attributes") if isinstance(captured, dict) else None
    if not isinstance(attributes, dict) or set(attributes) != set(vars(target)):
        raise StateError(f"the snapshot of a river detector is damaged: {path} has other attributes")
    for name, part in attributes.items():
        where, present = f"{path}.{name}", getattr(target, name)
        if isinstance(part, _PLAIN):
            setattr(target, name, part)
        elif not isinstance(part, dict):
            raise StateError(f"the snapshot of a river detector is damaged: {where}")
        elif "attributes" in part:
            _write_back(present, part, where)
        elif isinstance(present, (list, deque)):
            present.clear()
            present.extend(_plain_items(part, where))
        else:
            _set_opaque(present, part, where)


def _plain_items(part: dict[str, Any], path: str) -> list[Any]:
    items = part.get("items")
    if not isinstance(items, list) or not all(isinstance(item, _PLAIN) for item in items):
        raise StateError(f"the snapshot of a river detector is damaged: {path}")
    return items


def _set_opaque(present: Any, part: dict[str, Any], path: str) -> None:
    """Set a generator or what river keeps in Rust; a method follows from the parameters and must be the same."""
    if inspect.ismethod(present) and part == {"method": present.__name__}:
        return
    try:
        if isinstance(present, random.Random):
            present.setstate((3, tuple(part["generator"]), None))
            return
        # A wrong byte ends in a panic of Rust's, which is no Exception: so bytes are checked before they get there.
        if isinstance(part["bytes"], bytes) and zlib.crc32(part["bytes"]) == part["crc32"]:
            present.__setstate__(part["bytes"])
            return
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise StateError(f"the snapshot of a river detector is damaged: {path}") from error
    raise StateError(f"the snapshot of a river detector is damaged: {path}")
