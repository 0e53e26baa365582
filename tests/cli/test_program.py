"""The program itself, in a process of its own."""

import os
import signal
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import pytest

TIDEGAUGE = [sys.executable, "-m", "service"]
ROOT = Path(__file__).parent.parent.parent


def test_help_takes_less_than_half_a_second_of_computing() -> None:
    before = os.times()
    done = subprocess.run([*TIDEGAUGE, "--help"], capture_output=True, text=True, check=True, cwd=ROOT)
    after = os.times()
    # Not wall time: other tests run beside this one.
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    assert "produce" in done.stdout
    assert spent < 0.5


def test_the_command_line_imports_no_heavy_library_before_a_command_runs() -> None:
    heavy = {"aiohttp", "aiokafka", "msgspec", "numpy", "orjson", "pyarrow", "rich", "river", "scipy", "service.core"}
    program = f"import sys, service.cli.commands; print(*sorted(sys.modules.keys() & {heavy}))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split() == []


def test_a_reader_who_leaves_early_makes_no_noise(tmp_path: Path) -> None:
    program = subprocess.Popen(
        [*TIDEGAUGE, "config", "example"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT
    )
    assert program.stdout is not None
    assert program.stderr is not None
    program.stdout.close()
    assert program.stderr.read() == b""
    program.stderr.close()
    program.wait()


@pytest.mark.slow
def test_run_starts_and_ends_gracefully_on_sigterm(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("http: {enabled: false}\nlogging: {format: json}\n")
    program = subprocess.Popen(
        [*TIDEGAUGE, "run", "--config", config, "--log", tmp_path / "log.sqlite"],
        stderr=subprocess.PIPE,
        cwd=ROOT,
        text=True,
    )
    assert program.stderr is not None
    began = time.monotonic()
    seen = ""
    while '"assigned"' not in seen and time.monotonic() - began < 30:
        seen += program.stderr.readline()
    program.send_signal(signal.SIGTERM)
    seen += program.stderr.read()
    program.stderr.close()
    assert program.wait(timeout=30) == 0, seen
    assert '"stopped"' in seen


def test_every_command_fits_one_line_of_the_help_and_the_version_is_the_package_s() -> None:
    told = [
        subprocess.run([*TIDEGAUGE, option], capture_output=True, text=True, check=True, cwd=ROOT).stdout
        for option in ("--help", "--version")
    ]
    assert "..." not in told[0].partition("Commands:")[2]
    assert told[1].strip() == f"tidegauge {version('tidegauge')}"
