"""The real broker of a benchmark, supplied by `scripts/kafka_broker.py`."""

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

SCRIPT = Path(__file__).resolve().parent.parent / "scripts" / "kafka_broker.py"


@contextlib.contextmanager
def supplied() -> Iterator[str]:
    """Give host:port of the broker that TIDEGAUGE_TEST_BOOTSTRAP names, or of one that runs until the end."""
    with tempfile.TemporaryDirectory() as directory:
        started = _tell("start", "--dir", directory, "--port", "0", "--owner", str(os.getpid()))
        try:
            yield started.splitlines()[-1]
        finally:
            _tell("stop", "--dir", directory)


def _tell(*arguments: str) -> str:
    command = [sys.executable, str(SCRIPT), *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()  # noqa: S603  # our own program
