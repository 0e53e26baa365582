"""Laws of repair: what Python writes for a missing number becomes missing, and is counted."""

import json
import math

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from schemas import codec, lenient_json
from schemas.codec import decode_predictions
from tests.schemas.records import LIMIT, record
from tests.strategies import texts

LAW = settings(deadline=None, max_examples=40)
numbers = st.floats() | st.none() | st.booleans() | st.sampled_from(["NaN", "null", "a: NaN, b"])


@LAW
@given(features=st.dictionaries(texts, numbers, max_size=5), note=st.sampled_from(["", "NaN", "null"]))
def test_a_feature_that_is_not_finite_counts_as_missing_and_is_counted(features, note):
    decoded = decode_predictions([record(features=features, row_id=note), record()], LIMIT)
    blank = [name for name, value in features.items() if isinstance(value, float) and not math.isfinite(value)]
    assert decoded.rejections == []
    assert decoded.repaired == len(blank)
    assert decoded.events[0].features == {**features, **dict.fromkeys(blank)}
    assert decoded.events[0].row_id == note


@LAW
@given(
    features=st.lists(
        st.tuples(st.sampled_from("abc"), st.sampled_from(["NaN", "null", "1", '"NaN"', '"null"'])), max_size=5
    ),
    row=st.sampled_from(["null", '"NaN"', '"null"', '"r"']),
    score=st.sampled_from(["null", "0.5", "NaN"]),
)
def test_the_quick_repair_and_the_careful_one_agree(features, row, score):
    listed = ",".join(f'"{name}":{value}' for name, value in features)
    text = record()[:-1] + f',"features":{{{listed}}},"row_id":{row},"score":{score}}}'.encode()
    quick = codec._mend_quickly(codec._PREDICTIONS, text)
    careful = lenient_json.repair(text, ("features", "embeddings"))
    if quick is not None:
        assert isinstance(careful, lenient_json.Repaired)
        assert (quick.event, quick.replaced) == (codec._PREDICTIONS.decode(careful.value), careful.replaced)
    elif score == "NaN":
        assert isinstance(careful, lenient_json.NotFinite)


def test_the_quick_repair_is_taken_where_only_features_are_missing():
    text = record(features={"a": float("nan"), "b": None, "c": 1})
    mended = codec._mend_quickly(codec._PREDICTIONS, text)
    assert mended is not None
    assert mended.replaced == 1


@LAW
@given(numbers=st.lists(st.floats() | st.none(), max_size=4), feature=st.floats())
def test_a_number_of_a_vector_that_is_not_finite_becomes_null_and_is_counted(numbers, feature):
    decoded = decode_predictions([record(embeddings={"text": numbers}, features={"a": feature})], LIMIT)
    finite = [None if value is None or not math.isfinite(value) else value for value in numbers]
    assert decoded.rejections == []
    assert decoded.repaired == finite.count(None) - numbers.count(None) + (not math.isfinite(feature))
    assert decoded.events[0].embeddings == {"text": finite}


def test_a_number_beyond_all_floats_is_infinity_written_otherwise():
    features = b'{"a":1e400,"b":-' + b"9" * 400 + b',"c":' + b"8" * 308 + b',"d":"NaN"}'
    decoded = decode_predictions([record(features=0).replace(b'"features": 0', b'"features":' + features)], LIMIT)
    assert decoded.events[0].features == {"a": None, "b": None, "c": float("8" * 308), "d": "NaN"}
    assert decoded.repaired == 2


@pytest.mark.parametrize("field", ["score", "latency_ms", "sampling_rate", "prediction", "unknown"])
@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_elsewhere_what_is_not_finite_is_refused_with_its_path(field, number):
    (rejection,) = decode_predictions([record(**{field: number})], LIMIT).rejections
    assert (rejection.reason, rejection.path) == ("not_finite", f"$.{field}")


json_values = st.recursive(
    st.none() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner),
)


@LAW
@given(data=json_values)
def test_what_is_not_finite_is_found_exactly_where_json_refuses_it(data):
    try:
        json.dumps(data, allow_nan=False)
    except ValueError:
        found = lenient_json.find_not_finite(data)
        assert found is not None
        assert not math.isfinite(found.number)
    else:
        assert lenient_json.find_not_finite(data) is None


@LAW
@given(data=json_values)
@example(data=["\\", [[0]], '\\"[', "\\\\", [{"]": "["}]])
def test_nesting_is_that_of_the_parsed_value(data):
    def depth(node) -> int:
        if isinstance(node, (list, dict)):
            return 1 + max((depth(item) for item in (node.values() if isinstance(node, dict) else node)), default=0)
        return 0

    assert lenient_json.nesting(json.dumps(data, ensure_ascii=False).encode("utf-8", "surrogatepass")) == depth(data)


@LAW
@given(square=st.integers(0, 600), curly=st.integers(0, 600))
@example(square=0, curly=lenient_json.MAX_NESTING + 1)
@example(square=lenient_json.MAX_NESTING + 1, curly=0)
@example(square=lenient_json.MAX_NESTING // 2 + 1, curly=lenient_json.MAX_NESTING // 2)
def test_a_record_that_nests_too_deeply_is_always_suspected(square, curly):
    text = b"[" * square + b'{"":' * curly + b"0" + b"}" * curly + b"]" * square
    assert lenient_json.nesting(text) == square + curly
    assert square + curly <= lenient_json.MAX_NESTING or lenient_json.may_nest_deeply(text)


def test_a_path_into_something_foreign_is_cut():
    data = [float("nan")]
    for _ in range(600):
        data = [data]
    found = lenient_json.find_not_finite(data)
    assert found is not None
    assert found.path == "$" + "[0]" * 8
