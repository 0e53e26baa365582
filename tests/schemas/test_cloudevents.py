"""Laws of the CloudEvents that go out: either mode carries the output, and attributes follow from it alone."""

import json
import re
import unicodedata
from datetime import datetime
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.cloudevents import Message, MessageError, default_source, from_message, rfc3339, to_message
from schemas.codec import encode
from schemas.outputs import Alert, ChangePoint, DeadLetter, Evidence
from tests.strategies import LAST_MS, alerts, dead_letters, outputs, triggers

LAW = settings(deadline=None, max_examples=40)
GOLDEN = Path(__file__).parent / "golden"
SOURCE = default_source("demo")
modes = st.sampled_from(["binary", "structured"])

ALERT = Alert(
    alert_id="a-2",
    incident_id="i-1",
    fingerprint="f-1",
    alertname="ConceptDrift",
    model_id="credit",
    model_version="3",
    kind="concept_drift",
    state="firing",
    severity="critical",
    starts_at_ms=1_700_000_000_123,
    event_time_ms=1_700_000_060_000,
    summary="The error rate rose from 0.12 to 0.31.",
    advice="Fine-tune from the change point on.",
    evidence=(
        Evidence(
            detector="adwin",
            subject="error",
            statistic=0.19,
            threshold=0.08,
            sample_count=420,
            change_point=ChangePoint(sample_index=17_424, event_time_ms=1_700_000_000_000),
        ),
    ),
)


def attributes(message: Message) -> dict[str, str]:
    return {name: text.decode() for name, text in message.headers}


@LAW
@given(output=outputs(), mode=modes)
def test_an_output_comes_back_from_either_mode(output, mode):
    message = to_message(output, source=SOURCE, mode=mode)
    assert from_message(message.headers, message.value) == output


@LAW
@given(output=outputs())
def test_both_modes_say_the_same(output):
    binary, structured = (to_message(output, source=SOURCE, mode=mode) for mode in ("binary", "structured"))
    whole = json.loads(structured.value)
    assert whole.pop("data") == json.loads(binary.value)
    headers = attributes(binary)
    assert whole.pop("datacontenttype") == headers.pop("content-type") == "application/json"
    assert {f"ce_{name}": str(text) for name, text in whole.items()} == headers
    assert binary.key == structured.key
    assert attributes(structured) == {"content-type": "application/cloudevents+json; charset=UTF-8"}


@LAW
@given(output=outputs())
def test_every_event_has_what_the_specification_requires(output):
    headers = attributes(to_message(output, source=SOURCE))
    assert headers["ce_specversion"] == "1.0"
    assert headers["ce_source"] == "tidegauge/demo"
    assert re.fullmatch(r"io\.tidegauge\.[a-z_]+\.v1", headers["ce_type"])
    for name, text in headers.items():
        assert name == "content-type" or re.fullmatch("ce_[a-z0-9]+", name)
        assert text
        assert not any(unicodedata.category(char) in ("Cc", "Cs") for char in text)


@LAW
@given(output=alerts() | triggers())
def test_what_concerns_one_model_has_one_key(output):
    message = to_message(output, source=SOURCE)
    assert message.key.decode() == output.model_id
    assert attributes(message)["ce_severitynumber"] == {"warning": "13", "critical": "18"}[output.severity]


@LAW
@given(output=dead_letters())
def test_a_dead_letter_goes_by_its_model_or_else_by_its_partition(output):
    wanted = output.model_id or f"{output.topic}-{output.partition}"
    assert to_message(output, source=SOURCE).key.decode() == wanted


@LAW
@given(one=triggers(), state=st.sampled_from(["requested", "running", "completed"]))
def test_transitions_of_a_trigger_have_ids_of_their_own_and_a_repeated_one_has_the_same(one, state):
    other = msgspec.structs.replace(one, state=state)
    ids = [attributes(to_message(output, source=SOURCE))["ce_id"] for output in (one, other)]
    assert (ids[0] == ids[1]) == (one == other)


def test_incident_and_trigger_are_tied_together():
    headers = attributes(to_message(ALERT, source=SOURCE))
    assert (headers["ce_id"], headers["ce_correlationid"], headers["ce_severitytext"]) == ("a-2", "i-1", "critical")


def test_characters_that_attributes_must_not_hold_stay_in_the_payload():
    hostile = msgspec.structs.replace(ALERT, model_id="a\nb\x85c\ufffe")
    message = to_message(hostile, source=SOURCE)
    assert attributes(message)["ce_subject"] == "a\ufffdb\ufffdc\ufffd"
    assert from_message(message.headers, message.value) == hostile


@pytest.mark.parametrize("mode", ["binary", "structured"])
def test_the_bytes_on_the_wire_are_the_golden_ones(mode):
    message = to_message(ALERT, source=SOURCE, mode=mode)
    written = "".join(f"{name}: {text}\n" for name, text in attributes(message).items())
    assert (
        f"{message.key.decode()}\n{written}\n{message.value.decode()}\n" == (GOLDEN / f"alert_{mode}.txt").read_text()
    )


@LAW
@given(epoch_ms=st.integers(0, LAST_MS))
def test_times_are_rfc_3339_to_the_millisecond(epoch_ms):
    text = rfc3339(epoch_ms)
    assert text is not None
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", text)
    span = datetime.fromisoformat(text) - datetime.fromisoformat("1970-01-01T00:00:00Z")
    assert (span.days * 86_400 + span.seconds) * 1_000 + span.microseconds // 1_000 == epoch_ms


def test_a_record_timestamp_that_no_date_can_tell_is_left_out():
    letter = DeadLetter(
        dead_letter_id="d", reason="no_value", message="", topic="t", partition=0, offset=7, event_time_ms=2**62
    )
    headers = attributes(to_message(letter, source=SOURCE))
    assert "ce_time" not in headers
    assert headers["ce_subject"] == headers["ce_causationid"] == "t/0/7"


@pytest.mark.parametrize(
    ("headers", "value", "message"),
    [
        ((), None, "without value"),
        ((), b"{}", "header 'ce_specversion': required, but missing"),
        ((("ce_specversion", b"1.0"),), b"{}", "header 'ce_type': required, but missing"),
        ((("ce_specversion", b"0.3"), ("ce_type", b"x")), b"{}", "specversion: expected 1.0, got '0.3'"),
        ((("ce_specversion", b"1.0"), ("ce_type", b"x")), b"{}", "type: expected one of io.tidegauge.alert.v1, "),
        ((("ce_specversion", b"1.0"), ("ce_type", b"io.tidegauge.alert.v1")), b"{}", "required field `alert_id`"),
        ((("ce_specversion", b"1.0"), ("ce_type", b"\xff")), b"{}", "not a CloudEvent of Tidegauge"),
        ((("content-type", b"application/cloudevents+json"),), b"{}", "required field `specversion`"),
        ((("Content-Type", b"application/cloudevents+json"),), b"NaN", "not a CloudEvent of Tidegauge"),
    ],
)
def test_a_record_that_is_none_of_ours_says_why(headers, value, message):
    with pytest.raises(MessageError, match=re.escape(message)):
        from_message(headers, value)


def test_a_service_name_cannot_break_the_source():
    assert default_source("fraud / eu") == "tidegauge/fraud%20%2F%20eu"


def test_the_value_in_binary_mode_is_the_encoded_output():
    assert to_message(ALERT, source=SOURCE).value == encode(ALERT)
