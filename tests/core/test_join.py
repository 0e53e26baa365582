"""The join obeys its rules wherever its input is cut, whatever its blocks look like, and across restarts."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.core.columns import LABEL_ROW, PREDICTION_ROW
from service.core.join import JoinBuffer, JoinOps, LabelFate
from service.core.settings import JoinSettings
from tests.core.join_model import JoinModel, Op, Trace, batch_of

# Halves that collide: equal buckets and equal tags with different keys, so that chains and comparisons are used.
HALVES = st.sampled_from([0, 1, 2, 1 << 32, (1 << 32) + 1, 1 << 63, (1 << 64) - 1])
KEYS = st.tuples(HALVES, HALVES)


@contextmanager
def small_blocks(check_every: int = 8, shift: int = 3) -> Iterator[None]:
    """Look at the bounds every few operations and keep a few rows a block, so that short runs meet every edge."""
    with (
        patch("service.core.join.buffer.CHECK_EVERY", check_every),
        patch("service.core.join.store.SHIFT", shift),
        patch("service.core.join.store.BLOCK_ROWS", 1 << shift),
        patch("service.core.join.store._SPARE_SLOTS", 1),
        patch("service.core.join.entries.BLOCK_ROWS", 1 << shift),
        patch("service.core.join.blocks.BLOCK_ROWS", 1 << shift),
        patch("service.core.join.blocks.PART_BYTES", 40),
    ):
        yield


@st.composite
def runs(draw: st.DrawFn, max_ops: int = 60) -> list[Op]:
    keys = draw(st.lists(KEYS, min_size=1, max_size=12, unique=True))
    watermark, ops = 0, []
    for _ in range(draw(st.integers(1, max_ops))):
        watermark += draw(st.sampled_from([0, 0, 0, 1, 2, 7]))
        is_label = draw(st.booleans())
        extra = None if is_label else draw(st.sampled_from([None, b"", b"x", b"yy" * 20]))
        time_ms = watermark + draw(st.integers(-6, 3))
        ops.append(Op(is_label, draw(st.sampled_from(keys)), time_ms, watermark, draw(st.integers(0, 2)), extra))
    return ops


JOIN_SETTINGS = st.builds(
    JoinSettings,
    label_horizon_ms=st.integers(1, 20),
    orphan_horizon_ms=st.integers(1, 10),
    correction_horizon_ms=st.integers(0, 10),
    max_entries=st.sampled_from([1, 3, 8, 1000]),
    max_bytes=st.sampled_from([150, 400, 10_000]),
)


def model_trace(join: JoinSettings, ops: Sequence[Op], expire_after: set[int], check_every: int = 8) -> Trace:
    model = JoinModel(join, check_every)
    for number, op in enumerate(ops):
        model.do(op)
        if number in expire_after:
            model.expire(op.watermark_ms)
    model.expire(ops[-1].watermark_ms + 1000)
    return model.trace


class Durable:
    """A buffer and what a changelog holds of it."""

    def __init__(self, join: JoinSettings) -> None:
        self.join, self.buffer, self.blocks = join, JoinBuffer(join), dict[str, bytes]()

    def commit(self) -> None:
        changes = self.buffer.changed_blocks()
        self.blocks.update(changes.blocks)
        for key in changes.vanished:
            del self.blocks[key]
        assert self.blocks == dict(self.buffer.snapshot_blocks())

    def crash(self) -> None:
        """Commit, lose the buffer and restore it."""
        self.commit()
        self.buffer = JoinBuffer.restore(self.join, self.blocks)


def buffer_trace(
    join: JoinSettings, ops: Sequence[Op], cuts: set[int], expire_after: set[int], crashes: set[int]
) -> Trace:
    durable, trace, start = Durable(join), Trace(), 0
    for stop in sorted({*cuts, *(n + 1 for n in expire_after), *crashes, len(ops)}):
        if start < stop <= len(ops):
            trace.add(start, durable.buffer.apply(batch_of(start, ops[start:stop])))
            if stop - 1 in expire_after:
                expire(durable.buffer, ops[stop - 1].watermark_ms, trace)
            start = stop
        if stop in crashes:
            durable.crash()
        elif stop in cuts:
            durable.commit()
    expire(durable.buffer, ops[-1].watermark_ms + 1000, trace)
    return trace


def expire(buffer: JoinBuffer, watermark_ms: int, trace: Trace) -> None:
    gone = buffer.expire(watermark_ms)
    trace.expired.append((gone.predictions["offset"].tolist(), gone.labels["offset"].tolist()))
    late = (gone.late.labels["offset"].tolist(), gone.late.made_ms.tolist(), gone.late.answered.tolist())
    trace.late.append(list(zip(*late, strict=True)))
    trace.sizes.append(tuple(buffer.sizes())[:4])


NUMBERS = st.sets(st.integers(0, 60), max_size=8)


def assert_one_at_a_time(
    ops: list[Op], join: JoinSettings, cuts: set[int], expire_after: set[int], crashes: set[int]
) -> None:
    expire_after = {n for n in expire_after if n < len(ops)}
    with small_blocks():
        assert buffer_trace(join, ops, cuts, expire_after, crashes) == model_trace(join, ops, expire_after)


@settings(deadline=None, max_examples=120)
@given(runs(), JOIN_SETTINGS, NUMBERS, NUMBERS, NUMBERS)
def test_the_join_is_that_of_one_operation_at_a_time_wherever_it_is_cut_expired_or_restored(
    ops: list[Op], join: JoinSettings, cuts: set[int], expire_after: set[int], crashes: set[int]
) -> None:
    assert_one_at_a_time(ops, join, cuts, expire_after, crashes)


@pytest.mark.slow
@settings(deadline=None, max_examples=1200)
@given(runs(max_ops=120), JOIN_SETTINGS, NUMBERS, NUMBERS, NUMBERS)
def test_the_join_is_that_of_one_operation_at_a_time_in_thousands_of_longer_runs(
    ops: list[Op], join: JoinSettings, cuts: set[int], expire_after: set[int], crashes: set[int]
) -> None:
    assert_one_at_a_time(ops, join, cuts, expire_after, crashes)


def random_run(seed: int, count: int, keys: int, repeats: float) -> list[Op]:
    """A run of many keys: predictions and labels in both orders, some repeated, corrected, late or never answered."""
    rng = np.random.default_rng(seed)
    names = rng.integers(0, 1 << 64, (keys, 2), dtype=np.uint64).tolist()
    fresh = rng.permutation(np.repeat(np.arange(keys), 2))[:count]
    chosen = np.where(rng.random(len(fresh)) < repeats, rng.integers(0, keys, len(fresh)), fresh)
    watermark = rng.integers(0, 3, len(fresh)).cumsum()
    late = watermark - rng.integers(0, 400, len(fresh))
    extras = [None, None, b"some probabilities"]
    return [
        Op(bool(label), tuple(names[key]), int(time_ms), int(now), int(revision), extras[revision])
        for label, key, time_ms, now, revision in zip(
            rng.random(len(fresh)) < 0.5, chosen, late, watermark, rng.integers(0, 3, len(fresh)), strict=True
        )
    ]


@pytest.mark.parametrize("repeats", [0.0, 0.3])
@pytest.mark.parametrize("seed", range(4))
def test_growing_packing_and_emptying_blocks_is_not_noticed_from_outside(seed: int, repeats: float) -> None:
    ops = random_run(seed, 6000, 4000, repeats)
    rng = np.random.default_rng(seed)
    join = JoinSettings(
        label_horizon_ms=4000, orphan_horizon_ms=2000, correction_horizon_ms=700, max_entries=[900, 10**6][seed % 2]
    )
    cuts, expire_after, crashes = (set(rng.integers(0, len(ops), n).tolist()) for n in (40, 12, 5))
    with small_blocks(check_every=256, shift=5):
        seen = buffer_trace(join, ops, cuts, expire_after, crashes)
        assert seen == model_trace(join, ops, expire_after, check_every=256)
    assert len(seen.outcomes) > 300
    assert bool(seen.evicted_predictions) == (seed % 2 == 0)


@pytest.mark.parametrize("seed", range(3))
def test_sparse_blocks_are_packed_and_keep_their_order_and_their_extras(seed: int) -> None:
    rng = np.random.default_rng(seed)
    names = [tuple(key) for key in rng.integers(0, 1 << 64, (500, 2), dtype=np.uint64).tolist()]
    extras = rng.integers(0, 3, len(names)).tolist()
    ops = [Op(False, key, 0, 0, 0, [None, b"a", b"bb"][extra]) for key, extra in zip(names, extras, strict=True)]
    ops += [Op(True, names[i], 0, 0) for i in rng.permutation(500)[:400]]
    ops += [Op(False, (seed, i), 1, 1) for i in range(40)]
    join = JoinSettings(label_horizon_ms=10, max_entries=450)
    cuts, crashes = set(range(0, len(ops), 50)), {650, 880}
    with small_blocks(check_every=900, shift=4):
        durable = Durable(join)
        for start in range(0, 900, 20):
            durable.buffer.apply(batch_of(start, ops[start : start + 20]))
        rows = [key for key, _ in durable.buffer.snapshot_blocks() if "waiting" in key and "rows" in key]
        assert len(rows) <= 2 * 100 / 16 + 3, "at most twice the blocks that 100 rows need"
        assert buffer_trace(join, ops, cuts, set(), crashes) == model_trace(join, ops, set(), check_every=900)


JOIN = JoinSettings(label_horizon_ms=1000, orphan_horizon_ms=100, correction_horizon_ms=500)
A, B = (1, 2), (3, 4)


def prediction(key: tuple[int, int], now: int, extra: bytes | None = None) -> Op:
    return Op(False, key, now, now, 0, extra)


def label(key: tuple[int, int], now: int, revision: int = 0) -> Op:
    return Op(True, key, now, now, revision)


@pytest.fixture(params=["in one batch", "one by one"])
def join(request: pytest.FixtureRequest):
    """Run operations in one batch and one by one."""

    def run(*ops: Op, limits: JoinSettings = JOIN) -> tuple[Trace, JoinBuffer]:
        trace, buffer = Trace(), JoinBuffer(limits)
        step = len(ops) if request.param == "in one batch" else 1
        for start in range(0, len(ops), step):
            trace.add(start, buffer.apply(batch_of(start, ops[start : start + step])))
        return trace, buffer

    return run


def test_a_label_that_comes_after_its_prediction_joins_at_once(join) -> None:
    trace, _ = join(prediction(A, 0, b"p"), prediction(B, 0), label(A, 5))
    assert trace.outcomes == [(2, 0, 2, b"p")]
    assert trace.label_fate == [LabelFate.JOINED]


def test_a_label_that_arrives_before_its_prediction_joins_when_the_prediction_comes(join) -> None:
    trace, _ = join(label(A, 0), prediction(B, 1), prediction(A, 5, b"p"))
    assert trace.outcomes == [(2, 2, 0, b"p")]
    assert trace.label_fate == [LabelFate.WAITING]


def test_of_two_predictions_with_one_key_the_first_counts(join) -> None:
    trace, _ = join(prediction(A, 0), prediction(A, 1), label(A, 2), prediction(A, 3))
    assert trace.new_prediction == [True, False, False]
    assert trace.outcomes == [(2, 0, 2, None)]


def test_a_label_with_a_higher_revision_corrects_an_outcome_and_others_are_duplicates(join) -> None:
    trace, _ = join(prediction(A, 0), label(A, 1, 1), label(A, 2, 1), label(A, 3, 0), label(A, 4, 2))
    assert trace.corrections == [(4, 0, 1, 4)]
    fates = (LabelFate.JOINED, LabelFate.DUPLICATE, LabelFate.DUPLICATE, LabelFate.CORRECTED)
    assert tuple(trace.label_fate) == fates


def test_a_waiting_label_is_replaced_by_a_higher_revision_only(join) -> None:
    trace, _ = join(label(A, 0, 1), label(A, 1, 2), label(A, 2, 0), prediction(A, 3))
    assert trace.outcomes == [(3, 3, 1, None)]
    assert trace.label_fate == [LabelFate.WAITING, LabelFate.REPLACED, LabelFate.DUPLICATE]


def test_a_prediction_waits_up_to_its_horizon_and_not_one_millisecond_longer(join) -> None:
    in_time, _ = join(prediction(A, 0), label(A, 1000))
    late, buffer = join(prediction(A, 0), label(A, 1001))
    assert len(in_time.outcomes) == 1
    assert late.outcomes == []
    assert buffer.expire(1001).predictions["offset"].tolist() == [0]
    assert buffer.expire(1002).predictions.size == 0, "an expired prediction is reported once"


def test_a_label_that_comes_too_late_waits_as_an_orphan_and_expires_unmatched(join) -> None:
    trace, buffer = join(prediction(A, 0), label(A, 2000))
    assert trace.label_fate == [LabelFate.WAITING]
    assert buffer.expire(2101).labels["offset"].tolist() == [1]


def test_a_prediction_that_comes_again_after_it_expired_is_new(join) -> None:
    trace, _ = join(prediction(A, 0), prediction(A, 1001))
    assert trace.new_prediction == [True, True]


def test_an_outcome_is_remembered_from_its_last_label_for_the_correction_horizon(join) -> None:
    trace, _ = join(prediction(A, 0), label(A, 0, 0), label(A, 500, 1), label(A, 1000, 2), label(A, 1501, 3))
    assert [operation for operation, *_ in trace.corrections] == [2, 3]
    assert trace.label_fate[-1] == LabelFate.WAITING


def test_keys_that_share_a_tag_and_a_bucket_are_told_apart(join) -> None:
    keys = [(5, (i << 32) + 7) for i in range(40)]
    ops = [prediction(key, 0) for key in keys] + [label(key, 1) for key in reversed(keys)]
    trace, _ = join(*ops)
    assert trace.outcomes == [(40 + i, 39 - i, 40 + i, None) for i in range(40)]


def columns(count: int, start: int, *, labels: bool, time_ms: int = 0) -> JoinOps:
    """Operations of one sort on keys start, start + 1, ..."""
    rows = np.zeros(count, LABEL_ROW if labels else PREDICTION_ROW)
    rows["offset"], rows["time_ms"] = np.arange(start, start + count), time_ms
    keys = np.random.default_rng(7).integers(0, 1 << 64, (start + count, 2), dtype=np.uint64)[start:]
    none = np.zeros(0, PREDICTION_ROW if labels else LABEL_ROW)
    parts = (none, rows) if labels else (rows, none)
    return JoinOps(np.full(count, labels), keys, np.full(count, time_ms), *parts)


def test_beyond_its_bounds_the_oldest_predictions_are_given_up_and_counted_after_outcomes_and_orphans() -> None:
    buffer = JoinBuffer(JoinSettings(max_entries=5000))
    buffer.apply(columns(1000, 0, labels=False))
    buffer.apply(columns(500, 0, labels=True))
    buffer.apply(columns(596, 1000, labels=True))
    first = buffer.apply(columns(6096, 2000, labels=False))
    # Looked at after 4096 operations: 500 waiting + 500 joined + 596 orphans + 2000, all within the bounds. Then after
    # 8192 operations, 6096 new ones: 7692 entries. 2692 go: 500 outcomes, 596 orphans, 1596 predictions.
    assert (first.evicted_joined, len(first.evicted.labels), len(first.evicted.predictions)) == (500, 596, 1596)
    assert first.evicted.predictions["offset"].tolist() == [*range(500, 1000), *range(2000, 3096)]
    assert tuple(buffer.sizes())[:3] == (5000, 0, 0)


def test_extras_count_towards_the_bytes() -> None:
    buffer = JoinBuffer(JoinSettings(max_bytes=1_000_000))
    batch = columns(4096, 0, labels=False)._replace(extras=[bytes(1000)] * 4096)
    result = buffer.apply(batch)
    kept = 1_000_000 // (89 + 1004)
    assert buffer.sizes().waiting == kept
    assert result.evicted.predictions["offset"].tolist() == list(range(4096 - kept))
    assert buffer.apply(columns(kept, 4096 - kept, labels=True)).outcomes.extras == [bytes(1000)] * kept
    assert buffer.sizes().size_bytes == kept * 117


def test_memory_follows_the_entries_down_again() -> None:
    buffer = JoinBuffer(JoinSettings(correction_horizon_ms=0))
    for start in range(0, 200_000, 4000):
        buffer.apply(columns(4000, start, labels=False))
    full = buffer.sizes()
    assert full.memory_bytes < 130 * 200_000
    for start in range(0, 200_000, 4000):
        buffer.apply(columns(4000, start, labels=True, time_ms=start))
        buffer.expire(start)
    assert buffer.sizes().memory_bytes < full.memory_bytes / 4


def test_a_falling_watermark_is_refused_and_nothing_is_done() -> None:
    buffer = JoinBuffer(JOIN)
    buffer.apply(batch_of(0, [prediction(A, 10)]))
    with pytest.raises(ValueError, match="watermark falls"):
        buffer.apply(batch_of(1, [prediction(B, 11), label(B, 9)]))
    with pytest.raises(ValueError, match="watermark falls"):
        buffer.apply(batch_of(1, [prediction(B, 9)]))
    assert buffer.sizes().waiting == 1


def test_columns_of_different_lengths_are_refused() -> None:
    batch = batch_of(0, [prediction(A, 10), label(B, 10)])
    buffer = JoinBuffer(JOIN)
    for wrong in (
        batch._replace(keys=batch.keys[:1]),
        batch._replace(watermark_ms=batch.watermark_ms[:1]),
        batch._replace(labels=batch.labels[:0]),
        batch._replace(predictions=np.zeros(2, PREDICTION_ROW)),
        batch._replace(extras=[b"", b""]),
        batch._replace(extras=[bytes((1 << 17) + 1)]),
    ):
        with pytest.raises(ValueError, match=r"with|rows|longer"):
            buffer.apply(wrong)
    assert buffer.apply(batch).new_prediction.tolist() == [True]


def test_an_empty_batch_does_nothing() -> None:
    result = JoinBuffer(JOIN).apply(batch_of(0, []))
    assert len(result.outcomes.operation) == len(result.corrections.operation) == result.evicted_joined == 0
