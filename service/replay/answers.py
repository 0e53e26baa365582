"""Predictions and labels in cells of CSV, which are texts: read as JSON and Parquet would hold the same values."""

from typing import Final

from schemas.events import Scalar
from service.replay.sources import number_or_text

_BOOLEANS: Final = {text: value for value in (True, False) for text in (str(value), str(value).lower())}
_EXACT: Final = 2**53
"""Below this a float holds every whole number, and no other is rounded to it."""
_MOST: Final = 2**63
"""The schema takes whole numbers below."""
_MOST_DIGITS: Final = 19


def answer_of(text: str) -> Scalar | None:
    """Read a cell: None where it is empty or not a number (nan).

    True and False are booleans, a whole number beyond 2^53 stays exact, and digits behind a zero are a name.

    >>> answer_of("1"), answer_of("1.5"), answer_of("True"), answer_of("007"), answer_of("9007199254740993")
    (1.0, 1.5, True, '007', 9007199254740993)
    """
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    digits = text.removeprefix("-")
    if digits.isdecimal() and digits.isascii() and len(digits) > 1:
        if digits[0] == "0":
            return text
        if len(digits) <= _MOST_DIGITS and _EXACT <= abs(number := int(text)) < _MOST:
            return number
    return number_or_text(text)
