"""Laws of the feature table."""

import itertools
import math

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.protocol import StateError
from service.core.inputs.feature_table import FeatureTable
from service.core.settings import FeatureDriftSettings

NAMES = ("a", "b", "c", "d")
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(["x", "y", "z", "1.5", ""]),
)
EVENTS = st.lists(st.one_of(st.none(), st.dictionaries(st.sampled_from(NAMES), VALUES)), max_size=30)
TIDY_EVENTS = st.lists(
    st.fixed_dictionaries({"a": st.floats(-9, 9), "b": st.booleans(), "c": st.sampled_from("xyzuv")})
)
SETTINGS = FeatureDriftSettings(max_features=3, max_categories=2)


def naive(settings, events):
    """The table's rules, one value at a time: the oracle."""
    names, kinds, codes, rows = [], {}, {}, []
    for event in events:
        for name in event or ():
            wanted = name not in settings.exclude and (not settings.include or name in settings.include)
            if name not in names and wanted and len(names) < settings.max_features:
                names.append(name)
    for event in events:
        row = {}
        for name in names:
            value = (event or {}).get(name)
            if value is None:
                row[name] = math.nan
                continue
            kind = kinds.setdefault(name, "category" if isinstance(value, str) else "number")
            if (kind == "category") != isinstance(value, str):
                row[name] = -math.inf
            elif kind == "number":
                row[name] = float(value)
            else:
                known = codes.setdefault(name, [])
                if value not in known and len(known) < settings.max_categories:
                    known.append(value)
                row[name] = float(known.index(value) if value in known else settings.max_categories)
        rows.append([row[name] for name in names])
    return names, np.array(rows, dtype=np.float64).reshape(len(events), len(names))


def encode_in_parts(table, events, cuts):
    bounds = sorted({0, len(events), *(min(cut, len(events)) for cut in cuts)})
    parts = [table.encode(events[start:end]) for start, end in itertools.pairwise(bounds)]
    rows = np.full((len(events), table.width), np.nan)
    start = 0
    for part in parts:
        rows[start : start + len(part), : part.shape[1]] = part
        start += len(part)
    return rows


@settings(deadline=None)
@given(st.one_of(EVENTS, TIDY_EVENTS), st.lists(st.integers(0, 30), max_size=5))
def test_however_events_are_cut_the_rows_are_those_of_the_one_by_one_oracle(events, cuts):
    table = FeatureTable(SETTINGS)
    rows = encode_in_parts(table, events, cuts)
    names, expected = naive(SETTINGS, events)
    assert table.names == names
    np.testing.assert_array_equal(rows, expected)


@settings(deadline=None)
@given(EVENTS, EVENTS)
def test_a_restored_table_encodes_and_counts_as_the_one_it_was_taken_from(before, after):
    table = FeatureTable(SETTINGS)
    table.encode(before)
    other = FeatureTable(SETTINGS)
    other.restore(msgspec.msgpack.decode(msgspec.msgpack.encode(table.snapshot())))
    np.testing.assert_array_equal(table.encode(after), other.encode(after))
    assert table.snapshot() == other.snapshot()


@settings(deadline=None)
@given(EVENTS)
def test_include_and_exclude_choose_what_is_watched_and_count_nothing(events):
    settings = FeatureDriftSettings(include=("a", "b"), exclude=("b",))
    table = FeatureTable(settings)
    rows = table.encode(events)
    names, expected = naive(settings, events)
    assert table.names == names
    np.testing.assert_array_equal(rows, expected)
    assert table.features_over_limit == 0


def test_a_number_written_as_text_is_a_wrong_type_and_not_a_number():
    table = FeatureTable(FeatureDriftSettings())
    table.encode([{"a": 1.0}])
    assert table.encode([{"a": "1.5"}]).tolist() == [[-math.inf]]


def test_a_name_in_place_of_another_is_seen_although_the_count_of_names_is_the_same():
    table = FeatureTable(FeatureDriftSettings())
    table.encode([{"a": 1.0, "b": "x"}])
    rows = table.encode([{"a": 2.0, "c": 3.0}, {"c": 4.0, "b": "x"}])
    assert table.names == ["a", "b", "c"]
    np.testing.assert_array_equal(rows, [[2.0, np.nan, 3.0], [np.nan, 0.0, 4.0]])


def test_an_excluded_name_swapped_for_a_new_one_is_seen():
    table = FeatureTable(FeatureDriftSettings(exclude=("a",)))
    table.encode([{"a": 1.0, "b": 2.0}])
    np.testing.assert_array_equal(table.encode([{"c": 1.0, "b": 2.0}]), [[2.0, 1.0]])
    assert table.names == ["b", "c"]


@pytest.mark.parametrize("value", [1e308, -1e308, 5e-324, 0.1 + 0.2])
def test_large_and_small_finite_numbers_pass_bit_for_bit(value):
    table = FeatureTable(FeatureDriftSettings())
    assert table.encode([{"a": value, "b": None}])[0, 0] == value
    assert table.encode([{"a": value, "b": 1.0}])[0, 0] == value


def test_an_integer_beyond_the_range_of_floats_is_a_wrong_type():
    table = FeatureTable(FeatureDriftSettings())
    table.encode([{"a": 1.0}])
    assert table.encode([{"a": 10**400}]).tolist() == [[-math.inf]]


def test_features_and_categories_beyond_the_limits_are_counted_and_bounded():
    table = FeatureTable(FeatureDriftSettings(max_features=10, max_categories=5))
    table.encode([{f"feature_{i}": f"category {j}" for i in range(30)} for j in range(100)])
    assert table.width == 10
    assert table.features_over_limit == 20
    assert table.categories_over_limit == 10 * 95
    assert [len(table.categories(i)) for i in range(10)] == [5] * 10


def test_unwatched_names_are_remembered_only_up_to_a_bound():
    table = FeatureTable(FeatureDriftSettings(max_features=2))
    table.encode([{f"feature_{i}": 1.0} for i in range(1000)])
    assert table.features_over_limit == 998
    assert len(table.snapshot()["unwatched"]) == 8
    np.testing.assert_array_equal(table.encode([{"feature_1": 5.0, "feature_999": 1.0}]), [[np.nan, 5.0]])
    assert table.features_over_limit == 999


def test_hostile_names_and_categories_do_not_grow_the_state():
    table = FeatureTable(FeatureDriftSettings(max_features=5))
    for i in range(50):
        table.encode([{f"{i}_{j}_" + "x" * 300: 1.0 for j in range(10)} | {"a": f"{i}" + "y" * 300}])
    assert table.names == ["a"]
    assert table.features_over_limit == 500
    assert table.categories_over_limit == 50
    assert len(msgspec.msgpack.encode(table.snapshot())) < 200


def test_a_snapshot_of_a_newer_version_is_refused():
    table = FeatureTable(SETTINGS)
    with pytest.raises(StateError, match="version"):
        table.restore(table.snapshot() | {"version": 99})
