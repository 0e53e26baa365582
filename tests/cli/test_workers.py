"""Several workers on one machine, and the process that watches over them."""

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from service.cli.errors import MISUSE, UsageError
from service.cli.workers import WORKER_VARIABLE, Patience, check_workers, supervise, worker_commands
from service.config import parse_config
from tests.broker import kafka_broker
from tests.cli.conftest import Cli

ROOT = Path(__file__).parent.parent.parent
QUICK = Patience(stop_s=10, first_pause_s=0.01, longest_pause_s=0.02)

# Each notes that it lives with a line in the file that it is given, and stops as a worker does, or does not.
GOOD = "signal.signal(signal.SIGTERM, lambda *_: sys.exit(0)); note(); signal.pause()"
DEAF = "signal.signal(signal.SIGTERM, signal.SIG_IGN); note(); time.sleep(60)"
MISUSED = "note(); sys.exit(2)"
DYING = "note(); os.kill(os.getpid(), signal.SIGKILL)"


def program(body: str, notes: Path) -> list[str]:
    note = f"note = lambda: open({str(notes)!r}, 'a').write(os.environ[{WORKER_VARIABLE!r}])"
    return [sys.executable, "-S", "-c", f"import os, signal, sys, time\n{note}\n{body}"]


def text_of(notes: Path) -> str:
    return notes.read_text() if notes.exists() else ""


async def noted(notes: Path, count: int) -> str:
    async with asyncio.timeout(30):
        while True:
            text = text_of(notes)
            if len(text) >= count:
                return text
            await asyncio.sleep(0.01)


async def stopped_after(notes: Path, count: int, bodies: list[str], patience: Patience = QUICK) -> int:
    """Supervise until there are so many notes, then ask to stop, as a service manager would."""
    job = asyncio.create_task(supervise([program(body, notes) for body in bodies], patience))
    await noted(notes, count)
    os.kill(os.getpid(), signal.SIGTERM)
    return await asyncio.wait_for(job, 30)


async def test_when_the_supervisor_is_asked_to_stop_all_workers_end_gracefully(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    assert await stopped_after(notes, 3, [GOOD, GOOD, GOOD]) == 0
    assert sorted(notes.read_text()) == ["0", "1", "2"]


async def test_a_worker_that_dies_is_started_again_and_the_others_are_left_alone(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    await stopped_after(notes, 6, [GOOD, DYING])
    text = notes.read_text()
    assert text.count("0") == 1
    assert text.count("1") >= 5


async def test_a_worker_that_cannot_be_run_as_it_is_ends_all_with_its_code(tmp_path: Path) -> None:
    commands = [program(GOOD, tmp_path / "good"), program(MISUSED, tmp_path / "misused")]
    assert await asyncio.wait_for(supervise(commands, QUICK), 30) == MISUSE
    assert (tmp_path / "misused").read_text() == "1"


async def test_a_worker_that_does_not_stop_in_time_is_killed_and_the_exit_code_says_so(tmp_path: Path) -> None:
    began = time.monotonic()
    assert await stopped_after(tmp_path / "notes", 2, [GOOD, DEAF], QUICK._replace(stop_s=0.2)) == 1
    assert time.monotonic() - began < 20


def test_the_pause_before_a_restart_doubles_up_to_a_bound() -> None:
    patience = Patience(stop_s=1)
    assert [patience.pause_s(failures) for failures in (1, 2, 3, 7, 1000)] == [0.5, 1.0, 2.0, 30.0, 30.0]


def test_several_workers_on_the_embedded_log_are_refused_in_a_sentence(cli: Cli, log_file: Path) -> None:
    result = cli("run", "--workers", "3", "--log", log_file)
    assert result.exit_code == MISUSE
    assert "on the embedded log one worker owns all tasks" in result.output
    assert not log_file.exists()


@pytest.mark.parametrize(
    ("count", "http", "why"),
    [(0, {}, "expected 1 to"), (10_000, {}, "expected 1 to"), (4, {"port": 65_533}, "65536 do not all exist")],
)
def test_a_number_of_workers_that_cannot_be_is_refused(count: int, http: dict[str, int], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        check_workers(count, parse_config({"log": {"carrier": "kafka"}, "http": http}))


def test_each_worker_gets_the_same_options_and_a_port_of_its_own() -> None:
    config = parse_config({"http": {"port": 9000}})
    commands = worker_commands(3, config, ["--bootstrap", "b:1"])
    assert [command[2:] for command in commands] == [
        ["service", "run", "--bootstrap", "b:1", "--http-port", str(port)] for port in (9000, 9001, 9002)
    ]
    free = worker_commands(2, parse_config({"http": {"port": 0}}), [])
    assert [command[-1] for command in free] == ["0", "0"]


# The program itself ------------------------------------------------------------------------------------------------


@contextmanager
def started(*words: str | Path, errors: Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "service", "run", *map(str, words)]
    with errors.open("wb") as sink:
        process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stderr=sink, env={**os.environ, **environment}
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stdin is not None
        process.stdin.close()


def until(what: object, errors: Path, limit_s: float = 60) -> None:
    began = time.monotonic()
    while not what():  # type: ignore[operator]  # any callable
        assert time.monotonic() - began < limit_s, errors.read_text()
        time.sleep(0.05)


@pytest.mark.slow
def test_a_worker_whose_supervisor_is_gone_stops_gracefully(tmp_path: Path) -> None:
    errors = tmp_path / "errors"
    with started("--log", tmp_path / "log", "--http-port", "0", errors=errors, **{WORKER_VARIABLE: "7"}) as process:
        until(lambda: b'"assigned"' in errors.read_bytes(), errors)
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(timeout=30) == 0
    assert '"worker": 7' in errors.read_text()
    assert "supervisor_gone" in errors.read_text()


def is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@pytest.mark.slow
@pytest.mark.kafka
def test_two_real_workers_share_the_tasks_and_a_killed_one_comes_back(kafka_bootstrap: str, tmp_path: Path) -> None:
    errors, config, port = tmp_path / "errors", tmp_path / "config.yaml", kafka_broker.free_port()
    fields = ("predictions", "labels", "control", "alerts", "triggers", "metrics", "dead_letters", "changelog", "steps")
    topics = "\n".join(f"  {field}: w{os.getpid()}.{field}" for field in fields)
    config.write_text(
        f"topics:\n  partitions: 4\n{topics}\nruntime: {{name: w{os.getpid()}, group: w{os.getpid()}}}\n"
        "log: {kafka: {heartbeat_interval_ms: 200, session_timeout_ms: 6000}}\nlogging: {format: json}\n"
    )
    words = ("--config", config, "--bootstrap", kafka_bootstrap, "--workers", "2", "--http-port", str(port))
    with started(*words, errors=errors) as supervisor:
        until(lambda: is_ready(port) and is_ready(port + 1), errors)
        victim = int(re.findall(r'"pid": (\d+)', errors.read_text())[0])
        os.kill(victim, signal.SIGKILL)
        until(lambda: errors.read_text().count("worker_started") == 3, errors)
        until(lambda: is_ready(port) and is_ready(port + 1), errors)
        began = time.monotonic()
        supervisor.send_signal(signal.SIGTERM)
        assert supervisor.wait(timeout=60) == 0, errors.read_text()
        assert time.monotonic() - began < 30
    assert not is_ready(port)
    assert errors.read_text().count('"event": "stopped"') == 2
