"""Laws of identifiers: the same cause gives the same one, different causes different ones."""

import re

from hypothesis import example, given, settings
from hypothesis import strategies as st

from schemas.identity import derive_id

LAW = settings(deadline=None, max_examples=40)
parts = st.lists(st.text(max_size=6) | st.integers(), max_size=4)


@LAW
@given(one=parts, other=parts)
@example(one=["a", "bc"], other=["ab", "c"])
@example(one=["a", ""], other=["a"])
@example(one=[1], other=["1"])
@example(one=["s1:a", "b"], other=["s1:as1:b"])
@example(one=["a", "b"], other=["as:b"])
@example(one=["a,b"], other=["a", "b"])
@example(one=["\ud800"], other=["?"])
def test_lists_of_parts_share_an_identifier_only_when_they_are_equal(one, other):
    assert (derive_id(*one) == derive_id(*other)) == (one == other)


@LAW
@given(one=parts)
def test_an_identifier_is_32_hexadecimal_digits(one):
    assert re.fullmatch("[0-9a-f]{32}", derive_id(*one))


def test_identifiers_stay_the_same_from_version_to_version():
    assert derive_id("alert", "credit", 3) == "aed4374cfd5a64f7cfeaff4fb611f38e"
