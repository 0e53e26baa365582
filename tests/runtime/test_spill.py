"""Waiting predictions in a file: the join cannot tell, and memory can."""

from pathlib import Path

import msgspec
import numpy as np
import pytest

from schemas.codec import encode
from service.config import Config
from service.core.columns import LABEL_ROW, PREDICTION_ROW
from service.core.join import JoinBuffer, JoinOps, JoinResult, Spill
from service.core.settings import JoinSettings
from service.eventlog.memory import MemoryLog
from service.runtime.spill import FileRows, spill_of
from service.runtime.topics import prepare_topics
from tests.core.stream import Driver, drifting
from tests.runtime.service import consumed, fast, outputs_of, publish, running
from tests.runtime.test_service import output_topics

SETTINGS = JoinSettings(label_horizon_ms=400_000, correction_horizon_ms=100_000, max_entries=60_000)
KEYS = np.random.default_rng(1).integers(0, 1 << 64, (200_000, 2), dtype=np.uint64)


def mixed(rng: np.random.Generator, start: int, count: int) -> JoinOps:
    """New predictions, and labels of earlier and later ones, some of them again."""
    is_label = rng.random(count) < 0.45
    first = int(np.count_nonzero(~is_label))
    numbers = np.empty(count, np.int64)
    numbers[~is_label] = np.arange(start, start + first)
    numbers[is_label] = rng.integers(max(0, start - 60_000), start + first, count - first)
    predictions, labels = np.zeros(first, PREDICTION_ROW), np.zeros(count - first, LABEL_ROW)
    predictions["offset"] = predictions["time_ms"] = numbers[~is_label]
    labels["offset"] = labels["time_ms"] = numbers[is_label]
    labels["revision"] = rng.integers(0, 2, count - first)
    extras = [b"odds%d" % number if number % 3 else None for number in numbers[~is_label].tolist()]
    watermark = np.full(count, start * 5, np.int64)
    return JoinOps(is_label, KEYS[numbers], watermark, predictions, labels, extras)


def plain(result: JoinResult) -> list[object]:
    return [part.tobytes() if isinstance(part, np.ndarray) else part for part in _flat(result)]


def _flat(part: object) -> list[object]:
    return [leaf for inner in part for leaf in _flat(inner)] if isinstance(part, tuple) else [part]


@pytest.mark.parametrize("above_rows", [0, 20_000])
def test_a_join_with_its_rows_in_a_file_answers_and_stores_as_one_in_memory(tmp_path: Path, above_rows: int) -> None:
    spill = Spill(above_rows, lambda row_bytes: FileRows(row_bytes, tmp_path))
    here, there = JoinBuffer(SETTINGS), JoinBuffer(SETTINGS, spill=spill)
    rng, start = np.random.default_rng(above_rows), 0
    for turn in range(40):
        ops = mixed(rng, start, int(rng.integers(1, 8000)))
        start += len(ops.predictions)
        assert plain(here.apply(ops)) == plain(there.apply(ops))
        if turn % 7 == 6:
            assert plain(here.expire(start * 5)) == plain(there.expire(start * 5))
        if turn % 10 == 9:
            blocks = dict(there.snapshot_blocks())
            assert dict(here.snapshot_blocks()) == blocks
            there = JoinBuffer.restore(SETTINGS, blocks, spill=spill)
    assert tuple(here.sizes())[:4] == tuple(there.sizes())[:4]
    assert there.sizes().memory_bytes < here.sizes().memory_bytes / 2


def test_a_file_keeps_what_was_written_when_it_grows_and_shrinks(tmp_path: Path) -> None:
    memory = FileRows(3, tmp_path)
    memory.resize(10_000)
    memory.rows[:2] = np.array([b"abc", b"xyz"], "V3")
    memory.resize(1_000_000)
    for _ in range(100):
        memory.rest()
    assert memory.rows[:3].tobytes() == b"abcxyz\0\0\0"
    assert not memory.rows[2:].tobytes().strip(b"\0")
    memory.resize(1)
    memory.resize(2)
    assert memory.rows.tobytes() == b"abc\0\0\0"
    memory.resize(0)
    assert len(memory.rows) == 0


def test_files_have_no_names_so_that_none_is_left_behind(tmp_path: Path) -> None:
    memory = FileRows(64, tmp_path)
    memory.resize(1000)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_an_error_and_what_was_there_stays(tmp_path: Path) -> None:
    memory = FileRows(64, tmp_path)
    memory.resize(10)
    memory.rows[:] = np.array([b"x" * 64] * 10, "V64")
    with pytest.raises(OSError, match=r"No space left|File too large"):
        memory.resize(1 << 56)
    assert memory.rows.tobytes() == b"x" * 640


def test_nothing_is_made_where_the_settings_ask_for_nothing(tmp_path: Path) -> None:
    assert spill_of(JoinSettings(), tmp_path / "spill") is None
    assert not (tmp_path / "spill").exists()


async def test_a_service_that_spills_writes_exactly_what_the_core_says(tmp_path: Path) -> None:
    source, config, log = drifting(3000, 1500), fast(Config(), spill_directory=str(tmp_path / "spill")), MemoryLog()
    join = msgspec.structs.replace(config.core.join, spill_above_entries=0)
    config = msgspec.structs.replace(config, core=msgspec.structs.replace(config.core, join=join))
    await prepare_topics(log, config.topics, config.core)
    await publish(log, config, source)
    for _ in range(2):
        async with running(log, config) as worker:
            await consumed(log, config, worker)
    got = [value for _, value in await outputs_of(log, output_topics(config))]
    assert sorted(got) == sorted(encode(output) for output in Driver(source, Config().core).run(batch=100_000))
    assert (tmp_path / "spill").is_dir()
