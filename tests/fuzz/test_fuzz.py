"""No record can hurt: whatever its bytes, it is an event or a dead letter, once. More: `python -m tests.fuzz`."""

import pytest

from tests.fuzz.campaign import Campaign
from tests.fuzz.extremes import cases, judge, numeric_fields, some

MEMORY_BYTES = 64_000_000
"""What memory may grow by once the task's bounds are reached: one more block of the join's array, and fragments."""


@pytest.mark.parametrize("seed", [1, 2])
def test_each_of_many_broken_records_is_an_event_or_a_dead_letter(seed: int) -> None:
    figures = Campaign(seed, 8000).run(8000)
    assert figures.events > 1000
    assert len(figures.dead_letters) > 8


@pytest.mark.slow
def test_a_million_broken_records_crash_nothing_and_leave_memory_flat() -> None:
    figures = Campaign(3, 1_000_000).run(1_000_000)
    assert figures.records >= 1_000_000
    assert figures.grown_bytes < MEMORY_BYTES


@pytest.mark.filterwarnings("error")
def test_no_number_at_its_extremes_makes_an_output_that_cannot_be_written() -> None:
    assert {"Prediction.sampling_rate", "Prediction.features", "Label.label"} <= {*map(str, numeric_fields())}
    tried = some(1, frozenset({"Prediction.sampling_rate", "Prediction.prediction", "Label.label"}), 4)
    assert [wrong for case in tried for wrong in judge(case)] == []


@pytest.mark.slow
@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("part", range(2))
def test_no_number_at_its_extremes_in_any_model_at_any_time_does(part: int) -> None:
    """One case in 23, which goes through all fields, extremes, kinds and times; `make fuzz` tries each."""
    assert [wrong for case in cases()[part * 11 :: 46] for wrong in judge(case)] == []
