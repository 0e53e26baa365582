"""Logs hold no secret, not even where something unexpected fails with one in its hands."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent

FAILING = """
import sys
import structlog
from service.app import configure_logging
from service.config import LoggingSettings

configure_logging(LoggingSettings(format=sys.argv[1]))
def connect(sasl_plain_password):
    options = {"sasl_plain_password": sasl_plain_password}
    raise RuntimeError("the socket is on fire")
try:
    connect("hunter" + "2")
except RuntimeError:
    structlog.get_logger().error("task_failed", exc_info=True)
"""


@pytest.mark.parametrize("layout", ["console", "json"])
def test_a_traceback_shows_where_it_failed_and_no_local_variable(layout: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", FAILING, layout], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "the socket is on fire" in done.stderr
    assert "in connect" in done.stderr
    assert "hunter2" not in done.stdout + done.stderr
