"""No warning of numpy, or of anything else, reaches standard error: what is meant says so where it is computed."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def test_a_service_over_data_at_every_extreme_says_nothing_where_warnings_are_errors() -> None:
    command = [sys.executable, "-W", "error", "-m", "tests.runtime.odd_data"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Warning" not in done.stdout + done.stderr
    assert not done.stderr
