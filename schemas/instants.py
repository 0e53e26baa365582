"""Instants as producers write them: texts of ISO 8601 with a zone, and numbers whose unit nobody states.

Pure arithmetic on what a record says; there is no clock and no time zone of this machine in it.
"""

import datetime as dt
import re
from typing import Final

_DATE = "([2-9][0-9]{3}|19[7-9][0-9])-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
_CLOCK = "([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9]([.,][0-9]{1,9})?)?"
_ZONE = "([Zz]|[+-]([01][0-9]|2[0-3])(:?[0-5][0-9])?)"
INSTANT_PATTERN: Final = f"^{_DATE}[Tt ]{_CLOCK}{_ZONE}$"
"""What `read_instant` takes: RFC 3339 from 1970 on, and of ISO 8601 also a comma, no seconds, zones such as +02."""

EXAMPLE: Final = "2026-09-21T10:00:00Z"
PLAUSIBLE_FROM_MS: Final = 946_684_800_000
"""2000-01-01T00:00:00Z. What happened before it no model answered."""
PLAUSIBLE_TO_MS: Final = 4_102_444_800_000
"""2100-01-01T00:00:00Z."""

_INSTANT = re.compile(INSTANT_PATTERN)
_NAIVE = re.compile(f"^{_DATE}([Tt ]{_CLOCK})?$")
_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_YEAR_MS: Final = 31_556_952_000
_UNITS: Final = (("seconds", 1000, 1), ("microseconds", 1, 1000), ("nanoseconds", 1, 1_000_000))
"""Name, and by what a number is multiplied and divided to be milliseconds."""


class InstantError(ValueError):
    """A text is no instant; the message says what was expected and what there was."""

    def __init__(self, expected: str, text: str, because: str = "") -> None:
        shown = repr(text) if len(text) <= 60 else f"{text[:60]!r}…"
        super().__init__(f"expected {expected}, as {EXAMPLE}, got {shown}{because and f': {because}'}")


def read_instant(text: str) -> int:
    """Read ISO 8601 with a zone into UTC milliseconds since 1970, rounded down. Raises InstantError."""
    if _INSTANT.fullmatch(text) is None:
        if _NAIVE.fullmatch(text):
            raise InstantError("a time with its zone", text, "without one it is another moment elsewhere")
        raise InstantError("a time of ISO 8601 with its zone", text)
    try:
        return epoch_ms(dt.datetime.fromisoformat(text.upper()))
    except ValueError as error:
        raise InstantError("a time that exists", text) from error


def epoch_ms(moment: dt.datetime) -> int:
    """Give UTC milliseconds since 1970 of a time that has its zone, rounded down."""
    return (moment - _EPOCH) // dt.timedelta(milliseconds=1)


def likely_unit(number: float) -> str | None:
    """Say in which unit a number is an instant between 2000 and 2100, where that is another than milliseconds.

    As "looks like seconds: 1790000000 as milliseconds is 1970-01-21, as seconds 2026-09-21".
    """
    for unit, times, divided in _UNITS:
        # Multiplied, not divided: an integer of any length may come here.
        if PLAUSIBLE_FROM_MS * divided <= number * times < PLAUSIBLE_TO_MS * divided:
            milliseconds = int(number) * times // divided
            return f"looks like {unit}: {number} as milliseconds is {_day(number)}, as {unit} {_day(milliseconds)}"
    return None


def _day(milliseconds: float) -> str:
    years = int(milliseconds // _YEAR_MS)
    if years >= 8000:
        return f"in the year {1970 + years:,}"
    return (_EPOCH + dt.timedelta(milliseconds=milliseconds)).date().isoformat()
