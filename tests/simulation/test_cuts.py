"""A batch may be cut anywhere, on streams with everything that real ones have, and for every kind of model."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.codec import encode
from service.core.intake import Role
from service.core.settings import CoreSettings, JoinSettings
from tests.core.stream import Driver, Source, label
from tests.simulation.inputs import arrivals
from tests.simulation.scenario import draw


def source(seed: int, predictions: int = 120) -> Source:
    records = arrivals(random.Random(seed), 0, predictions)
    return Source(*([record.value for record in records if record.role is role] for role in Role))


def outputs(stream: Source, core: CoreSettings, sizes: list[int]) -> list[bytes]:
    driver, got, turn = Driver(stream, core), [], 0
    while sum(driver.offer(role, sizes[turn % len(sizes)]) for role in Role):
        got += driver.drain(max_records=sizes[turn % len(sizes)])
        turn += 1
    return [encode(output) for output in got]


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10_000), st.lists(st.integers(1, 60), min_size=1, max_size=5))
def test_where_batches_are_cut_changes_no_byte(seed: int, sizes: list[int]) -> None:
    stream, core = source(seed), draw(seed).config.core
    assert outputs(stream, core, sizes) == outputs(stream, core, [100_000])


@pytest.mark.parametrize("size", [777, 5000])
def test_where_the_join_is_full_does_not_depend_on_cuts(size: int) -> None:
    # More labels without predictions than are kept, between records that are dead letters at once.
    stream = Source([], [], [label(number, "a") if number % 7 else b"{" for number in range(6000)])
    core = CoreSettings(join=JoinSettings(max_entries=1000))
    assert outputs(stream, core, [size]) == outputs(stream, core, [100_000])


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(40))
def test_a_record_at_a_time_gives_what_all_at_once_gives(seed: int) -> None:
    stream, core = source(seed, predictions=200), draw(seed).config.core
    assert outputs(stream, core, [1]) == outputs(stream, core, [100_000])
