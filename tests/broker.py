"""The real broker of a test session, supplied by `scripts/kafka_broker.py`."""

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

SCRIPT = Path(__file__).resolve().parent.parent / "scripts" / "kafka_broker.py"


def load_script() -> ModuleType:
    """Import the program, which lies in no package because it must run before there is an environment."""
    sys.path.append(str(SCRIPT.parent))
    spec = importlib.util.spec_from_file_location("kafka_broker", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["kafka_broker"] = module
    spec.loader.exec_module(module)
    return module


kafka_broker = load_script()


def session_pid() -> int:
    """The process whose end ends the broker: under xdist the one that started this worker."""
    return os.getppid() if "PYTEST_XDIST_WORKER" in os.environ else os.getpid()
