"""Laws of decoding: each record becomes an event or a rejection, and never anything else."""

import json
from typing import get_args

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from schemas import lenient_json
from schemas.codec import decode_controls, decode_labels, decode_predictions, encode_event
from schemas.events import MAX_DIMENSION, MAX_EMBEDDINGS, MAX_FEATURES, MAX_ID_CHARS, Prediction
from schemas.rejection import MAX_MESSAGE_CHARS, Reason, Rejection
from tests.schemas.records import LIMIT, changed, damaged, json_values, record
from tests.strategies import controls, labels, predictions

LAW = settings(deadline=None, max_examples=40)
CONTROL_TYPES = ["fine_tune_status", "fine_tune", "reset_monitor", "accept_reference", "mute_alert", "version_deployed"]
DECODERS = [decode_predictions, decode_labels, decode_controls]


def rejection_of(value: bytes | None, limit: int = LIMIT) -> Rejection:
    decoded = decode_predictions([value], limit)
    assert decoded.events == []
    assert decoded.indices == []
    (rejection,) = decoded.rejections
    return rejection


def event_of(value: bytes) -> Prediction:
    decoded = decode_predictions([value], LIMIT)
    assert decoded.rejections == []
    return decoded.events[0]


@pytest.mark.parametrize(
    ("decode", "events"),
    [(decode_predictions, predictions()), (decode_labels, labels()), (decode_controls, controls())],
)
@LAW
@given(data=st.data())
def test_a_valid_event_comes_back_as_it_was(decode, events, data):
    batch = data.draw(st.lists(events, max_size=4))
    decoded = decode([encode_event(event) for event in batch], LIMIT)
    assert decoded == (batch, list(range(len(batch))), [], 0)


@pytest.mark.parametrize("decode", DECODERS)
@LAW
@given(values=st.lists(st.none() | st.binary(max_size=40) | damaged(), max_size=5))
@example(values=[b"", b"{", b"null", b"NaN", b"[NaN]", b'"\\ud800"', b"\xff\xfe", b"\xef\xbb\xbf{}", b"0" * 5000])
def test_every_record_becomes_an_event_or_a_rejection_whatever_its_bytes(decode, values):
    decoded = decode(values, LIMIT)
    refused = [rejection.index for rejection in decoded.rejections]
    assert len(decoded.events) == len(decoded.indices)
    assert sorted(decoded.indices + refused) == list(range(len(values)))
    assert decoded.indices == sorted(decoded.indices)
    assert refused == sorted(refused)
    for rejection in decoded.rejections:
        assert rejection.reason in get_args(Reason)
        assert rejection.message.startswith("$")
        assert len(rejection.message) <= MAX_MESSAGE_CHARS
        json.dumps([rejection.message, rejection.path, rejection.model_id], ensure_ascii=False).encode()


@LAW
@given(values=st.lists(st.none() | damaged() | predictions().map(encode_event), max_size=6), cut=st.integers(0, 6))
def test_a_batch_may_be_cut_anywhere(values, cut):
    whole = decode_predictions(values, LIMIT)
    parts = [decode_predictions(part, LIMIT) for part in (values[:cut], values[cut:])]
    assert whole.events == parts[0].events + parts[1].events
    assert whole.repaired == parts[0].repaired + parts[1].repaired
    assert [(r.reason, r.message) for r in whole.rejections] == [
        (r.reason, r.message) for part in parts for r in part.rejections
    ]


@LAW
@given(data=changed(predictions(), json_values | st.sampled_from([float("nan"), float("-inf")])))
def test_a_good_record_among_bad_ones_is_not_touched(data):
    good, other = record(), json.dumps(data).encode()
    decoded = decode_predictions([good, other, good, None, good], LIMIT)
    assert {0, 2, 4} <= set(decoded.indices)
    assert [decoded.events[decoded.indices.index(place)] for place in (0, 2, 4)] == [event_of(good)] * 3


@pytest.mark.parametrize(
    ("value", "reason", "message"),
    [
        (None, "no_value", "$: expected an object, got a record without value"),
        (b"", "invalid_json", "$: not JSON: ends too early"),
        (b"{} x", "missing_field", "$.prediction_id: required, but missing"),
        (b"[]", "wrong_type", "$: expected object, got array"),
        (b'{"a":tru}', "invalid_json", "$: not JSON: invalid character (byte 6)"),
        (b'{"model_id":"\xff"}', "invalid_utf8", "$: not UTF-8: invalid start byte (byte 13)"),
        (record(model_id=...), "missing_field", "$.model_id: required, but missing"),
        (record(model_id=""), "out_of_range", "$.model_id: expected string of length >= 1"),
        (record(model_id="m" * 257), "out_of_range", f"$.model_id: expected string of length <= {MAX_ID_CHARS}"),
        (
            record(event_time_ms="2025-01-31T09:30:00"),
            "wrong_type",
            (
                "$.event_time_ms: expected a time with its zone, as 2026-09-21T10:00:00Z, got '2025-01-31T09:30:00': "
                "without one it is another moment elsewhere"
            ),
        ),
        (
            record(event_time_ms="1740000000000"),
            "wrong_type",
            "$.event_time_ms: expected a time of ISO 8601 with its zone, as 2026-09-21T10:00:00Z, got '1740000000000'",
        ),
        (
            record(event_time_ms=..., event_time="2025-02-30T09:30:00Z"),
            "wrong_type",
            "$.event_time: expected a time that exists, as 2026-09-21T10:00:00Z, got '2025-02-30T09:30:00Z'",
        ),
        (
            record(event_time_ms=..., event_time=1740000000000),
            "wrong_type",
            (
                "$.event_time: expected a time of ISO 8601 with its zone, as 2026-09-21T10:00:00Z, got integer; "
                "milliseconds belong in event_time_ms"
            ),
        ),
        (record(event_time_ms=...), "missing_field", "$.event_time_ms: required, but missing"),
        (
            record(event_time_ms=1790000000.25),
            "wrong_type",
            (
                "$.event_time_ms: expected whole milliseconds, got 1790000000.25; looks like seconds: 1790000000.25 as "
                "milliseconds is 1970-01-21, as seconds 2026-09-21"
            ),
        ),
        (
            record(event_time_ms=1_790_000_000_000_000),
            "out_of_range",
            (
                "$.event_time_ms: expected integer <= 253402300799999; looks like microseconds: 1790000000000000 as "
                "milliseconds is in the year 58,692, as microseconds 2026-09-21"
            ),
        ),
        (
            record(event_time_ms=1_790_000_000_000_000_000),
            "out_of_range",
            (
                "$.event_time_ms: expected integer <= 253402300799999; looks like nanoseconds: 1790000000000000000 as "
                "milliseconds is in the year 56,724,811, as nanoseconds 2026-09-21"
            ),
        ),
        (record(event_time_ms=-1), "out_of_range", "$.event_time_ms: expected integer >= 0"),
        (record(event_time_ms=10**30), "out_of_range", "$.event_time_ms: expected integer <= 253402300799999"),
        (record(model_id=True), "wrong_type", "$.model_id: expected string or integer, got boolean"),
        (record(model_version=1.5), "wrong_type", "$.model_version: expected string or integer, got number"),
        (
            record(prediction_id=2.0**60),
            "wrong_type",
            "$.prediction_id: expected an integer, got 1.152921504606847e+18, which may be several",
        ),
        (record(prediction_id=2**128), "out_of_range", "$.prediction_id: expected integer of at most 128 bits"),
        (record(score=1.5), "out_of_range", "$.score: expected number <= 1.0"),
        (record(sampling_rate=0), "out_of_range", "$.sampling_rate: expected number >= 1e-09"),
        (record(sampling_rate=1e-39), "out_of_range", "$.sampling_rate: expected number >= 1e-09"),
        (record(probabilities={"a": 0.5, "b": 2}), "out_of_range", "$.probabilities.b: expected number <= 1.0"),
        (
            record(features={"income": 1, "age": [30]}),
            "wrong_type",
            "$.features.age: expected number, string, boolean or null, got array",
        ),
        (
            record(features={"huge": 10**30, "first name": {}}),
            "wrong_type",
            '$.features["first name"]: expected number, string, boolean or null, got object',
        ),
        (record(segments={"country": 49}), "wrong_type", "$.segments.country: expected string, got integer"),
        (
            record(segments={"x" * 257: "DE"}),
            "out_of_range",
            "$.segments: key: expected string of length <= 256",
        ),
        (record(features=[1]), "wrong_type", "$.features: expected object or null, got array"),
        (
            record(features=dict.fromkeys(map(str, range(MAX_FEATURES + 1)))),
            "too_many",
            "$.features: expected object of length <= 10000",
        ),
        (
            record(embeddings={"text": [0.5, "x"]}),
            "wrong_type",
            "$.embeddings.text[1]: expected number or null, got string",
        ),
        (record(embeddings={"text": 0.5}), "wrong_type", "$.embeddings.text: expected array, got number"),
        (
            record(embeddings={"text": [0.5] * (MAX_DIMENSION + 1)}),
            "too_many",
            "$.embeddings.text: expected array of length <= 8192",
        ),
        (
            record(embeddings={str(number): [] for number in range(MAX_EMBEDDINGS + 1)}),
            "too_many",
            "$.embeddings: expected object of length <= 16",
        ),
        (record(prediction=...), "missing_field", "$.prediction: required where error is false, but missing"),
        (record(error=True), "inconsistent", "$.prediction: expected none where error is true"),
        (record(score=float("nan")), "not_finite", "$.score: expected a finite number, got NaN"),
        (
            record(other=[{"a b": float("-inf")}]),
            "not_finite",
            '$.other[0]["a b"]: expected a finite number, got -Infinity',
        ),
        (record().replace(b'"good"', b"1e400"), "not_finite", "$.prediction: expected a finite number, got Infinity"),
        (
            record().replace(b'"good"', b"9" * 5000),
            "out_of_range",
            "$.prediction: expected an integer that 64 bits hold",
        ),
        (record().replace(b'"good"', b'"\\ud800 "'), "invalid_json", None),
        (record(score=float("nan"))[:-1], "invalid_json", None),
    ],
    ids=lambda part: part if part in get_args(Reason) else "",
)
def test_a_rejection_names_reason_path_and_expectation(value, reason, message):
    rejection = rejection_of(value)
    assert rejection.reason == reason
    assert message is None or rejection.message == message
    assert rejection.message.startswith(f"{rejection.path}: ")


@pytest.mark.parametrize(
    ("fields", "reason", "message"),
    [
        ({}, "missing_field", "$.type: required, but missing"),
        (
            {"type": "restart"},
            "unknown_value",
            f"$.type: unknown value 'restart', expected one of {', '.join(CONTROL_TYPES)}",
        ),
        (
            {"type": "fine_tune_status", "trigger_id": "t", "status": "done"},
            "unknown_value",
            "$.status: unknown value 'done', expected one of acknowledged, running, completed, failed",
        ),
        (
            {"type": "fine_tune_status", "trigger_id": "t", "status": "completed"},
            "missing_field",
            "$.model_version: required where status is completed",
        ),
        (
            {"type": "fine_tune_status", "trigger_id": "t", "status": "failed", "reason": ""},
            "missing_field",
            "$.reason: required where status is failed",
        ),
        (
            {"type": "mute_alert", "fingerprint": "f", "mute_for_ms": float("nan")},
            "not_finite",
            "$.mute_for_ms: expected a finite number, got NaN",
        ),
    ],
)
def test_a_rejected_control_says_what_would_be_right(fields, reason, message):
    value = json.dumps({"model_id": "m", "event_time_ms": 1} | fields).encode()
    (rejection,) = decode_controls([value], LIMIT).rejections
    assert (rejection.reason, rejection.message) == (reason, message)


@pytest.mark.parametrize(
    "form",
    [
        {"event_time_ms": 1_789_984_800_123.0},
        {"event_time_ms": "2026-09-21T10:00:00.123Z"},
        {"event_time_ms": "2026-09-21 12:00:00,123999+02"},
        {"event_time_ms": ..., "event_time": "2026-09-21t04:30:00.1230-0530"},
        {"event_time": "never read where event_time_ms is"},
    ],
)
def test_an_event_time_may_be_written_in_several_forms(form):
    assert event_of(record(**({"event_time_ms": 1_789_984_800_123} | form))) == event_of(
        record(event_time_ms=1_789_984_800_123)
    )


@pytest.mark.parametrize("number", [7, -7, 0, 2**64 - 1, 2**127, 7.0])
def test_an_identifier_that_is_an_integer_is_the_text_of_it(number):
    fields = ("prediction_id", "model_id", "model_version", "row_id", "target")
    text = str(int(number))
    assert event_of(record(**dict.fromkeys(fields, number))) == event_of(record(**dict.fromkeys(fields, text)))


@LAW
@given(event=predictions(), seed=st.integers(1, 2**60), nan=st.booleans())
def test_other_forms_and_what_must_be_repaired_may_come_together(event, seed, nan):
    fields = json.loads(encode_event(event)) | {"prediction_id": seed, "event_time_ms": float(seed % 10**12)}
    fields["features"] = (event.features or {}) | ({"gone": float("nan")} if nan else {})
    found = event_of(json.dumps(fields).encode())
    assert (found.prediction_id, found.event_time_ms) == (str(seed), seed % 10**12)
    assert found.features == (event.features or {}) | ({"gone": None} if nan else {})


def test_other_forms_hide_nothing_else_that_is_wrong():
    rejection = rejection_of(record(prediction_id=7, score=1.5))
    assert (rejection.message, rejection.prediction_id) == ("$.score: expected number <= 1.0", "7")


def test_a_record_over_the_limit_is_refused_by_its_length_alone():
    large = record() + b" " * 1000
    assert rejection_of(large, limit=len(large) - 1).reason == "too_large"
    assert decode_predictions([large], len(large)).rejections == []
    assert rejection_of(b"\xff" * 100, limit=99).message == "$: expected at most 99 bytes, got 100"


def test_a_record_of_a_hundred_megabytes_costs_nothing_when_it_is_refused():
    assert rejection_of(b"[" * 100_000_000).reason == "too_large"


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
def test_a_depth_bomb_is_refused(opening):
    assert rejection_of(b'{"x":' + opening * 300_000, limit=4 << 20).reason == "too_deep"


@pytest.mark.parametrize("outer_frames", [0, 300])
def test_how_deep_a_record_may_nest_does_not_depend_on_the_stack_of_the_caller(outer_frames):
    def called_from_deep(frames: int) -> tuple[bool, bool]:
        if frames:
            return called_from_deep(frames - 1)
        allowed = lenient_json.MAX_NESTING - 1  # the record itself is one level
        deepest = record(x=0).replace(b'"x": 0', b'"x":' + b"[" * allowed + b"]" * allowed)
        deeper = record(x=0).replace(b'"x": 0', b'"x":' + b"[" * (allowed + 1) + b"]" * (allowed + 1))
        good, bad = decode_predictions([deepest], LIMIT), decode_predictions([deeper], LIMIT)
        return good.rejections == [], [r.reason for r in bad.rejections] == ["too_deep"]

    assert called_from_deep(outer_frames) == (True, True)


def test_brackets_inside_strings_are_no_nesting():
    text = '[{"\\' * 2000
    assert event_of(record(features={"text": text})).features == {"text": text}


def test_the_last_of_repeated_keys_counts():
    twice = record(features={"a": 1}).replace(b'{"a": 1}', b'{"a":1,"a":2}')
    assert event_of(twice).features == {"a": 2.0}
    # and so it does when the record takes the path of repair
    repaired = twice.replace(b'"a":1', b'"b":NaN,"a":1')
    assert event_of(repaired).features == {"a": 2.0, "b": None}


@pytest.mark.parametrize(
    ("value", "model"),
    [
        (record(score=7), "credit"),
        (b'{"model_id" : "half', None),
        (b'{"model_id" : "half", "', "half"),
        (b'{"model_id":"\xff"}', None),
        (b" " * 5000 + record(score=7), None),
        (None, None),
    ],
)
def test_a_rejection_tells_the_model_where_that_is_cheap(value, model):
    assert rejection_of(value).model_id == model
