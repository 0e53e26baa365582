"""Kill -9 on the embedded log; `make chaos` does it a thousand times."""

from pathlib import Path

import pytest

from tests.chaos.run import run


@pytest.mark.slow
def test_a_service_that_is_killed_again_and_again_writes_what_it_must_once(tmp_path: Path) -> None:
    done = run(tmp_path, kills=25, seed=1, seconds=60)
    assert done.kills >= 10
    assert done.outputs > 50
