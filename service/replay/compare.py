"""Compares two runs byte for byte, and says where they begin to differ."""

from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

from service.replay.names import OUTPUTS


class Difference(NamedTuple):
    """Where the outputs of a kind begin to differ."""

    kind: str
    line: int
    """From 1."""
    first: int
    """Outputs in the first run, in the second."""
    second: int

    @property
    def words(self) -> str:
        """Say it."""
        return f"{self.kind}.jsonl from line {self.line:,} on ({self.first:,} lines here, {self.second:,} published)"


def compare_runs(first: Path, second: Path) -> list[Difference]:
    """Compare the files of two runs; none: they are the same."""
    found = (_compare(kind, first / f"{kind}.jsonl", second / f"{kind}.jsonl") for kind in OUTPUTS)
    return [difference for difference in found if difference is not None]


def _compare(kind: str, first: Path, second: Path) -> Difference | None:
    counts, differs = [0, 0], None
    with first.open("rb") as one, second.open("rb") as other:
        for number, lines in enumerate(zip_longest(one, other), 1):
            for place, line in enumerate(lines):
                counts[place] += line is not None
            if differs is None and lines[0] != lines[1]:
                differs = number
    return None if differs is None else Difference(kind, differs, *counts)
