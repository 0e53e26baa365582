"""Records to break: one valid prediction as plain data, and strategies that damage records."""

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from hypothesis import strategies as st

from schemas.codec import encode_event
from tests.strategies import controls, labels, predictions, texts

LIMIT = 1 << 20
ZONES = (UTC, timezone(timedelta(hours=5, minutes=30)), timezone(timedelta(hours=-8)))

VALID: dict[str, Any] = {
    "prediction_id": "p-1",
    "model_id": "credit",
    "model_version": "3",
    "event_time_ms": 1_700_000_000_000,
    "prediction": "good",
}


def record(**changes: Any) -> bytes:
    """Write the valid prediction with changes, as Python does: NaN and Infinity included. `...` leaves a field out."""
    fields = {name: value for name, value in (VALID | changes).items() if value is not ...}
    return json.dumps(fields).encode()


# Integral floats are integers, to JSON Schema and to the decoder, as far as a float says which.
fractions = st.floats(allow_nan=False, allow_infinity=False).filter(
    lambda number: not number.is_integer() or abs(number) <= 2**53
)
instants = st.datetimes(min_value=datetime(1970, 1, 2), timezones=st.sampled_from(ZONES)).map(  # noqa: DTZ001
    lambda moment: moment.isoformat(timespec="milliseconds")
)
naive_instants = st.datetimes(min_value=datetime(1970, 1, 2)).map(datetime.isoformat)  # noqa: DTZ001
leaves = (
    st.none()
    | st.booleans()
    | st.integers(-(2**80), 2**80)
    | fractions
    | texts
    | st.integers(250, 260).map("ß".__mul__)
    | instants
    | naive_instants
)
json_values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=6
)


@st.composite
def changed(draw: st.DrawFn, events: st.SearchStrategy[Any], values: st.SearchStrategy[Any] = json_values) -> Any:
    """A valid event as plain data, of which up to three fields have other values or are gone."""
    data = json.loads(encode_event(draw(events)))
    for field in draw(st.lists(st.sampled_from(sorted(data)), max_size=3, unique=True)):
        if draw(st.booleans()):
            data[field] = draw(values)
        else:
            del data[field]
    if draw(st.booleans()):
        data["event_time"] = draw(values)
    return data


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """The bytes of a valid event, of which some are cut, repeated or replaced."""
    whole = bytearray(encode_event(draw(predictions() | labels() | controls())))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(whole)))
        end = draw(st.integers(start, min(len(whole), start + 8)))
        junk = st.sampled_from([b"NaN", b"-Infinity", b"1e999", b"[", b'"', b"\\ud800", b"null", b"\xff"])
        whole[start:end] = draw(junk | st.binary(max_size=4))
    return bytes(whole)
