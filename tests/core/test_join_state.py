"""The join survives restarts through its blocks, which are small, written once, and checked."""

import struct
from collections.abc import Callable

import numpy as np
import pytest
import xxhash

from service.core.columns import LABEL_ROW, PREDICTION_ROW
from service.core.join import JoinBuffer, JoinOps, JoinStateError
from service.core.settings import JoinSettings

JOIN = JoinSettings()
MAX_RECORD_BYTES = 900_000


def columns(count: int, start: int, *, labels: bool, extra: bytes | None = None) -> JoinOps:
    """Operations of one sort on keys start, start + 1, ..."""
    rows = np.zeros(count, LABEL_ROW if labels else PREDICTION_ROW)
    rows["offset"] = np.arange(start, start + count)
    keys = np.random.default_rng(7).integers(0, 1 << 64, (start + count, 2), dtype=np.uint64)[start:]
    none = np.zeros(0, PREDICTION_ROW if labels else LABEL_ROW)
    parts = (none, rows) if labels else (rows, none)
    extras = None if labels else [extra] * count
    return JoinOps(np.full(count, labels), keys, np.zeros(count, np.int64), *parts, extras)


def filled() -> JoinBuffer:
    """Two and a half blocks of predictions, some joined, and some orphans."""
    buffer = JoinBuffer(JOIN)
    buffer.apply(columns(20_000, 0, labels=False, extra=b"odds"))
    buffer.apply(columns(3_000, 19_000, labels=True))
    return buffer


def test_a_block_of_rows_is_written_once_and_afterwards_only_its_flags() -> None:
    buffer = filled()
    first = dict(buffer.changed_blocks().blocks)
    assert {key.split("/")[0] for key in first} == {"meta", "waiting", "orphans", "joined", "unmatched"}
    assert list(dict(buffer.changed_blocks().blocks)) == ["meta"]
    buffer.apply(columns(100, 5_000, labels=True))
    second = dict(buffer.changed_blocks().blocks)
    assert set(second) == {"meta", "waiting/0000000000/flags", "joined/0000000000/rows"}
    assert len(second["waiting/0000000000/flags"]) < 1100


def test_blocks_that_are_no_more_are_told() -> None:
    buffer = filled()
    stored = dict(buffer.changed_blocks().blocks)
    buffer.apply(columns(9_000, 0, labels=True))
    changes = buffer.changed_blocks()
    gone = ("waiting/0000000000/extras/0", "waiting/0000000000/rows")
    assert changes.vanished == gone
    assert set(stored).issuperset(gone)
    assert not set(gone) & set(dict(changes.blocks))


def test_every_record_fits_in_900_kb() -> None:
    buffer = JoinBuffer(JOIN)
    buffer.apply(columns(9_000, 0, labels=False, extra=bytes(300)))
    buffer.apply(columns(9_000, 100_000, labels=True))
    buffer.apply(columns(9_000, 200_000, labels=False))
    buffer.apply(columns(9_000, 200_000, labels=True))
    buffer.expire(0)
    blocks = dict(buffer.snapshot_blocks())
    assert max(len(block) for block in blocks.values()) <= MAX_RECORD_BYTES
    assert len([key for key in blocks if key.startswith("waiting/0000000000/extras/")]) == -(-8192 * 304 // 800_000)
    assert tuple(JoinBuffer.restore(JOIN, blocks).sizes())[:4] == tuple(buffer.sizes())[:4]


def test_what_was_found_dead_is_reported_after_a_restart() -> None:
    buffer = JoinBuffer(JoinSettings(label_horizon_ms=10))
    buffer.apply(columns(20_000, 0, labels=False))
    again = columns(20_000, 0, labels=False)
    buffer.apply(again._replace(watermark_ms=np.full(20_000, 11)))
    restored = JoinBuffer.restore(JoinSettings(label_horizon_ms=10), dict(buffer.snapshot_blocks()))
    gone = restored.expire(10).predictions
    assert gone["offset"].tolist() == list(range(20_000))


def test_a_restored_buffer_packs_reports_and_joins_like_the_first() -> None:
    buffer = filled()
    restored = JoinBuffer.restore(JOIN, dict(buffer.snapshot_blocks()))
    for labels, start in ((True, 0), (True, 4_000), (False, 30_000), (True, 21_000)):
        batch = columns(4_000, start, labels=labels)
        ours, theirs = buffer.apply(batch), restored.apply(batch)
        assert ours.outcomes.predictions.tobytes() == theirs.outcomes.predictions.tobytes()
        assert ours.outcomes.extras == theirs.outcomes.extras
        assert ours.label_fate.tolist() == theirs.label_fate.tolist()
    assert dict(buffer.snapshot_blocks()) == dict(restored.snapshot_blocks())


def test_blocks_that_belong_to_nothing_are_left_alone_and_told_as_vanished() -> None:
    buffer = filled()
    blocks = dict(buffer.snapshot_blocks()) | {"waiting/0000009999/rows": b"of an older life"}
    restored = JoinBuffer.restore(JOIN, blocks)
    assert restored.changed_blocks().vanished == ("waiting/0000009999/rows",)


def test_reading_blocks_after_the_buffer_has_changed_is_refused() -> None:
    buffer = filled()
    blocks = buffer.snapshot_blocks()
    next(blocks)
    buffer.apply(columns(1, 50_000, labels=False))
    with pytest.raises(RuntimeError, match="changed while"):
        next(blocks)


def reseal(key: str, payload: bytes, version: int = 2) -> bytes:
    """Write a block as documented, independently of the program."""
    checksum = xxhash.xxh3_64_intdigest(payload, seed=xxhash.xxh32_intdigest(key.encode()))
    return struct.pack("<4sHHQ", b"TGJB", version, 0, checksum) + payload


def flip(block: bytes) -> bytes:
    return block[:-1] + bytes([block[-1] ^ 1])


ROWS, FLAGS = "waiting/0000000001/rows", "waiting/0000000002/flags"


@pytest.mark.parametrize("key", ["meta", ROWS, FLAGS, "waiting/0000000001/extras/0"])
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (flip, "is damaged"),
        (lambda block: block[:-1], "is damaged"),
        (lambda block: b"", "is no join block"),
        (lambda block: b"JUNK" + block[4:], "is no join block"),
        (lambda block: reseal("another/key", block[16:]), "is damaged"),
        (lambda block: reseal("meta", b"", version=3), "has version 3; this program knows versions up to 2"),
    ],
)
def test_a_spoilt_block_is_named(key: str, spoil: Callable[[bytes], bytes], message: str) -> None:
    blocks = dict(filled().snapshot_blocks())
    blocks[key] = spoil(blocks[key])
    with pytest.raises(JoinStateError, match=f"{key} {message}"):
        JoinBuffer.restore(JOIN, blocks)


@pytest.mark.parametrize("key", ["meta", ROWS, FLAGS, "joined/0000000000/rows", "orphans/0000000000/rows"])
def test_a_missing_block_is_named(key: str) -> None:
    blocks = dict(filled().snapshot_blocks())
    del blocks[key]
    with pytest.raises(JoinStateError, match=f"{key} is missing"):
        JoinBuffer.restore(JOIN, blocks)


def test_a_block_from_another_moment_is_named() -> None:
    buffer = filled()
    old = dict(buffer.snapshot_blocks())
    buffer.apply(columns(1_000, 17_000, labels=True))
    new = dict(buffer.snapshot_blocks())
    for key in (FLAGS, "joined/0000000000/rows"):
        with pytest.raises(JoinStateError, match=key):
            JoinBuffer.restore(JOIN, new | {key: old[key]})
