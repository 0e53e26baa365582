"""Exactly-once on a real broker, under everything that can happen to processes. More: `make chaos-kafka`."""

from pathlib import Path

import pytest

from tests.chaos.kafka_run import live_through
from tests.chaos.kafka_setting import DECK

SEED = 3


@pytest.mark.kafka
@pytest.mark.slow
async def test_whatever_is_killed_or_frozen_committed_outputs_are_what_the_inputs_and_steps_say(tmp_path: Path) -> None:
    report = await live_through(SEED, len(DECK), tmp_path)
    assert set(report.faults) == set(DECK)
    # A run in which nothing was disturbed, or nothing came out, would prove nothing.
    assert report.log["task_restored"] >= 5
    assert report.log["task_fenced"] >= 1  # certain: the rival waits for it
    assert report.outputs > 100
