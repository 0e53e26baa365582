"""What many producers write a little differently, and what it means: the slower way of decoding, for records that fail.

An identifier may be an integer (7 is "7"), an integer may be a float without a fraction (1790000000000.0), an event
time may be a text of ISO 8601 with its zone, also under the name `event_time`. Nothing is guessed: what does not say
what it means is refused with what would.

A struct of the wire and its relaxed twin have the same fields; in the twin those that may be written otherwise hold
anything, and are read here. All other fields msgspec checks as before.
"""

from collections.abc import Callable, Iterable
from operator import attrgetter
from typing import Any, Final, Generic, NamedTuple, TypeVar, get_args

import msgspec

from schemas.events import MAX_EPOCH_MS, MAX_ID_CHARS, Control, Label, Prediction
from schemas.instants import EXAMPLE, InstantError, likely_unit, read_instant
from schemas.rejection import Problem, ProblemError, explain_value

E = TypeVar("E")

IDENTIFIERS: Final = frozenset({"prediction_id", "model_id", "model_version", "row_id", "target"})
"""Fields in which an integer is an identifier."""
INTEGERS: Final = frozenset({"revision", "mute_for_ms"})
"""Fields in which a float without a fraction is an integer."""
TIME: Final = "event_time_ms"
TIME_AS_TEXT: Final = "event_time"
"""Read where there is no `event_time_ms`."""
MAX_ID_BITS: Final = 128
"""Of an identifier that is an integer: a UUID has as many."""
EXACT_TO: Final = 2**53
"""Up to here a float says which integer is meant."""


class Relaxed(Generic[E]):
    """Decodes what `structs` would refuse for its form alone."""

    def __init__(self, structs: Iterable[Any]) -> None:
        twins = {_twin(struct): _target(struct) for struct in structs}
        self._targets: dict[type, _Target] = twins
        union: Any = None
        for twin in twins:
            union = twin if union is None else union | twin
        self._decode: Callable[[bytes], Any] = msgspec.json.Decoder(union).decode

    def decode(self, text: bytes) -> E:
        """Decode one record. Raises ProblemError, or what msgspec raises on all that is not read here."""
        loose = self._decode(text)
        target = self._targets[type(loose)]
        values = dict(zip(target.names, target.get(loose), strict=True))
        for name in target.identifiers:
            value = values[name]
            # Most are texts as they should be, and this is where the time goes.
            if type(value) is not str or not 0 < len(value) <= MAX_ID_CHARS:
                if value is None and name in target.optional:
                    continue
                values[name] = _identifier(name, value, target.kinds[name])
        for name in target.integers:
            if values[name] != 0 or type(values[name]) is not int:  # 0, the default, needs no look
                values[name] = _checked(name, _integer(name, values[name]), target.kinds[name])
        values[TIME] = _event_time(values[TIME], loose.event_time)
        event: E = target.struct(**values)
        return event


class _Target(NamedTuple):
    struct: Any
    names: tuple[str, ...]
    get: Callable[[Any], tuple[Any, ...]]
    """Gives the values of a twin, in the order of `names`."""
    identifiers: list[str]
    optional: frozenset[str]
    """Those of them that may be null."""
    integers: list[str]
    kinds: dict[str, Any]
    """Types as the struct has them, with their bounds."""


def _target(struct: Any) -> _Target:
    fields = msgspec.structs.fields(struct)
    names = tuple(field.name for field in fields)
    identifiers, integers = ([name for name in names if name in loose] for loose in (IDENTIFIERS, INTEGERS))
    kinds = {field.name: field.type for field in fields}
    optional = frozenset(field.name for field in fields if field.name in IDENTIFIERS and field.default is None)
    return _Target(struct, names, attrgetter(*names), identifiers, optional, integers, kinds)


def _twin(struct: Any) -> type:
    config = struct.__struct_config__
    fields: list[Any] = []
    for field in msgspec.structs.fields(struct):
        if field.name == TIME:
            fields += [(TIME, Any, msgspec.UNSET), (TIME_AS_TEXT, Any, msgspec.UNSET)]
            continue
        kind = Any if field.name in IDENTIFIERS or field.name in INTEGERS else field.type
        fields.append((field.name, kind) if field.required else (field.name, kind, field.default))
    return msgspec.defstruct(
        struct.__name__, fields, tag=config.tag, tag_field=config.tag_field, kw_only=True, frozen=True, gc=False
    )


def _identifier(name: str, value: Any, kind: Any) -> Any:
    number = _integer(name, value)
    if type(number) is int:
        if number.bit_length() > MAX_ID_BITS:
            raise ProblemError(Problem("out_of_range", f"expected integer of at most {MAX_ID_BITS} bits", f"$.{name}"))
        return str(number)
    if not isinstance(value, str | None):
        raise ProblemError(Problem("wrong_type", f"expected string or integer, got {_json_type(value)}", f"$.{name}"))
    return _checked(name, value, kind)


def _integer(name: str, value: Any) -> Any:
    """Give the integer that a float without a fraction is; anything else as it is."""
    if type(value) is not float or not value.is_integer():
        return value
    if abs(value) > EXACT_TO:
        what = f"expected an integer, got {value!r}, which may be several"
        raise ProblemError(Problem("wrong_type", what, f"$.{name}"))
    return int(value)


def _checked(name: str, value: Any, kind: Any) -> Any:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise ProblemError(explain_value(error, f"$.{name}")) from error


def _event_time(number: Any, text: Any) -> int:
    if number is not msgspec.UNSET:
        return _time_of(number, "$.event_time_ms")
    if text is msgspec.UNSET:
        raise ProblemError(Problem("missing_field", "required, but missing", "$.event_time_ms"))
    if isinstance(text, str):
        return _time_of(text, "$.event_time")
    what = f"expected a time of ISO 8601 with its zone, as {EXAMPLE}, got {_json_type(text)}"
    raise ProblemError(Problem("wrong_type", f"{what}; milliseconds belong in event_time_ms", "$.event_time"))


def _time_of(value: Any, path: str) -> int:
    if isinstance(value, str):
        try:
            value = read_instant(value)
        except InstantError as error:
            raise ProblemError(Problem("wrong_type", str(error), path)) from error
    elif isinstance(value, bool) or not isinstance(value, int | float):
        what = f"expected an integer, or a time of ISO 8601 with its zone, got {_json_type(value)}"
        raise ProblemError(Problem("wrong_type", what, path))
    elif isinstance(value, float) and not value.is_integer():
        raise ProblemError(Problem("wrong_type", f"expected whole milliseconds, got {value!r}{_hint(value)}", path))
    if value < 0:
        raise ProblemError(Problem("out_of_range", "expected integer >= 0", path))
    if value > MAX_EPOCH_MS:
        raise ProblemError(Problem("out_of_range", f"expected integer <= {MAX_EPOCH_MS}{_hint(value)}", path))
    return int(value)


def _hint(number: float) -> str:
    unit = likely_unit(number)
    return "" if unit is None else f"; {unit}"


def _json_type(value: Any) -> str:
    names = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}
    return names.get(type(value), "null")


RELAXED_PREDICTION: Final[Relaxed[Prediction]] = Relaxed([Prediction])
RELAXED_LABEL: Final[Relaxed[Label]] = Relaxed([Label])
RELAXED_CONTROL: Final[Relaxed[Control]] = Relaxed(get_args(Control))
