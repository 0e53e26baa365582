"""What was decided about records and models at which the core raises: plain data, recorded with a commit.

Whoever repeats the commit's steps applies the same verdicts at the same place, so that recovery and replay see what
the live run saw.
"""

from typing import Final

import msgspec

MAX_WHY_CHARS: Final = 300
"""Longest reason that is recorded and shown; a longer one is cut."""


class Isolate(msgspec.Struct, frozen=True, array_like=True, tag="isolate"):
    """Make one record a dead letter with reason `isolated`, as if it could not have been decoded."""

    role: int
    offset: int
    model_id: str | None
    """Whose monitors raised; None where no model's did."""
    why: str


class Quarantine(msgspec.Struct, frozen=True, array_like=True, tag="quarantine"):
    """Drop a model's monitors, and make its records dead letters with reason `quarantined` from here on."""

    model_id: str
    why: str
    silent: bool = False
    """Whether its open incidents vanish without a word, because closing them is what raises."""


Verdict = Isolate | Quarantine


def reason(error: BaseException) -> str:
    r"""Say in one line, fit for any output, what an error was.

    >>> reason(ValueError("a\ud800\nb"))
    'ValueError: a? b'
    """
    text = " ".join(f"{type(error).__name__}: {error}".split())
    text = text.encode("utf-8", "replace").decode()
    return text if len(text) <= MAX_WHY_CHARS else text[: MAX_WHY_CHARS - 1] + "…"
