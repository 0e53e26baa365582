"""The real broker of a benchmark, supplied by `scripts/kafka_broker.py`."""

import contextlib
import importlib.util
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

SCRIPT = Path(__file__).resolve().parent.parent / "scripts" / "kafka_broker.py"


@contextlib.contextmanager
def supplied() -> Iterator[str]:
    """Give host:port of the broker that TIDEGAUGE_TEST_BOOTSTRAP names, or of one that runs until the end."""
    specification = importlib.util.spec_from_file_location("kafka_broker", SCRIPT)
    assert specification is not None
    assert specification.loader is not None
    program = importlib.util.module_from_spec(specification)
    sys.modules["kafka_broker"] = program
    specification.loader.exec_module(program)
    with tempfile.TemporaryDirectory() as directory:
        broker = program.supply(Path(directory), port=0, owner_pid=os.getpid())
        try:
            yield broker.bootstrap
        finally:
            program.stop(Path(directory))
