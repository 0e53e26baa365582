"""The file of the embedded log is deleted, replaced or damaged; the wall clock jumps."""

import asyncio
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from service.eventlog.errors import LogLostError
from service.eventlog.protocol import NewRecord, TopicPartition, TopicSpec
from service.eventlog.sqlite import SqliteLog
from service.eventlog.sqlite.retention_clock import Uptime
from service.eventlog.sqlite.salvage import Salvage, salvage
from service.eventlog.sqlite.schema import PAGE_BYTES
from tests.eventlog.conftest import record
from tests.eventlog.reading import everything, read_until

ROOT = Path(__file__).parent.parent.parent
WHERE = TopicPartition("t", 0)
HOUR_MS = 3_600_000
YEAR_MS = 365 * 24 * HOUR_MS


def delete(path: Path) -> None:
    path.unlink()


def replace(path: Path) -> None:
    other = path.with_name("other.sqlite")
    shutil.copy(path, other)
    other.replace(path)


def delete_the_write_ahead_log(path: Path) -> None:
    path.with_name(f"{path.name}-wal").unlink()


HARM = {delete: "was deleted", replace: "was replaced by another file", delete_the_write_ahead_log: "-wal was deleted"}


@pytest.mark.parametrize(("harm", "told"), HARM.items(), ids=lambda item: getattr(item, "__name__", ""))
async def test_a_file_that_is_gone_is_noticed_by_everybody_who_uses_it(tmp_path: Path, harm, told: str):
    log = SqliteLog(tmp_path / "log.sqlite")
    await log.ensure_topics([TopicSpec("t", 1)])
    writer, appender, reader = await log.writer("w"), await log.appender(), await log.reader({WHERE: 0})
    await writer.commit([record("t", b"before")])
    harm(log.path)
    for call in (
        lambda: writer.commit([record("t", b"lost")]),
        lambda: appender.append([record("t", b"lost")]),
        lambda: reader.fetch(max_records=1, wait_ms=0),
        reader.end_offsets,
        lambda: log.partitions(["t"]),
    ):
        with pytest.raises(LogLostError, match=f"{told} while it was in use"):
            await call()
    await log.close()


async def test_who_waits_for_records_learns_it_too(tmp_path: Path):
    log = SqliteLog(tmp_path / "log.sqlite")
    await log.ensure_topics([TopicSpec("t", 1)])
    reader = await log.reader({WHERE: 0})
    waiting = asyncio.create_task(reader.fetch(max_records=1, wait_ms=20_000))
    await asyncio.sleep(0.1)
    log.path.unlink()
    with pytest.raises(LogLostError, match="was deleted"):
        async with asyncio.timeout(10):
            await waiting
    await log.close()


@pytest.mark.parametrize("harm", [delete, replace])
def test_the_service_ends_with_one_sentence(tmp_path: Path, harm):
    path, config = tmp_path / "log.sqlite", tmp_path / "config.yaml"
    config.write_text("http: {enabled: false}\nlogging: {format: json}\n")
    words = [sys.executable, "-m", "service", "run", "--config", config, "--log", path]
    program = subprocess.Popen(words, stderr=subprocess.PIPE, cwd=ROOT, text=True)
    assert program.stderr is not None
    while '"assigned"' not in program.stderr.readline():
        pass
    time.sleep(1)
    harm(path)
    try:
        _, said = program.communicate(timeout=40)
    finally:
        program.send_signal(signal.SIGKILL)
    assert program.returncode == 2
    assert "Traceback" not in said
    last = said.splitlines()[-1]
    assert re.match(rf"tidegauge: {path} was (deleted|replaced by another file) while it was in use: ", last)


def run(*words: str | Path) -> str:
    command = [sys.executable, "-m", "service", *words]
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout


async def damaged(tmp_path: Path) -> Path:
    log = SqliteLog(tmp_path / "log.sqlite")
    await log.ensure_topics([TopicSpec("t", 1)])
    appender = await log.appender()
    for start in range(0, 5_000, 1_000):
        await appender.append([record("t", b"%d" % n * 30, key=b"k") for n in range(start, start + 1_000)])
    await log.close()
    with log.path.open("r+b") as file:
        pages = log.path.stat().st_size // PAGE_BYTES
        for page in range(pages // 2, pages // 2 + 3):
            file.seek(page * PAGE_BYTES)
            file.write(b"\xff" * 64)
    return log.path


async def test_a_damaged_page_is_told_with_the_file_and_what_to_do(tmp_path: Path):
    path = await damaged(tmp_path)
    log = SqliteLog(path)
    with pytest.raises(LogLostError) as told:
        await everything(log, WHERE)
    await log.close()
    text = str(told.value)
    assert text.startswith(f"{path} is damaged (database disk image is malformed)")
    assert f"tidegauge log salvage {path} --out saved.sqlite" in text
    assert "tidegauge state rebuild" in text
    assert len(text.splitlines()) == 1


async def test_what_the_advice_saves_is_the_log_but_for_what_it_says(tmp_path: Path):
    path = await damaged(tmp_path)
    told = run("log", "salvage", path, "--out", tmp_path / "saved.sqlite")
    gaps = [tuple(map(int, gap)) for gap in re.findall(r"lost: t\[0\] offsets (\d+) to (\d+) ", told)]
    assert gaps
    missing = {offset for first, last in gaps for offset in range(first, last + 1)}
    assert 0 < len(missing) < 2_500
    saved = SqliteLog(tmp_path / "saved.sqlite")
    reader = await saved.reader({WHERE: 0})
    chunks = await read_until(reader, 5_000 - len(missing))
    found = {int(offset): value for chunk in chunks for offset, value in zip(chunk.offsets, chunk.values, strict=True)}
    assert found == {n: b"%d" % n * 30 for n in range(5_000) if n not in missing}
    await (await saved.appender()).append([record("t", b"next")])
    assert (await reader.end_offsets())[WHERE] == 5_001
    await saved.close()


async def test_an_undamaged_log_is_saved_whole(tmp_path: Path):
    log = SqliteLog(tmp_path / "log.sqlite")
    await log.ensure_topics([TopicSpec("t", 2), TopicSpec("empty", 1)])
    await (await log.appender()).append([record("t", b"%d" % n, partition=n % 2) for n in range(100)])
    await log.close()
    assert salvage(log.path, tmp_path / "saved.sqlite") == Salvage(100, ())


async def test_a_file_that_is_no_database_is_told(tmp_path: Path):
    path = tmp_path / "log.sqlite"
    path.write_bytes(b"not a database at all, but long enough to be taken for one" * 100)
    log = SqliteLog(path)
    with pytest.raises(LogLostError, match="is damaged"):
        await log.partitions(["t"])
    await log.close()


class Machine:
    """A wall clock that somebody sets, and a count of seconds that nobody can."""

    def __init__(self) -> None:
        self.wall_ms = 1_790_000_000_000
        self.up_ms = 1_000_000
        self.boot = "first"

    def passes(self, ms: int) -> None:
        self.wall_ms += ms
        self.up_ms += ms

    def log(self, path: Path) -> SqliteLog:
        return SqliteLog(path, clock_ms=lambda: self.wall_ms, uptime=lambda: Uptime(self.boot, self.up_ms))


async def begin(log: SqliteLog) -> int:
    reader = await log.reader({WHERE: 0})
    return (await reader.begin_offsets())[WHERE]


def stamped(machine: Machine, count: int) -> list[NewRecord]:
    return [record("t", b"v", timestamp_ms=machine.wall_ms) for _ in range(count)]


@pytest.mark.parametrize("restart", [False, True])
async def test_a_jump_of_the_wall_clock_deletes_nothing(tmp_path: Path, restart: bool):
    machine = Machine()
    log = machine.log(tmp_path / "log.sqlite")
    await log.ensure_topics([TopicSpec("t", 1, retention_ms=24 * HOUR_MS)])
    appender = await log.appender()
    await appender.append(stamped(machine, 10))
    await log.tidy()
    machine.passes(HOUR_MS)
    machine.wall_ms += YEAR_MS
    if restart:
        await log.close()
        log = machine.log(tmp_path / "log.sqlite")
        appender = await log.appender()
    await appender.append(stamped(machine, 5))  # stamped by the wrong clock: even event time has jumped
    await log.tidy()
    assert await begin(log) == 0
    machine.passes(24 * HOUR_MS)  # a true day later the first ten are old
    await appender.append(stamped(machine, 5))
    await log.tidy()
    assert await begin(log) == 10
    await log.close()


async def test_silence_deletes_nothing_and_time_that_passed_does(tmp_path: Path):
    machine = Machine()
    log = machine.log(tmp_path / "log.sqlite")
    await log.ensure_topics([TopicSpec("t", 1, retention_ms=24 * HOUR_MS)])
    appender = await log.appender()
    await appender.append(stamped(machine, 10))
    machine.passes(YEAR_MS)
    await log.tidy()
    assert await begin(log) == 0
    await appender.append(stamped(machine, 1))
    await log.tidy()
    assert await begin(log) == 10
    await log.close()


async def test_after_a_new_start_of_the_machine_the_wall_clock_counts(tmp_path: Path):
    machine = Machine()
    log = machine.log(tmp_path / "log.sqlite")
    await log.ensure_topics([TopicSpec("t", 1, retention_ms=24 * HOUR_MS)])
    appender = await log.appender()
    await appender.append(stamped(machine, 10))
    await log.tidy()
    machine.boot, machine.up_ms = "second", 5
    machine.wall_ms += 48 * HOUR_MS
    await appender.append(stamped(machine, 1))
    await log.tidy()
    assert await begin(log) == 10
    await log.close()
