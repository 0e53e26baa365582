"""Laws of the window of outcomes, against a list that keeps everything."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.protocol import StateError
from service.core.columns import Outcomes
from service.core.metrics import OutcomeWindow, loss
from service.core.metrics.blocks import BLOCK_ROWS, MAX_VECTOR_CLASSES
from service.core.metrics.losses import LARGEST_LOSS
from service.core.settings import WindowSettings
from tests.core.metrics.outcomes import cut, random_outcomes

FIELDS = ("watermark_ms", "actual", "predicted", "score", "weight")
EVERYTHING = WindowSettings(last=10**9)

seeds = st.integers(0, 2**32 - 1)
sizes = st.integers(0, 1700)
capacities = st.sampled_from([1, 100, 511, 512, 513, 900, 5000])
cuts = st.lists(st.integers(0, 1700), max_size=6)


def losses(outcomes: Outcomes) -> np.ndarray:
    return loss("multiclass", outcomes.predicted, outcomes.actual)


def fed(outcomes: Outcomes, capacity: int, at: list[int]) -> OutcomeWindow:
    """Feed a new window with batches that end at the given places."""
    n = outcomes.sequence.size
    window = OutcomeWindow("multiclass", capacity)
    places = [0, *sorted(min(place, n) for place in at), n]
    for start, stop in pairwise(places):
        part = cut(outcomes, start, stop)
        window.extend(part, losses(part))
    return window


def copied(window: OutcomeWindow, capacity: int | None = None) -> OutcomeWindow:
    twin = OutcomeWindow(window.problem, capacity or window.capacity)
    twin.restore(window.snapshot(), dict(window.snapshot_blocks()))
    return twin


def state(window: OutcomeWindow) -> object:
    return window.snapshot(), window.snapshot_blocks()


def vector_of(outcomes: Outcomes, index: int, classes: int) -> list[float]:
    packed = outcomes.probabilities[index]
    if packed is None:
        return [np.nan] * classes
    known = np.frombuffer(packed).tolist()
    return (known + [0.0] * classes)[:classes]


@settings(max_examples=60, deadline=None)
@given(seeds, sizes, capacities, cuts, st.tuples(st.integers(1, 1700), st.integers(0, 1700), st.integers(0, 1900)))
def test_a_window_holds_what_a_list_of_everything_would_give(seed, n, capacity, at, asked):
    last, duration, now = asked
    outcomes = random_outcomes(seed, n)
    window = fed(outcomes, capacity, at)
    kept = max(0, n - capacity)

    by_count = window.select(WindowSettings(last=last), now)
    first = max(kept, n - last)
    assert by_count.truncated == (min(last, n) > n - kept)
    assert by_count.number.tolist() == list(range(first, n))
    for name in FIELDS:
        np.testing.assert_array_equal(getattr(by_count, name), getattr(outcomes, name)[first:])
    np.testing.assert_array_equal(by_count.loss, losses(outcomes)[first:])

    by_time = window.select(WindowSettings(duration_ms=duration + 1), now)
    since = now - duration - 1
    inside = [i for i in range(n) if since <= outcomes.watermark_ms[i] < now]
    assert by_time.number.tolist() == [i for i in inside if i >= kept]
    if inside:
        assert by_time.truncated == (inside[0] < kept)


@settings(max_examples=30, deadline=None)
@given(seeds, sizes, capacities, cuts)
def test_probabilities_come_back_padded_with_zeros_for_classes_that_came_later(seed, n, capacity, at):
    outcomes = random_outcomes(seed, n, vector_share=0.05)
    columns = fed(outcomes, capacity, at).select(EVERYTHING, 0)
    first = n - columns.number.size
    if columns.probabilities is None:
        assert all(vector is None for vector in outcomes.probabilities[first:])
    else:
        classes = columns.probabilities.shape[1]
        expected = [vector_of(outcomes, i, classes) for i in range(first, n)]
        np.testing.assert_array_equal(columns.probabilities, np.array(expected))


@settings(max_examples=40, deadline=None)
@given(seeds, sizes, capacities, cuts, cuts)
def test_the_same_outcomes_give_the_same_state_wherever_they_are_cut(seed, n, capacity, some, others):
    outcomes = random_outcomes(seed, n)
    assert state(fed(outcomes, capacity, some)) == state(fed(outcomes, capacity, others))


@settings(max_examples=40, deadline=None)
@given(seeds, st.integers(1, 1700), capacities, st.integers(0, 1700), cuts)
def test_a_window_restored_at_any_cut_goes_on_as_if_nothing_had_happened(seed, n, capacity, stop, at):
    outcomes = random_outcomes(seed, n)
    stop = min(stop, n)
    restored = copied(fed(cut(outcomes, 0, stop), capacity, at))
    rest = cut(outcomes, stop, n)
    restored.extend(rest, losses(rest))
    assert state(restored) == state(fed(outcomes, capacity, at))


@settings(max_examples=40, deadline=None)
@given(
    seeds, st.integers(1, 1700), capacities, st.lists(st.tuples(st.integers(0, 1800), st.integers(0, 3)), max_size=9)
)
def test_a_correction_replaces_label_and_loss_of_its_outcome_and_of_no_other(seed, n, capacity, corrections):
    outcomes = random_outcomes(seed, n)
    window = fed(outcomes, capacity, [])
    actual = outcomes.actual.copy()
    expected = []
    for offset, label in corrections:
        place = np.flatnonzero(outcomes.prediction_offset == offset)
        expected.append(bool(place.size and place[0] >= n - capacity))
        actual[place] = label
    offsets = np.array([offset for offset, _ in corrections], dtype=np.int64)
    found = window.correct(offsets, np.array([label for _, label in corrections], dtype=np.float64), offsets)
    assert found.tolist() == expected
    columns = window.select(EVERYTHING, 0)
    np.testing.assert_array_equal(columns.actual, actual[columns.number])
    np.testing.assert_array_equal(columns.loss, loss("multiclass", outcomes.predicted, actual)[columns.number])


@settings(max_examples=40, deadline=None)
@given(seeds, sizes, capacities, st.integers(-5, 1800))
def test_since_a_change_point_tells_offsets_and_mean_loss_of_what_is_kept(seed, n, capacity, number):
    outcomes = random_outcomes(seed, n)
    since = fed(outcomes, capacity, []).since(number)
    first = max(number, n - capacity, 0)
    rows = slice(first, n)
    assert since.outcomes == max(0, n - first)
    assert since.truncated == (first > max(number, 0))
    if since.outcomes:
        offsets = outcomes.prediction_offset[rows]
        assert since.first_number == first
        assert since.whole_ms == outcomes.watermark_ms[first]
        assert since.prediction_offsets == (offsets.min(), offsets.max())
        assert since.label_offsets == (2 * first, 2 * (n - 1))
        assert since.mean_loss == pytest.approx(losses(outcomes)[rows].mean())
    else:
        assert since.prediction_offsets is None
        assert since.mean_loss is None


@settings(max_examples=20, deadline=None)
@given(seeds, st.lists(st.integers(0, 700), min_size=1, max_size=6), st.sampled_from([100, 700, 1500]))
def test_writing_changed_blocks_alone_keeps_a_store_from_which_the_window_comes_back(seed, batches, capacity):
    outcomes = random_outcomes(seed, sum(batches))
    window = OutcomeWindow("multiclass", capacity)
    store: dict[str, bytes] = {}
    start = 0
    for turn, size in enumerate(batches):
        part = cut(outcomes, start, start + size)
        window.extend(part, losses(part))
        old = outcomes.prediction_offset[:start:97]
        window.correct(old, np.full(old.size, float(turn)), old)
        changed, vanished = window.changed_blocks()
        store.update(changed)
        for key in vanished:
            del store[key]
        start += size
    assert sorted(store.items()) == window.snapshot_blocks()
    twin = OutcomeWindow("multiclass", capacity)
    twin.restore(window.snapshot(), store)
    assert state(twin) == state(window)


def test_a_restored_window_still_knows_which_blocks_lie_in_the_store():
    outcomes = random_outcomes(12, 3 * BLOCK_ROWS)
    before = fed(cut(outcomes, 0, BLOCK_ROWS), 100, [])
    assert copied(before).changed_blocks() == ([], [])
    restored = copied(before)
    rest = cut(outcomes, BLOCK_ROWS, 3 * BLOCK_ROWS)
    restored.extend(rest, losses(rest))
    changed, vanished = restored.changed_blocks()
    assert ([key for key, _ in changed], vanished) == (["outcomes-0000000002"], ["outcomes-0000000000"])


@pytest.mark.parametrize("place", [1, 100, BLOCK_ROWS, BLOCK_ROWS + 1])
def test_a_block_is_as_wide_as_its_own_vectors_whatever_came_in_the_same_batch(place):
    narrow, wide, zero = (np.array(vector).tobytes() for vector in ([1.0], [0.0, 0.5, 0.5], [0.0, 0.0]))
    vectors = [zero, *[narrow] * (BLOCK_ROWS - 1), *[wide] * BLOCK_ROWS]
    outcomes = random_outcomes(13, 2 * BLOCK_ROWS)._replace(probabilities=vectors)
    assert state(fed(outcomes, 5000, [place])) == state(fed(outcomes, 5000, []))
    columns = fed(outcomes, 5000, []).select(EVERYTHING, 0)
    assert columns.probabilities is not None
    assert columns.probabilities[[0, 1, -1]].tolist() == [[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.5, 0.5]]


def test_a_full_block_that_nothing_touches_is_written_once():
    outcomes = random_outcomes(1, 3 * BLOCK_ROWS)
    window = fed(cut(outcomes, 0, 2 * BLOCK_ROWS), 5000, [])
    assert [key for key, _ in window.changed_blocks()[0]] == ["outcomes-0000000000", "outcomes-0000000001"]
    part = cut(outcomes, 2 * BLOCK_ROWS, 2 * BLOCK_ROWS + 1)
    window.extend(part, losses(part))
    assert [key for key, _ in window.changed_blocks()[0]] == ["outcomes-0000000002"]
    assert window.changed_blocks() == ([], [])


def test_a_block_of_the_longest_vectors_fits_in_a_kafka_record():
    outcomes = random_outcomes(2, BLOCK_ROWS)._replace(
        probabilities=[np.full(MAX_VECTOR_CLASSES, 0.005).tobytes()] * BLOCK_ROWS
    )
    assert len(fed(outcomes, 5000, []).snapshot_blocks()[0][1]) < 900_000


def test_a_model_of_fifty_outcomes_does_not_pay_for_five_thousand():
    window = fed(random_outcomes(3, 50, vector_share=0.0), 5000, list(range(50)))
    assert window.nbytes <= 2 * 50 * 72
    assert window.select(EVERYTHING, 0).probabilities is None


def test_memory_stays_within_capacity_and_two_blocks():
    window = fed(random_outcomes(4, 9000, vector_share=0.0), 1000, list(range(0, 9000, 250)))
    assert len(window) == 1000
    assert window.total == 9000
    assert window.nbytes <= (1000 + 2 * BLOCK_ROWS) * 72


@pytest.mark.parametrize("at", [[], [1], list(range(0, 300, 7))])
def test_vectors_of_too_many_classes_are_not_kept_and_are_counted_even_if_pushed_out_at_once(at):
    long = np.full(MAX_VECTOR_CLASSES + 1, 0.001).tobytes()
    outcomes = random_outcomes(5, 2000)._replace(probabilities=[long, b"", None, np.array([1.0]).tobytes()] * 500)
    window = fed(outcomes, 100, at)
    assert window.vectors_dropped_total == 500
    columns = window.select(EVERYTHING, 0)
    assert columns.probabilities is not None
    np.testing.assert_array_equal(columns.probabilities[:, 0], [np.nan, np.nan, np.nan, 1.0] * 25)


def test_a_huge_window_keeps_only_short_vectors():
    assert OutcomeWindow("multiclass", 1_000_000).vector_limit == 8


def test_a_smaller_capacity_after_a_restart_forgets_and_says_so():
    outcomes = random_outcomes(6, 1600)
    smaller = copied(fed(outcomes, 5000, []), capacity=300)
    assert state(smaller) == state(fed(outcomes, 300, []))


def test_a_greater_capacity_after_a_restart_goes_on_with_what_there_is():
    outcomes = random_outcomes(7, 1610)
    greater = copied(fed(cut(outcomes, 0, 1600), 300, []), capacity=5000)
    rest = cut(outcomes, 1600, 1610)
    greater.extend(rest, losses(rest))
    assert len(greater) == 310
    assert greater.select(WindowSettings(last=311), 0).truncated
    assert not greater.select(WindowSettings(last=310), 0).truncated


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda header, blocks: header.update(version=2), "of version 1, got 2"),
        (lambda header, blocks: header.update(problem="regression"), "of a multiclass problem, got regression"),
        (lambda header, blocks: header.update(total=-1), "total -1"),
        (lambda header, blocks: header.update(first="0"), r"\$.first"),
        (lambda header, blocks: blocks.pop("outcomes-0000000001"), "missing block outcomes-0000000001"),
        (lambda header, blocks: blocks.update({"outcomes-0000000001": b"\x00"}), "damaged block 1"),
        (
            lambda header, blocks: blocks.update({"outcomes-0000000001": blocks["outcomes-0000000000"]}),
            "damaged block 1",
        ),
        (lambda header, blocks: header.update(total=601), "has 88 rows"),
    ],
)
def test_a_damaged_or_newer_snapshot_is_refused_and_changes_nothing(damage, message):
    window = fed(random_outcomes(8, 600), 5000, [])
    header, blocks = window.snapshot(), dict(window.snapshot_blocks())
    damage(header, blocks)
    before = state(window)
    with pytest.raises(StateError, match=message):
        window.restore(header, blocks)
    assert state(window) == before


def test_a_block_of_a_newer_version_is_refused():
    import msgspec

    window = fed(random_outcomes(9, 5), 100, [])
    key, packed = window.snapshot_blocks()[0]
    newer = [2, *msgspec.msgpack.decode(packed)[1:]]
    with pytest.raises(StateError, match="of version 1, got 2"):
        window.restore(window.snapshot(), {key: msgspec.msgpack.encode(newer)})


def test_watermarks_that_fall_are_refused_within_a_batch_and_between_batches():
    outcomes = random_outcomes(10, 4)._replace(watermark_ms=np.array([5, 5, 4, 9]))
    window = OutcomeWindow("multiclass", 100)
    with pytest.raises(ValueError, match="never fall"):
        window.extend(outcomes, losses(outcomes))
    good = outcomes._replace(watermark_ms=np.array([5, 5, 6, 9]))
    window.extend(good, losses(good))
    before = state(window)
    with pytest.raises(ValueError, match="never fall"):
        window.extend(good, losses(good))
    assert state(window) == before


def test_probabilities_that_are_no_whole_numbers_are_refused():
    outcomes = random_outcomes(11, 1)._replace(probabilities=[b"123"])
    with pytest.raises(ValueError, match="whole float64"):
        OutcomeWindow("multiclass", 100).extend(outcomes, losses(outcomes))


def test_a_capacity_below_one_is_refused():
    with pytest.raises(ValueError, match="at least 1"):
        OutcomeWindow("binary", 0)


def test_a_classification_loss_is_one_for_a_wrong_class_and_nan_without_a_prediction():
    got = loss("binary", np.array([0.0, 1.0, np.nan]), np.array([0.0, 0.0, 1.0]))
    np.testing.assert_array_equal(got, [0.0, 1.0, np.nan])


def test_a_regression_loss_is_the_absolute_error_and_never_infinite():
    got = loss("regression", np.array([1.0, 1e308, np.nan]), np.array([3.5, -1e308, 1.0]))
    np.testing.assert_array_equal(got, [2.5, LARGEST_LOSS, np.nan])
