"""Metrics of classes agree with scikit-learn on the same window."""

import itertools
import json
import math
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk
from sklearn.exceptions import UndefinedMetricWarning

from schemas.outputs import WindowMetrics
from service.core.metrics import METRICS, ScoreReading, positive_class, window_metrics
from service.core.metrics.catalogue import metric_names
from service.core.metrics.probability import rank_values
from tests.core.metrics.outcomes import columns

NAMES = ["dog", "ant", "cat", "eel"]  # code order is not name order
weights = st.sampled_from([1.0, 2.0, 2.5, 10.0])
coarse = st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 1.0])  # many ties
probabilities = coarse | st.floats(0.0, 1.0)


def rows(*fields):
    return st.lists(st.tuples(*fields), max_size=40)


def agrees(ours: float | None, theirs) -> bool:
    """Say whether a value is scikit-learn's; None is right where scikit-learn warns or raises."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            expected = theirs()
        except (UndefinedMetricWarning, ValueError, UserWarning):
            return ours is None
    return ours is not None and ours == pytest.approx(expected, rel=1e-9, abs=1e-12)


def vectors(raw, classes: int) -> np.ndarray:
    """Turn weights of classes into probabilities that sum to 1."""
    matrix = np.array(raw, dtype=np.float64).reshape(-1, classes) + 1e-3
    return matrix / matrix.sum(axis=1, keepdims=True)


def assert_plain(result: WindowMetrics) -> None:
    """Nothing but finite floats and None leaves."""
    for values in (result.values, *result.per_class.values()):
        assert all(value is None or (type(value) is float and math.isfinite(value)) for value in values.values())
    assert all(type(n) is int for row in result.confusion.values() for n in row.values())
    json.dumps(result.confusion, allow_nan=False)


@settings(max_examples=100, deadline=None)
@given(rows(st.integers(0, 3), st.integers(0, 3), weights))
def test_class_metrics_agree_with_scikit_learn(outcomes):
    actual, predicted, weight = ([row[i] for row in outcomes] for i in range(3))
    result = window_metrics("multiclass", "all", columns(actual, predicted, weight=weight), NAMES)
    assert_plain(result)
    assert list(result.values) == metric_names("multiclass")
    if not outcomes:
        assert set(result.values.values()) == {None}
        return
    truth, guess = [NAMES[i] for i in actual], [NAMES[i] for i in predicted]
    args = {"sample_weight": weight}
    assert agrees(result.values["accuracy"], lambda: sk.accuracy_score(truth, guess, **args))
    for average in ("macro", "weighted"):
        expected = sk.precision_recall_fscore_support(truth, guess, average=average, zero_division=0.0, **args)
        got = [result.values[f"{name}_{average}"] for name in ("precision", "recall", "f1")]
        assert got == pytest.approx(list(expected[:3]), rel=1e-9)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert result.values["balanced_accuracy"] == pytest.approx(sk.balanced_accuracy_score(truth, guess, **args))


@settings(max_examples=40, deadline=None)
@given(rows(st.integers(0, 3), st.integers(0, 3), weights).filter(bool))
def test_metrics_per_class_and_confusion_agree_with_scikit_learn(outcomes):
    actual, predicted, weight = ([row[i] for row in outcomes] for i in range(3))
    result = window_metrics("multiclass", "all", columns(actual, predicted, weight=weight), NAMES)
    truth, guess = [NAMES[i] for i in actual], [NAMES[i] for i in predicted]
    shown, names = sorted({*truth, *guess}), sorted(NAMES)
    assert list(result.per_class) == list(result.confusion) == shown
    assert all(list(row) == shown for row in result.confusion.values())
    expected = sk.confusion_matrix(truth, guess, labels=names).tolist()
    assert [[result.confusion.get(y, {}).get(p, 0) for p in names] for y in names] == expected
    for name, values in result.per_class.items():
        args = {"labels": [name], "average": "macro", "sample_weight": weight}
        assert agrees(values["precision"], lambda args=args: sk.precision_score(truth, guess, **args))
        assert agrees(values["recall"], lambda args=args: sk.recall_score(truth, guess, **args))
        assert agrees(values["f1"], lambda args=args: sk.f1_score(truth, guess, **args))
        assert values["support"] == sum(w for w, label in zip(weight, truth, strict=True) if label == name)


@settings(max_examples=100, deadline=None)
@given(rows(st.booleans(), st.booleans(), probabilities, weights).filter(bool), st.booleans())
def test_binary_metrics_agree_with_scikit_learn(outcomes, swapped):
    truth, guess, score, weight = (np.array([row[i] for row in outcomes]) for i in range(4))
    classes = ["yes", "no"] if swapped else ["no", "yes"]
    codes = (truth != swapped, guess != swapped)
    result = window_metrics("binary", "all", columns(*codes, score, weight), classes, ScoreReading("yes"))
    assert_plain(result)
    assert list(result.values) == metric_names("binary")
    args = {"sample_weight": weight}
    got = result.values
    assert agrees(got["precision"], lambda: sk.precision_score(truth, guess, **args))
    assert agrees(got["recall"], lambda: sk.recall_score(truth, guess, **args))
    assert agrees(got["f1"], lambda: sk.f1_score(truth, guess, **args))
    assert agrees(got["auc"], lambda: sk.roc_auc_score(truth, score, **args))
    assert agrees(got["average_precision"], lambda: sk.average_precision_score(truth, score, **args))
    assert agrees(got["log_loss"], lambda: sk.log_loss(truth, y_proba=score, labels=[False, True], **args))
    assert agrees(got["brier"], lambda: sk.brier_score_loss(truth, y_proba=score, pos_label=True, **args))
    assert [got["precision"], got["recall"], got["f1"]] == [
        result.per_class.get("yes", {}).get(name) for name in ("precision", "recall", "f1")
    ]


@settings(max_examples=60, deadline=None)
@given(rows(st.integers(0, 2), st.lists(probabilities, min_size=3, max_size=3), weights).filter(bool))
def test_multiclass_probability_metrics_agree_with_scikit_learn(outcomes):
    actual, raw, weight = ([row[i] for row in outcomes] for i in range(3))
    matrix = vectors(raw, 3)
    result = window_metrics("multiclass", "all", columns(actual, actual, None, weight, matrix), NAMES[:3])
    assert_plain(result)
    got, labels = result.values, [0, 1, 2]
    assert agrees(got["log_loss"], lambda: sk.log_loss(actual, y_proba=matrix, labels=labels, sample_weight=weight))
    assert agrees(
        got["brier"], lambda: sk.brier_score_loss(actual, y_proba=matrix, labels=labels, sample_weight=weight)
    )
    if len(set(actual)) == 3:
        macro = {"average": "macro", "sample_weight": weight}
        assert agrees(got["auc"], lambda: sk.roc_auc_score(actual, matrix, multi_class="ovr", **macro))
        assert agrees(got["average_precision"], lambda: sk.average_precision_score(actual, matrix, **macro))
    areas = []
    for code, name in enumerate(NAMES[:3]):
        one, theirs = np.array(actual) == code, result.per_class.get(name, {})
        assert agrees(
            theirs.get("auc"), lambda one=one, k=code: sk.roc_auc_score(one, matrix[:, k], sample_weight=weight)
        )
        areas += [theirs["auc"]] if theirs.get("auc") is not None else []
    assert got["auc"] == (pytest.approx(np.mean(areas)) if areas else None)


def test_a_collapsed_model_looks_worse_and_not_undefined():
    values = window_metrics("binary", "w", columns([0, 1, 1, 0], [0, 0, 0, 0]), ["no", "yes"]).values
    assert values["precision"] is None
    assert (values["recall"], values["f1"]) == (0.0, 0.0)
    assert (values["precision_macro"], values["recall_macro"]) == (0.25, 0.5)
    assert values["balanced_accuracy"] == 0.5


def test_an_empty_window_has_every_metric_and_no_value():
    result = window_metrics("binary", "1h", columns([], [])._replace(truncated=True), ["no", "yes"])
    assert result == WindowMetrics(
        window="1h",
        count=0,
        start_ms=None,
        end_ms=None,
        truncated=True,
        values=dict.fromkeys(metric_names("binary")),
    )


def test_failed_serving_calls_are_no_outcomes():
    result = window_metrics("binary", "w", columns([0, 1, 1], [0, np.nan, 1]), ["no", "yes"])
    assert (result.count, result.start_ms, result.end_ms) == (2, 1_000, 1_002)
    assert result.values["accuracy"] == 1.0


def test_scores_count_where_there_are_any_and_probabilities_stand_in_for_them():
    nan = np.nan
    made = columns(
        [0, 1, 1, 0],
        [0, 1, 1, 0],
        score=[0.1, nan, nan, nan],
        probabilities=[[nan, nan], [0.2, 0.8], [0.3, 0.7], [nan, nan]],
    )
    got = window_metrics("binary", "w", made, ["no", "yes"]).values
    assert got["auc"] == 1.0
    assert got["brier"] == pytest.approx((0.1**2 + 0.2**2 + 0.3**2) / 3)


def test_without_scores_only_their_metrics_are_null():
    got = window_metrics("multiclass", "w", columns([0, 1], [0, 1]), NAMES).values
    assert {name for name, value in got.items() if value is None} == {"auc", "average_precision", "log_loss", "brier"}


def test_numbers_that_are_no_probabilities_have_no_log_loss_but_rounded_ones_have():
    good = columns([0, 1, 2], [0, 1, 2], probabilities=[[0.5, 0.3, 0.2], [0.33, 0.33, 0.33], [0.0, 0.1, 0.9]])
    assert window_metrics("multiclass", "w", good, NAMES[:3]).values["log_loss"] is not None
    bad = columns([0, 1, 2], [0, 1, 2], probabilities=[[0.5, 0.3, 0.2], [0.9, 0.9, 0.9], [0.0, 0.1, 0.9]])
    got = window_metrics("multiclass", "w", bad, NAMES[:3]).values
    assert (got["log_loss"], got["brier"], got["auc"]) == (None, None, None)
    assert got["average_precision"] is not None


def test_a_class_that_no_vector_knows_has_probability_zero():
    made = columns([0, 3], [0, 0], probabilities=[[0.75, 0.25], [1.0, 0.0]])
    got = window_metrics("multiclass", "w", made, NAMES).values
    full = [[0.75, 0.25, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]]
    assert got["log_loss"] == pytest.approx(sk.log_loss([0, 3], y_proba=full, labels=[0, 1, 2, 3]))
    assert got["brier"] == pytest.approx(sk.brier_score_loss([0, 3], y_proba=full, labels=[0, 1, 2, 3]))


def test_beyond_fifty_classes_the_most_frequent_are_shown_and_the_rest_share_other():
    names = [f"class {code:02d}" for code in range(60)]
    actual = [code for code in range(60) for _ in range(60 - code)]
    result = window_metrics("multiclass", "w", columns(actual, actual), names)
    assert list(result.per_class) == names[:50]
    assert list(result.confusion) == [*names[:50], "(other)"]
    assert result.confusion["(other)"]["(other)"] == sum(range(1, 11))
    assert sum(n for row in result.confusion.values() for n in row.values()) == len(actual)
    assert result.values["f1_macro"] == 1.0


def test_classes_that_are_not_shown_join_a_class_that_is_called_other():
    names = ["(other)", *(f"class {code:02d}" for code in range(1, 60))]
    actual = [0, 0, 0, *range(60)]
    confusion = window_metrics("multiclass", "w", columns(actual, actual), names).confusion
    assert len(confusion) == 50
    assert confusion["(other)"]["(other)"] == 4 + 10


def test_a_code_without_a_name_is_refused():
    with pytest.raises(ValueError, match="from 0 to 1, got up to 2"):
        window_metrics("multiclass", "w", columns([0], [2]), ["a", "b"])


@pytest.mark.parametrize(
    ("classes", "configured", "expected"),
    [
        (["false", "true"], None, "true"),
        (["true", "false", "zebra"], None, "true"),
        (["10", "9"], None, "10"),
        (["1", "-1"], None, "1"),
        (["a", "9"], None, "a"),
        (["true"], None, None),
        (["true"], "fraud", "fraud"),
    ],
)
def test_the_positive_class_is_the_configured_one_or_the_greater_of_the_first_two(classes, configured, expected):
    assert positive_class(classes, configured) == expected


def test_a_positive_class_that_was_never_seen_leaves_its_metrics_null():
    got = window_metrics("binary", "w", columns([0, 0], [0, 0], [0.2, 0.4]), ["ok"], ScoreReading("fraud")).values
    assert (got["precision"], got["recall"], got["f1"], got["auc"]) == (None, None, None, None)
    assert got["brier"] == pytest.approx((0.04 + 0.16) / 2)


def test_every_metric_is_documented():
    text = (Path(__file__).parents[3] / "docs" / "metrics.md").read_text(encoding="utf-8")
    assert [name for name in METRICS if f"| `{name}` |" not in text] == []


@settings(max_examples=50, deadline=None)
@given(rows(st.booleans(), coarse, weights.map(lambda w: w / 3)).filter(bool))
def test_auc_counts_the_pairs_that_are_ranked_rightly(outcomes):
    positive, score, weight = (np.array([row[i] for row in outcomes]) for i in range(3))
    won = total = 0.0
    for i, j in itertools.product(np.flatnonzero(positive), np.flatnonzero(~positive)):
        total += weight[i] * weight[j]
        won += weight[i] * weight[j] * ((score[i] > score[j]) + 0.5 * (score[i] == score[j]))
    auc, _ = rank_values(score, positive, weight)
    assert auc == (pytest.approx(won / total) if total else None)
