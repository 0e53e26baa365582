"""What decoding judges by the record's own timestamp: the unit of an event time."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.events import Label
from service.core.decode import Rejected, decode_block
from service.core.intake import Block, Role
from service.core.settings import CoreSettings

NOW_MS = 1_790_000_000_000


def block_of(times: list[float], timestamps_ms: list[int]) -> Block:
    values = [
        json.dumps({"prediction_id": f"p{row}", "model_id": "m", "label": 1, "event_time_ms": time}).encode()
        for row, time in enumerate(times)
    ]
    offsets = np.arange(len(times))
    return decode_block(Role.LABELS, offsets, np.array(timestamps_ms), values, len(times), CoreSettings())


def message_of(time: float, timestamp_ms: int = NOW_MS) -> str:
    (found,) = block_of([time], [timestamp_ms]).events
    assert isinstance(found, Rejected)
    assert (found.rejection.model_id, found.rejection.prediction_id) == ("m", "p0")
    return found.rejection.message


def test_seconds_are_refused_with_their_unit():
    assert message_of(NOW_MS // 1000 - 60) == (
        "$.event_time_ms: expected milliseconds since 1970; looks like seconds: 1789999940 as milliseconds is "
        "1970-01-21, as seconds 2026-09-21, and the record was written at 1790000000000"
    )


@pytest.mark.parametrize(("factor", "unit"), [(1000, "microseconds"), (1_000_000, "nanoseconds")])
def test_smaller_units_are_refused_with_theirs(factor, unit):
    assert f"; looks like {unit}: " in message_of(NOW_MS * factor)


def test_what_is_ahead_says_how_far_it_may_be():
    assert message_of(NOW_MS + 3_600_001) == (
        "$.event_time_ms: expected at most 3600000 ms after the record's timestamp 1790000000000, got 1790003600001"
    )


@given(st.lists(st.integers(0, 946_684_799) | st.integers(NOW_MS // 1000 + 3601, NOW_MS), min_size=1, max_size=5))
def test_a_clock_that_counts_from_nothing_passes(times):
    block = block_of(times, [NOW_MS] * len(times))
    assert all(isinstance(event, Label) for event in block.events)
    assert block.times_ms.tolist() == times


@given(st.lists(st.integers(0, 2_000_000_000), min_size=1, max_size=5))
def test_so_do_times_of_1970_whose_records_say_1970_too(times):
    assert block_of(times, times).times_ms.tolist() == times
