"""Laws of pending rows."""

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.protocol import StateError
from service.core.inputs.blocks import PendingRows
from tests.core.inputs.streams import times


def feed(pending, widths, cuts, restart):
    """Feed rows 0, 1, 2, ... of the given widths, cut as said; give what went out as plain lists."""
    blocks = []
    start = 0
    while start < len(widths):
        width = widths[start]
        same = next((i for i in range(start, len(widths)) if widths[i] != width), len(widths))
        end = min(start + pending.room, same, *(cut for cut in cuts if cut > start), len(widths))
        rows = np.repeat(np.arange(start, end, dtype=np.float64)[:, None], width, axis=1)
        block = pending.append(rows, times(end - start, start))
        if block is not None:
            blocks.append((block.number, block.rows.copy(), block.start, block.end))
        if restart:
            state = msgspec.msgpack.decode(msgspec.msgpack.encode(pending.snapshot()))
            pending = PendingRows(1, 1)
            pending.restore(state)
        start = end
    return blocks


@settings(deadline=None)
@given(
    st.integers(1, 40),
    st.integers(1, 20),
    st.lists(st.integers(1, 3), max_size=100).map(sorted),
    st.lists(st.integers(1, 100), max_size=10),
    st.booleans(),
)
def test_blocks_end_at_row_numbers_whatever_the_cuts_and_restarts(first, size, widths, cuts, restart):
    blocks = feed(PendingRows(first, size), widths, cuts, restart)
    bounds = [0, *range(first, len(widths) + 1, size)]
    assert len(blocks) == len(bounds) - 1
    for number, (block, start, end) in enumerate(zip(blocks, bounds, bounds[1:], strict=False)):
        assert block[0] == number
        expected = np.full((end - start, widths[end - 1]), np.nan)
        for row in range(start, end):
            expected[row - start, : widths[row]] = row
        np.testing.assert_array_equal(block[1], expected)
        assert block[2] == (start, 1000 * start, 1000 + start)
        assert block[3] == (2 * (end - 1), 1000 * (end - 1) + 500)


def test_a_block_whose_bytes_do_not_fit_its_shape_is_refused():
    pending = PendingRows(10, 10)
    pending.append(np.ones((3, 2)), times(3))
    with pytest.raises(StateError, match=r"\$\.rows"):
        PendingRows(10, 10).restore(pending.snapshot() | {"count": 4})
