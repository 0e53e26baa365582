"""Accuracy over the stream, with and without the loop, in characters."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Final

from rich.text import Text

COLUMNS: Final = 72
ROWS: Final = 10
LOWEST: Final = 0.5
"""Accuracy at the foot of the chart: that of guessing."""

WITH: Final = "●"
WITHOUT: Final = "·"


def shares(correct: Sequence[bool], columns: int = COLUMNS) -> list[float]:
    """Give the accuracy of each of `columns` equal stretches (fewer where there are fewer answers)."""
    count = min(columns, len(correct))
    edges = [place * len(correct) // count for place in range(count + 1)] if count else []
    return [sum(correct[low:high]) / (high - low) for low, high in pairwise(edges)]


def chart(with_loop: Sequence[bool], without: Sequence[bool], marks: Mapping[str, int]) -> list[Text]:
    """Draw both lines over each other, and below them the marks (a letter each) at the answers that they belong to."""
    looped, alone = shares(with_loop), shares(without)
    lines = [_row(row, looped, alone) for row in range(ROWS)]
    letters = [" "] * len(looped)
    for letter, number in marks.items():
        wanted = min(number * len(looped) // max(len(with_loop), 1), len(looped) - 1)
        # Two marks in one column: the later one moves, rather to the right, so that both are seen.
        free = [place for place, taken in enumerate(letters) if taken == " "]
        if free:
            letters[min(free, key=lambda place: (place < wanted, abs(place - wanted)))] = letter
    return [*lines, Text(f"     └{'─' * len(looped)}"), Text("      ").append("".join(letters), "bold")]


def _row(row: int, looped: Sequence[float], alone: Sequence[float]) -> Text:
    step = (1.0 - LOWEST) / ROWS
    top = 1.0 - row * step
    # Every other row has its number: more would be noise.
    line = Text(f"{top:.2f} ┤" if row % 2 == 0 else "     │", "dim")
    for high, low in zip(looped, alone, strict=True):
        if _level(high) == row:
            line.append(WITH, "bold green")
        elif _level(low) == row:
            line.append(WITHOUT, "red")
        else:
            line.append(" ")
    return line


def _level(share: float) -> int:
    """Give the row, from the top, in which an accuracy is drawn."""
    return min(max(int((1.0 - share) / (1.0 - LOWEST) * ROWS), 0), ROWS - 1)
