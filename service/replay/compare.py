"""Compares two runs byte for byte, and says where they begin to differ."""

from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

from service.replay.names import OUTPUTS


class Compared(NamedTuple):
    """What came of comparing the outputs of one kind."""

    kind: str
    replayed: int
    published: int
    differs_at: int | None
    """The first line that differs, from 1; None: all are the same."""

    @property
    def words(self) -> str:
        """Say it."""
        name = self.kind.replace("_", " ")
        if self.differs_at is not None:
            return (
                f"{name}: differ from line {self.differs_at:,} of {self.kind}.jsonl on "
                f"({self.replayed:,} lines here, {self.published:,} published)"
            )
        return f"{name}: {self.published:,} the same, byte for byte" if self.published else f"{name}: none"


class Verification(NamedTuple):
    """A replay held against what a live service published."""

    kinds: list[Compared]
    apart: list[str]
    """What could not be compared, and why."""

    @property
    def holds(self) -> bool:
        """Whether anything was compared, and all of it is the same."""
        return any(kind.published for kind in self.kinds) and all(kind.differs_at is None for kind in self.kinds)

    def lines(self) -> list[str]:
        """Say what was compared, what came of it, and what was not compared."""
        total = sum(kind.published for kind in self.kinds)
        if self.holds:
            verdict = f"verified: all {total:,} published outputs are the same"
        elif any(kind.differs_at is not None for kind in self.kinds):
            verdict = "NOT verified: outputs differ"
        else:
            verdict = "NOT verified: nothing was published in these ranges, so there was nothing to compare"
        return [verdict, *(f"  {kind.words}" for kind in self.kinds), *(f"  not compared: {why}" for why in self.apart)]


def compare_runs(first: Path, second: Path) -> list[Compared]:
    """Compare the files of a replay with those of what was published, kind by kind."""
    return [_compare(kind, first / f"{kind}.jsonl", second / f"{kind}.jsonl") for kind in OUTPUTS]


def _compare(kind: str, first: Path, second: Path) -> Compared:
    counts, differs = [0, 0], None
    with first.open("rb") as one, second.open("rb") as other:
        for number, lines in enumerate(zip_longest(one, other), 1):
            for place, line in enumerate(lines):
                counts[place] += line is not None
            if differs is None and lines[0] != lines[1]:
                differs = number
    return Compared(kind, counts[0], counts[1], differs)
