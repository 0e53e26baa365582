"""SIGTERM while a command still starts: it ends, with 0, in silence."""

import contextlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
SIGTERM_BIT = 1 << (signal.SIGTERM - 1)

COMMANDS = {
    "run": ["run", "--log", "{dir}/log.sqlite", "--http-port", "0"],
    "run on a broker that is silent": ["run", "--bootstrap", "{silent}", "--http-port", "0"],
    "run of several workers": ["run", "--bootstrap", "{silent}", "--http-port", "0", "--workers", "2"],
    "demo": ["demo", "--json"],
    "watch": ["watch", "--log", "{dir}/log.sqlite"],
}


@pytest.fixture
def silent() -> Iterator[str]:
    """host:port of a server that accepts and says nothing."""
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def catches_sigterm(pid: int) -> bool:
    """Whether a process has a handler of SIGTERM, as the kernel knows."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(caught, 16) & SIGTERM_BIT)


# From the moment at which the interpreter is up; the imports of `run` take 0.6 s on an idle machine.
@pytest.mark.parametrize("delay_s", [0.0, 0.05, 0.15, 0.3, 0.6, 1.0])
@pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS)
def test_a_stop_during_the_start_ends_well(words: list[str], delay_s: float, tmp_path: Path, silent: str) -> None:
    (tmp_path / "log.sqlite").touch()
    command = [word.format(dir=tmp_path, silent=silent) for word in words]
    program = subprocess.Popen(
        [sys.executable, "-m", "service", *command], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, cwd=ROOT
    )
    deadline = time.monotonic() + 30
    while not catches_sigterm(program.pid):
        assert time.monotonic() < deadline
        time.sleep(0.001)
    time.sleep(delay_s)
    program.send_signal(signal.SIGTERM)
    _, said = program.communicate(timeout=40)
    assert (program.returncode, b"Traceback" in said) == (0, False), said.decode()


def test_the_handler_stands_before_anything_slow_is_imported() -> None:
    program = (
        "import sys, service.cli, service.cli.signals as signals\n"
        "slow = {'typer', 'click', 'asyncio', 'numpy', 'msgspec'}\n"
        "def stop(words): print(*sorted(sys.modules.keys() & slow)); exit()\n"
        "signals.end_well_while_starting = stop\n"
        "service.cli.main()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split() == []


def test_a_command_that_has_an_end_is_killed_as_any_other(tmp_path: Path) -> None:
    program = subprocess.Popen([sys.executable, "-c", KEEPS], stdout=subprocess.PIPE, cwd=ROOT)
    assert program.stdout is not None
    program.stdout.readline()
    program.send_signal(signal.SIGTERM)
    assert program.wait(timeout=30) == -signal.SIGTERM
    program.stdout.close()


KEEPS = """
import sys, time
from service.cli.signals import end_well_while_starting
end_well_while_starting(["replay", "run"])
print("up", flush=True)
time.sleep(60)
"""
