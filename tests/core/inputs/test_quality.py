"""Laws of the quality monitor, against plain loops and chance."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from detectors.protocol import Level
from service.core.inputs.blocks import Block, BlockStart, Moment
from service.core.inputs.feature_table import MISSING, WRONG_TYPE
from service.core.inputs.quality import QualityMonitor
from service.core.inputs.quality_reference import count_problems, learn_ranges
from service.core.settings import DataQualitySettings

cells = st.one_of(st.sampled_from([MISSING, WRONG_TYPE, np.inf, 0.0, 1.0, 5.0]), st.floats(-10, 10))


class Columns:
    def __init__(self, names, categories):
        self.names = list(names)
        self._categories = categories
        self.wanted = np.ones(len(self.names), bool)

    def is_categorical(self, column):
        return self._categories[column] is not None

    def categories(self, column):
        return list("abcdefgh"[: self._categories[column] or 0])


def block(rows, number=1):
    rows = np.asarray(rows, np.float64)
    return Block(number, rows, BlockStart(1000, 5, 7), Moment(99, 88))


def watch(reference, schema, block_events=200, **changes):
    monitor = QualityMonitor(DataQualitySettings(**changes), block_events, 1_000_000)
    monitor.learn(np.asarray(reference, np.float64), schema)
    return monitor


@settings(deadline=None)
@given(arrays(np.float64, st.tuples(st.integers(0, 20), st.just(2)), elements=cells))
def test_problems_are_counted_as_one_by_one(rows):
    counts = count_problems(rows, np.array([-2.0, -np.inf]), np.array([2.0, np.inf]), np.array([np.inf, 3.0]))
    for column, (low, high, categories) in enumerate([(-2, 2, np.inf), (-np.inf, np.inf, 3)]):
        values = rows[:, column].tolist()
        usable = [value for value in values if np.isfinite(value)]
        assert counts[:, column].tolist() == [
            sum(np.isnan(value) for value in values),
            sum(np.isinf(value) for value in values),
            sum(value < low or value > high for value in usable),
            sum(value >= categories for value in usable),
            0,
        ]


@settings(max_examples=20, deadline=None)
@given(arrays(np.float64, (30, 3), elements=cells))
def test_no_value_of_the_reference_is_out_of_its_own_range(rows):
    low, high = learn_ranges(rows, [False, False, True], ["a", "b", "c"], DataQualitySettings(range_margin=0.0))
    assert count_problems(rows, low, high, np.full(3, np.inf))[2].tolist() == [0, 0, 0]


def test_a_range_that_was_set_is_held_instead_of_the_learnt_one():
    rows = np.linspace(0, 10, 20)[:, None]
    low, high = learn_ranges(rows, [False], ["a"], DataQualitySettings(ranges={"a": (2.0, 3.0)}))
    assert (low.tolist(), high.tolist()) == ([2.0], [3.0])


def test_a_range_between_the_largest_numbers_is_no_range_and_no_overflow():
    rows = np.array([[-1e308], [1e308]])
    low, high = learn_ranges(rows, [False], ["a"], DataQualitySettings())
    assert low[0] <= -1e308
    assert high[0] >= 1e308


@pytest.mark.parametrize("problem", ["missing", "wrong_type", "out_of_range", "unseen"])
def test_each_problem_is_found_named_and_called_over(problem):
    rng = np.random.default_rng(0)
    schema = Columns(["number", "kind"], [None, 3])

    def clean(count):
        return np.column_stack([rng.random(count), rng.integers(0, 3, count)])

    monitor = watch(clean(1000), schema)
    assert monitor.observe(block(clean(200)), schema) == []
    bad = clean(200)
    column = 1 if problem == "unseen" else 0
    bad[:30, column] = {"missing": MISSING, "wrong_type": WRONG_TYPE, "out_of_range": 9.0, "unseen": 3.0}[problem]
    (finding,) = monitor.observe(block(bad), schema)
    assert (finding.kind, finding.subject, finding.level) == ("data_quality", "features", Level.DRIFT)
    assert (finding.sequence, finding.time_ms, finding.severity) == (99, 88, "warning")
    (evidence,) = finding.evidence
    assert evidence.detector == problem
    assert [feature.feature for feature in evidence.features] == [schema.names[column]]
    assert (evidence.before, evidence.after) == (0.0, 0.15)
    assert evidence.threshold <= evidence.statistic
    assert monitor.rates(schema)[schema.names[column]][problem] == 0.15
    assert monitor.observe(block(bad), schema) == []
    (over,) = monitor.observe(block(clean(200)), schema)
    assert over.level is Level.STABLE
    assert monitor.observe(block(clean(200)), schema) == []


def test_a_feature_that_vanishes_is_critical_and_one_more_problem_is_one_more_finding():
    schema = Columns(["a", "b"], [None, None])
    monitor = watch(np.random.default_rng(0).random((1000, 2)), schema)
    rows = np.full((200, 2), 0.5)
    rows[:, 0] = MISSING
    (finding,) = monitor.observe(block(rows), schema)
    assert finding.severity == "critical"
    rows[:, 1] = WRONG_TYPE
    (further,) = monitor.observe(block(rows), schema)
    assert [evidence.detector for evidence in further.evidence] == ["missing", "wrong_type"]


def test_a_new_feature_is_found_and_a_rare_one_is_not():
    schema = Columns(["a", "rare", "new"], [None, None, None])
    monitor = watch(np.random.default_rng(0).random((1000, 1)), schema)
    rows = np.full((200, 3), 0.5)
    rows[5:, 1] = MISSING
    (finding,) = monitor.observe(block(rows), schema)
    assert [evidence.detector for evidence in finding.evidence] == ["new_feature"]
    assert [feature.feature for feature in finding.evidence[0].features] == ["new"]


def test_a_rate_that_was_always_high_is_no_problem_and_its_chance_variation_none():
    rng = np.random.default_rng(0)
    schema = Columns(["a"], [None])

    def half(count):
        return np.where(rng.random((count, 1)) < 0.5, MISSING, 1.0)

    monitor = watch(half(1000), schema)
    assert [finding for _ in range(5000) for finding in monitor.observe(block(half(200)), schema)] == []
