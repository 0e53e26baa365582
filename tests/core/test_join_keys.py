"""Join keys differ exactly where what they name differs, in every process."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.core.join import hash_keys

# Text made of what an encoding might use to separate parts.
TEXT = st.text(st.sampled_from("ab01:;.-|/\0é\x1f"), max_size=6)
NAMES = st.tuples(TEXT, TEXT, st.none() | TEXT, st.none() | TEXT)


def key_of(model_id: str, prediction_id: str, row_id: str | None, target: str | None) -> tuple[int, int]:
    return tuple(hash_keys([model_id], [prediction_id], [row_id], [target])[0].tolist())


@given(NAMES, NAMES)
def test_two_keys_are_equal_exactly_where_all_their_parts_are(
    first: tuple[str, str, str | None, str | None], second: tuple[str, str, str | None, str | None]
) -> None:
    assert (key_of(*first) == key_of(*second)) == (first == second)


@given(st.lists(NAMES))
def test_a_key_is_the_same_in_any_batch(names: list[tuple[str, str, str | None, str | None]]) -> None:
    columns = zip(*names, strict=True) if names else ([], [], [], [])
    keys = hash_keys(*(list(column) for column in columns))
    assert keys.shape == (len(names), 2)
    assert keys.dtype == np.uint64
    assert [tuple(key) for key in keys.tolist()] == [key_of(*name) for name in names]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (("a", "bc", None, None), ("ab", "c", None, None)),
        (("m", "p", "r", None), ("m", "p", None, "r")),
        (("m", "p", "", None), ("m", "p", None, None)),
        (("m", "p", "1:r", None), ("m", "p1:r", "", None)),
        (("m", "-", None, "t"), ("m", "", None, "-t")),
    ],
)
def test_moving_the_border_between_parts_makes_another_key(first: tuple, second: tuple) -> None:
    assert key_of(*first) != key_of(*second)


def test_keys_are_those_of_other_processes_and_machines() -> None:
    # Stored blocks hold keys: a change of the encoding needs a migration.
    keys = hash_keys(["model", "model"], ["p-1", "p-1"], [None, "7"], [None, "price"])
    assert keys.tolist() == [[17542747302293457163, 8869764405231860665], [8647288069186007659, 6525437140075676736]]
