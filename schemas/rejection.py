"""Why a record cannot be used, in words that a person can act on.

msgspec's errors name the path but speak Python and hide the keys of mappings; here they are turned into
`$.features.age: expected number, string, boolean or null, got array`.
"""

import re
from typing import Final, Literal, NamedTuple, get_args

import msgspec

from schemas import lenient_json
from schemas.events import Control, FeatureValue, FineTuneMode, Probability, ShortText, TrainingStatus, Vector

Reason = Literal[
    "no_value",  # a tombstone: the record has a key only
    "too_large",  # more bytes than the limit; not parsed
    "too_deep",  # nests deeper than lenient_json.MAX_NESTING; not parsed
    "invalid_utf8",
    "invalid_json",
    "not_finite",  # NaN, Infinity or a number no float holds, where it cannot be taken for missing
    "missing_field",
    "wrong_type",
    "unknown_value",  # none of the values that the field may have
    "out_of_range",  # a number beyond its bounds, a string too short or too long
    "too_many",  # more features, classes, segments, vectors or numbers in a vector than the limit
    "inconsistent",  # two fields contradict each other
    "unreadable",  # the log itself cannot read the record
    "isolated",  # the service fails at it, again after a restart
    "quarantined",  # of a model at which the service fails; it is watched again after reset_monitor
]
"""All the reasons there are. A consumer may rely on this list; new ones come with a new schema version."""

MAX_MESSAGE_CHARS = 300
"""Longest message. What is longer is cut: hostile input must not blow up the dead letters."""

DecodingError = msgspec.DecodeError | UnicodeDecodeError | RecursionError
"""All that msgspec raises on bytes; ValidationError is a DecodeError."""


class Problem(NamedTuple):
    """What is wrong and where."""

    reason: Reason
    message: str
    path: str = "$"


class ProblemError(ValueError):
    """Raised by what reads one field of a record."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


class Rejection(msgspec.Struct, frozen=True, gc=False):
    """One record that cannot be used: its index in the batch and what is wrong with it."""

    index: int
    reason: Reason
    message: str
    """For a person; starts with the path."""
    path: str
    model_id: str | None
    """As the record says, where that is found without parsing; for grouping, not for trust."""
    prediction_id: str | None = None
    """Likewise."""


_WHERE = re.compile(r" - at `(?:(key)` in `)?(.*)`\Z", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(.*)`\Z", re.DOTALL)
_UNKNOWN = re.compile(r"Invalid (?:enum )?value (.*)\Z", re.DOTALL)
_BOUND = re.compile(r"Expected `(\w+)` (?:of length )?[<>]=? \S+\Z")
_TYPE_NAMES = {
    "float": "number",
    "int": "integer",
    "str": "string",
    "bool": "boolean",
    "object": "object",
    "array": "array",
    "null": "null",
}
_TYPE_ORDER = {name: place for place, name in enumerate(_TYPE_NAMES)}
_ALLOWED = {
    "$.status": get_args(TrainingStatus),
    "$.mode": get_args(FineTuneMode),
    "$.type": tuple(str(struct.__struct_config__.tag) for struct in get_args(Control)),
}
_ITEM_DECODERS: Final[dict[str, msgspec.json.Decoder[object]]] = {
    "features": msgspec.json.Decoder(FeatureValue),
    "probabilities": msgspec.json.Decoder(Probability),
    "segments": msgspec.json.Decoder(ShortText),
    "embeddings": msgspec.json.Decoder(Vector),
}
_RAW_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
# A producer puts the model into the first fields; 4 KiB are enough and bound the search.
_NAME = rb'\s{0,8}:\s{0,8}(?:"([^"\\\x00-\x1f]{1,256})"|(-?[0-9]{1,40})(?=[\s,}]))'
_MODEL_ID = re.compile(rb'"model_id"' + _NAME)
_PREDICTION_ID = re.compile(rb'"prediction_id"' + _NAME)
_NAMES_WITHIN = 4096


def reject(index: int, value: bytes | None, problem: Problem) -> Rejection:
    """Put the problem and what the record says of its model into a Rejection."""
    message = f"{problem.path}: {problem.message}"
    if len(message) > MAX_MESSAGE_CHARS:
        message = message[: MAX_MESSAGE_CHARS - 1] + "…"
    model_id, prediction_id = (None, None) if value is None else find_names(value)
    return Rejection(index, problem.reason, message, problem.path, model_id, prediction_id)


def find_names(value: bytes) -> tuple[str | None, str | None]:
    """Find the first `model_id` and `prediction_id` in the record's first 4 KiB without parsing it."""
    return _find(_MODEL_ID, value), _find(_PREDICTION_ID, value)


def _find(pattern: re.Pattern[bytes], value: bytes) -> str | None:
    match = pattern.search(value, 0, _NAMES_WITHIN)
    try:
        return (match[1] or match[2]).decode() if match else None
    except UnicodeDecodeError:
        return None


def explain_value(error: msgspec.ValidationError, path: str) -> Problem:
    """Turn what msgspec raised on the value of one field into a Problem of that field."""
    return _explained(str(error), path, within_key=False)


def explain(value: bytes, error: DecodingError) -> Problem:
    """Turn what msgspec raised on this record into a Problem."""
    if isinstance(error, msgspec.ValidationError):
        return _explain_validation(value, str(error))
    if isinstance(error, RecursionError):
        return Problem("too_deep", "nests deeper than the stack allows")
    try:
        value.decode()
    except UnicodeDecodeError as exact:  # msgspec counts from the start of the string, not of the record
        return Problem("invalid_utf8", f"not UTF-8: {exact.reason} (byte {exact.start})")
    what = str(error).removeprefix("JSON is malformed: ")
    return Problem("invalid_json", f"not JSON: {'ends too early' if 'truncated' in what else what}")


def _explain_validation(value: bytes, text: str) -> Problem:
    where = _WHERE.search(text)
    what = text[: where.start()] if where else text
    path = _real_path(value, where[2]) if where else "$"
    if missing := _MISSING.match(what):
        return Problem("missing_field", "required, but missing", f"{path}.{missing[1]}")
    if unknown := _UNKNOWN.match(what):
        allowed = f", expected one of {', '.join(_ALLOWED[path])}" if path in _ALLOWED else ""
        return Problem("unknown_value", f"unknown value {unknown[1]}{allowed}", path)
    if what == "Number out of range":
        return Problem("not_finite", "expected a number that a 64-bit float holds", path)
    if what == "Integer value out of range":
        return Problem("out_of_range", "expected an integer that 64 bits hold", path)
    return _explained(what, path, within_key=bool(where and where[1]))


def _explained(what: str, path: str, *, within_key: bool) -> Problem:
    message = _in_json_words(what)
    if within_key:
        message = f"key: {message}"
    if bound := _BOUND.match(what):
        return Problem("too_many" if bound[1] in ("object", "array") else "out_of_range", message, path)
    return Problem("wrong_type", message, path)


def _in_json_words(what: str) -> str:
    """Turn "Expected `float | null`, got `str`" into "expected number or null, got string"."""
    return re.sub("`([^`]*)`", lambda types: _type_names(types[1]), what[:1].lower() + what[1:])


def _type_names(types: str) -> str:
    names = sorted(types.split(" | "), key=lambda name: _TYPE_ORDER.get(name, -1))
    *others, last = [_TYPE_NAMES.get(name, name) for name in names]
    return f"{', '.join(others)} or {last}" if others else last


def _real_path(value: bytes, path: str) -> str:
    """Find the key that msgspec hides behind `[...]`. All our mappings lie in a top-level field."""
    field, hidden, within = path.removeprefix("$.").partition("[...]")
    if not hidden or field not in _ITEM_DECODERS:
        return path
    decode = _ITEM_DECODERS[field].decode
    try:
        mapping = _RAW_OBJECT.decode(_RAW_OBJECT.decode(value)[field])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return path  # what follows the wrong value is not even JSON
    for key, item in mapping.items():
        try:
            decode(item)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return lenient_json.join(f"$.{field}", key) + within
    return path  # a repeated key: the first was wrong, and the last, which is right, stands for it
