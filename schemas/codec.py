"""Bytes to typed events and typed outputs to bytes.

Decoding is for the hot path: a batch is one loop in C, and only a record that fails costs more: it is decoded once more
by `schemas/relaxed.py`, which knows what producers write otherwise, and perhaps repaired. Nothing that lies in a
topic raises here: each record becomes an event or a Rejection with a reason. Where a key is repeated in an object its
last value counts, as in every common parser (RFC 8259, section 4, leaves it open).
"""

from collections.abc import Callable, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec
import orjson

from schemas import lenient_json
from schemas.events import Control, Event, FineTuneStatus, Label, Prediction
from schemas.outputs import Output
from schemas.rejection import DecodingError, Problem, ProblemError, Rejection, explain, reject
from schemas.relaxed import RELAXED_CONTROL, RELAXED_LABEL, RELAXED_PREDICTION, Relaxed

E = TypeVar("E")


class Decoded(NamedTuple, Generic[E]):
    """What a batch of records holds: each record is in `indices` or in `rejections`, never in both."""

    events: list[E]
    indices: list[int]
    """Where each event stands in the batch. Rises."""
    rejections: list[Rejection]
    """In the order of the batch."""
    repaired: int
    """How many features, and numbers of vectors, were NaN or infinite and count as missing."""


class EncodeError(ValueError):
    """A struct cannot be written as JSON: a number is not finite or over 64 bits, or a string is not Unicode."""


class _Wire(NamedTuple, Generic[E]):
    """How one topic's records are decoded."""

    decode: Callable[[bytes], E]
    missing_allowed: tuple[str, ...]
    """The fields in which a number that is not finite counts as missing."""
    contradictions: Callable[[list[E]], list[tuple[int, Problem]]]
    """Finds what one field alone cannot tell, in a whole batch."""
    relaxed: Relaxed[E]
    """Decodes records that are right in another form."""


def decode_predictions(values: Sequence[bytes | None], max_record_bytes: int) -> Decoded[Prediction]:
    """Decode the records of a prediction topic. Never raises on what they hold."""
    return _decode(_PREDICTIONS, values, max_record_bytes)


def decode_labels(values: Sequence[bytes | None], max_record_bytes: int) -> Decoded[Label]:
    """Decode the records of a label topic. Never raises on what they hold."""
    return _decode(_LABELS, values, max_record_bytes)


def decode_controls(values: Sequence[bytes | None], max_record_bytes: int) -> Decoded[Control]:
    """Decode the records of a control topic. Never raises on what they hold."""
    return _decode(_CONTROLS, values, max_record_bytes)


def encode(output: Output) -> bytes:
    """Write an output with sorted keys: the same output is always the same bytes.

    Raises EncodeError where a number is not finite (an undefined metric is None) or a string is not Unicode.
    """
    return _to_json(output)


def encode_event(event: Event) -> bytes:
    """Write an input as a producer does: fields at their defaults are left out. Raises EncodeError as `encode` does."""
    return _to_json(event)


def _to_json(struct: msgspec.Struct) -> bytes:
    data = msgspec.to_builtins(struct)
    # orjson writes NaN as null without a word; a metric that fell silent must not pass for one that is undefined.
    if found := lenient_json.find_not_finite(data):
        got = lenient_json.literal(found.number)
        raise EncodeError(f"{type(struct).__name__} {found.path}: expected a finite number or null, got {got}")
    try:
        return orjson.dumps(data, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError as error:
        raise EncodeError(f"{type(struct).__name__}: {error}") from error


def _decode(wire: _Wire[E], values: Sequence[bytes | None], max_record_bytes: int) -> Decoded[E]:
    indices, texts, rejections = _screen(values, max_record_bytes)
    events, failures, repaired = _decode_all(wire, texts)
    contradictions = wire.contradictions(events)
    if failures:
        failed = {place for place, _ in failures}
        rejections += [reject(indices[place], texts[place], problem) for place, problem in failures]
        indices = [index for place, index in enumerate(indices) if place not in failed]
    if contradictions:
        wrong = {place for place, _ in contradictions}
        rejections += [reject(indices[place], values[indices[place]], problem) for place, problem in contradictions]
        indices = [index for place, index in enumerate(indices) if place not in wrong]
        events = [event for place, event in enumerate(events) if place not in wrong]
    rejections.sort(key=lambda rejection: rejection.index)
    return Decoded(events, indices, rejections, repaired)


def _screen(values: Sequence[bytes | None], max_record_bytes: int) -> tuple[list[int], list[bytes], list[Rejection]]:
    """Set aside what is not to be parsed at all: no value, too many bytes, too deep."""
    texts = [value for value in values if value is not None]
    largest = max(map(len, texts), default=0)
    parsable = len(texts) == len(values) and largest <= max_record_bytes
    if parsable and (largest <= lenient_json.HARMLESS_BYTES or not any(map(lenient_json.may_nest_deeply, texts))):
        return list(range(len(texts))), texts, []
    indices, texts, rejections = [], [], []
    for index, value in enumerate(values):
        problem = _unparsable(value, max_record_bytes)
        if problem is None and value is not None:
            indices.append(index)
            texts.append(value)
        elif problem is not None:
            rejections.append(reject(index, value, problem))
    return indices, texts, rejections


def _unparsable(value: bytes | None, max_record_bytes: int) -> Problem | None:
    if value is None:
        return Problem("no_value", "expected an object, got a record without value")
    if len(value) > max_record_bytes:
        return Problem("too_large", f"expected at most {max_record_bytes:,} bytes, got {len(value):,}")
    if lenient_json.may_nest_deeply(value) and lenient_json.nesting(value) > lenient_json.MAX_NESTING:
        return Problem("too_deep", f"nests deeper than {lenient_json.MAX_NESTING} arrays and objects")
    return None


def _decode_all(wire: _Wire[E], texts: list[bytes]) -> tuple[list[E], list[tuple[int, Problem]], int]:
    """Decode in one C loop, which an exception leaves and which then goes on behind the record that raised it."""
    events: list[E] = []
    failures: list[tuple[int, Problem]] = []
    repaired = 0
    pending = iter(texts)
    while True:
        try:
            # `extend` keeps what it took before the exception, so the lengths tell which record raised it.
            events.extend(map(wire.decode, pending))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            place = len(events) + len(failures)
            outcome = _decode_carefully(wire, texts[place], error)
            if isinstance(outcome, Problem):
                failures.append((place, outcome))
            else:
                events.append(outcome.event)
                repaired += outcome.replaced
        else:
            return events, failures, repaired


class _Mended(NamedTuple, Generic[E]):
    """An event from a record that the fast way refused, and how many features and numbers of vectors were made null."""

    event: E
    replaced: int


def _decode_carefully(wire: _Wire[E], text: bytes, error: DecodingError) -> _Mended[E] | Problem:
    """Read what is right in another form, repair what can be repaired, else say what is wrong."""
    if not _may_be_not_finite(text, error):
        found = _decode_relaxed(wire, text) if isinstance(error, msgspec.ValidationError) else error
        if not isinstance(found, DecodingError) or not _may_be_not_finite(text, found):
            return explain(text, found) if isinstance(found, DecodingError) else found
    return _mend_quickly(wire, text) or _repair(wire, text, error)


def _repair(wire: _Wire[E], text: bytes, error: DecodingError) -> _Mended[E] | Problem:
    repaired = lenient_json.repair(text, wire.missing_allowed)
    if isinstance(repaired, lenient_json.NotFinite):
        got = lenient_json.literal(repaired.number)
        return Problem("not_finite", f"expected a finite number, got {got}", repaired.path)
    if repaired is None:
        return explain(text, error)
    outcome = _decode_relaxed(wire, repaired.value)
    if isinstance(outcome, _Mended):
        return outcome._replace(replaced=repaired.replaced)
    return outcome if isinstance(outcome, Problem) else explain(repaired.value, outcome)


def _decode_relaxed(wire: _Wire[E], text: bytes) -> _Mended[E] | Problem | DecodingError:
    try:
        return _Mended(wire.relaxed.decode(text), 0)
    except ProblemError as error:
        return error.problem
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return error


def _mend_quickly(wire: _Wire[E], text: bytes) -> _Mended[E] | None:
    """Write null for NaN without parsing; a producer that writes NaN at all writes it in most of its records.

    A NaN may also lie in a string or in another field. But each None among the features, and in the vectors, comes from
    one `null` in the text, so if there are as many of these as of those, every `null`, those for NaN included, is a
    feature's value or a vector's number.
    """
    if not wire.missing_allowed or b"NaN" not in text:
        return None
    strict = text.replace(b"NaN", b"null")
    try:
        event = wire.decode(strict)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        outcome = _decode_relaxed(wire, strict)
        if not isinstance(outcome, _Mended):
            return None
        event = outcome.event
    if sum(_nulls(getattr(event, name)) for name in wire.missing_allowed) != strict.count(b"null"):
        return None
    return _Mended(event, text.count(b"NaN"))


def _nulls(mapping: dict[str, Any] | None) -> int:
    """Count the nulls among the values of a mapping, and in those that are lists."""
    values = list((mapping or {}).values())
    return values.count(None) + sum(value.count(None) for value in values if isinstance(value, list))


def _may_be_not_finite(text: bytes, error: DecodingError) -> bool:
    if isinstance(error, msgspec.ValidationError):
        return str(error).startswith("Number out of range")
    return isinstance(error, msgspec.DecodeError) and (b"NaN" in text or b"Infinity" in text)


def _prediction_contradictions(events: list[Prediction]) -> list[tuple[int, Problem]]:
    # One comparison finds both faults; it runs for every event (0.03 us).
    wrong = [place for place, event in enumerate(events) if (event.prediction is None) is not event.error]
    return [(place, _prediction_problem(events[place])) for place in wrong]


def _prediction_problem(event: Prediction) -> Problem:
    if event.error:
        return Problem("inconsistent", "expected none where error is true", "$.prediction")
    return Problem("missing_field", "required where error is false, but missing", "$.prediction")


def _no_contradictions(_events: list[Label]) -> list[tuple[int, Problem]]:
    return []


def _control_contradictions(events: list[Control]) -> list[tuple[int, Problem]]:
    found = []
    for place, event in enumerate(events):
        if not isinstance(event, FineTuneStatus):
            continue
        if event.status == "completed" and event.model_version is None:
            found.append((place, Problem("missing_field", "required where status is completed", "$.model_version")))
        elif event.status == "failed" and not event.reason:
            found.append((place, Problem("missing_field", "required where status is failed", "$.reason")))
    return found


_PREDICTIONS = _Wire(
    msgspec.json.Decoder(Prediction).decode,
    ("features", "embeddings"),
    _prediction_contradictions,
    RELAXED_PREDICTION,
)
_LABELS = _Wire(msgspec.json.Decoder(Label).decode, (), _no_contradictions, RELAXED_LABEL)
_CONTROLS: _Wire[Control] = _Wire(msgspec.json.Decoder(Control).decode, (), _control_contradictions, RELAXED_CONTROL)
