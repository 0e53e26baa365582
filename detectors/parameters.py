"""A detector's parameters are the keyword arguments of its `__init__`: types, bounds and defaults are read there.

Bounds are `msgspec.Meta` beside the type, so that the signature is the one place that states them, for the checker,
for `make(name, ...)` and for the configuration's documentation alike.
"""

import inspect
import math
import typing
from functools import lru_cache
from typing import Annotated, Any, Literal

import msgspec

Probability = Annotated[float, msgspec.Meta(gt=0.0, lt=1.0)]
Positive = Annotated[float, msgspec.Meta(gt=0.0, le=1e6)]
RunLength = Annotated[float, msgspec.Meta(ge=100.0, le=1e12)]
Seed = Annotated[int, msgspec.Meta(ge=0, le=2**62)]

_NOUNS = {float: "a number", int: "an integer", bool: "true or false", str: "a string"}


class Parameter(msgspec.Struct, frozen=True):
    """One parameter of a detector: what it may be, in words, and what it is unless given (None: it must be given)."""

    expected: str
    default: Any
    annotation: Any


@lru_cache(maxsize=256)
def parameters_of(detector: type) -> dict[str, Parameter]:
    """Read the parameters of a detector class from the signature of its `__init__`."""
    constructor = next(vars(cls)["__init__"] for cls in detector.__mro__ if "__init__" in vars(cls))
    hints = typing.get_type_hints(constructor, include_extras=True)
    found = {}
    for name, argument in inspect.signature(constructor).parameters.items():
        if argument.kind is inspect.Parameter.KEYWORD_ONLY:
            default = None if argument.default is inspect.Parameter.empty else argument.default
            found[name] = Parameter(expected=_expected(hints[name]), default=default, annotation=hints[name])
    return found


def checked(detector: type, given: dict[str, Any]) -> dict[str, Any]:
    """Give `given` in the types that the detector declares.

    An unknown or ill-typed parameter is a ValueError that names its path: `$.delta: expected a number in (0, 1), got
    2`.
    """
    known = parameters_of(detector)
    return {name: _checked_one(name, value, known) for name, value in given.items()}


def _checked_one(name: str, value: Any, known: dict[str, Parameter]) -> Any:
    parameter = known.get(name)
    if parameter is None:
        raise ValueError(f"$.{name}: unknown parameter, expected one of {', '.join(sorted(known))}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"$.{name}: expected {parameter.expected}, got {value}")
    try:
        return msgspec.convert(value, parameter.annotation)
    except msgspec.ValidationError:
        raise ValueError(f"$.{name}: expected {parameter.expected}, got {value!r}") from None


def _expected(annotation: Any) -> str:
    """Say in words what values an annotation allows."""
    origin = typing.get_origin(annotation)
    if origin is Annotated:
        kind, *extras = typing.get_args(annotation)
        return _expected(kind) + "".join(_bounds(extra) for extra in extras if isinstance(extra, msgspec.Meta))
    if origin is Literal:
        return "one of " + ", ".join(repr(choice) for choice in typing.get_args(annotation))
    choices = typing.get_args(annotation)
    if choices:
        return " or ".join(_expected(choice) for choice in choices)
    return "null" if annotation is type(None) else _NOUNS.get(annotation, str(annotation))


def _bounds(meta: msgspec.Meta) -> str:
    low = f"[{meta.ge:g}" if meta.ge is not None else f"({meta.gt:g}" if meta.gt is not None else "(-inf"
    high = f"{meta.le:g}]" if meta.le is not None else f"{meta.lt:g})" if meta.lt is not None else "inf)"
    return "" if low == "(-inf" and high == "inf)" else f" in {low}, {high}"
