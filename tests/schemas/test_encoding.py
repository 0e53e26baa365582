"""Laws of encoding: the same output is the same bytes, and nothing is written that was not meant."""

import json
import math
import random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.codec import EncodeError, decode_predictions, encode, encode_event
from schemas.events import Prediction
from schemas.outputs import FineTuneTrigger, WindowMetrics
from tests.strategies import alerts, outputs, predictions, snapshots, triggers

LAW = settings(deadline=None, max_examples=40)


def shuffled(data: Any, order: random.Random) -> Any:
    if isinstance(data, dict):
        keys = list(data)
        order.shuffle(keys)
        return {key: shuffled(data[key], order) for key in keys}
    return data


@LAW
@given(output=outputs())
def test_an_output_comes_back_as_it_was(output):
    assert msgspec.json.decode(encode(output), type=type(output)) == output


@LAW
@given(output=snapshots(), seed=st.integers(0, 9))
def test_the_order_in_which_a_mapping_was_filled_does_not_reach_the_wire(output, seed):
    order = random.Random(seed)
    changes = {name: shuffled(getattr(output, name), order) for name in ("drift", "detectors", "limits", "latency_ms")}
    assert encode(msgspec.structs.replace(output, **changes)) == encode(output)


@LAW
@given(output=outputs())
def test_keys_are_sorted_at_every_depth(output):
    def check(pairs: list[tuple[str, Any]]) -> None:
        names = [name for name, _ in pairs]
        assert names == sorted(names, key=str.encode)

    json.loads(encode(output), object_pairs_hook=check)


@LAW
@given(output=alerts() | triggers(), number=st.sampled_from([math.nan, math.inf, -math.inf]))
def test_a_number_that_is_not_finite_is_refused_with_its_path(output, number):
    field = "loss_before" if isinstance(output, FineTuneTrigger) else "evidence"
    broken = msgspec.structs.replace(output, **{field: number})
    with pytest.raises(EncodeError, match=rf"^{type(output).__name__} \$\.{field}: expected a finite number or null"):
        encode(broken)


@LAW
@given(output=snapshots())
def test_a_number_deep_inside_is_found_too(output):
    window = WindowMetrics(window="1h", count=1, start_ms=None, end_ms=None, per_class={"a": {"f1": math.nan}})
    with pytest.raises(EncodeError, match=r"^MetricSnapshot \$\.windows\[0\]\.per_class\.a\.f1: .* got NaN$"):
        encode(msgspec.structs.replace(output, windows=(window,)))


@LAW
@given(output=alerts(), wrong=st.sampled_from([{"summary": "\ud800"}, {"starts_at_ms": 2**70}]))
def test_what_json_cannot_hold_is_refused(output, wrong):
    with pytest.raises(EncodeError, match=r"^Alert: "):
        encode(msgspec.structs.replace(output, **wrong))


@LAW
@given(event=predictions())
def test_an_event_leaves_out_what_is_at_its_default(event):
    written = json.loads(encode_event(event))
    assert None not in [value for name, value in written.items() if name != "features"]
    assert written.keys() >= {"prediction_id", "model_id", "model_version", "event_time_ms"}


def test_a_plain_event_is_written_in_a_few_bytes():
    event = Prediction(prediction_id="p", model_id="m", model_version="1", event_time_ms=5, prediction=True)
    written = b'{"event_time_ms":5,"model_id":"m","model_version":"1","prediction":true,"prediction_id":"p"}'
    assert encode_event(event) == written
    assert decode_predictions([written], 1000).events == [event]
