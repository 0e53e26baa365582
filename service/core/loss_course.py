"""What is normal for a loss, and what becomes of it once it is not.

While the loss is stable its outcomes are summed up, so that "back at the reference" is held against all that was normal
and not against the first few hundred outcomes alone. From an alarm to its end an `Aftermath` follows the loss. Both
look at the window at fixed numbers of outcomes, wherever batches are cut. Losses are in [0, 1] here.
"""

from typing import Final

import msgspec

from detectors.aftermath import BLOCK, Aftermath, AftermathState, Limits, Turn
from detectors.level import LevelSums
from detectors.protocol import StateError
from service.core.columns import Float

STEP: Final = 250
"""Outcomes between two notes of what was normal."""
_MOST_NOTES: Final = 20
"""Notes kept: a change estimated more than 5,000 outcomes back is taken to lie behind the reference window itself."""


class Note(msgspec.Struct, forbid_unknown_fields=True):
    """All that was normal before an outcome."""

    number: int
    normal: LevelSums


class CourseState(msgspec.Struct, forbid_unknown_fields=True):
    """Everything that changes. `notes` begins with what was normal when the first outcome behind it came."""

    notes: list[Note] = []
    opened_at: int | None = None
    """Outcomes before the alarm that is open."""
    aftermath: AftermathState | None = None


class LossCourse:
    """The life of one loss, before and after its alarms. Outcomes are known by their number."""

    def __init__(self, limits: Limits, inflation: float, state: CourseState) -> None:
        self.state = state
        self._limits = limits
        self._inflation = inflation
        if (state.opened_at is None) != (state.aftermath is None) or not state.notes:
            raise StateError("$.course: expected notes, and opened_at where there is an aftermath")
        self._aftermath = None if state.aftermath is None else Aftermath(state.aftermath, limits)

    @classmethod
    def begin(cls, limits: Limits, inflation: float, reference: LevelSums, number: int) -> "LossCourse":
        """Begin behind a reference window, at the outcome with this number."""
        return cls(limits, inflation, CourseState([Note(number, reference)]))

    @property
    def is_open(self) -> bool:
        """Whether an alarm has not ended yet."""
        return self._aftermath is not None

    @property
    def normal(self) -> LevelSums:
        """All that was normal up to the newest note."""
        return self.state.notes[-1].normal

    @property
    def since(self) -> int:
        """Outcomes before the oldest note: the end of the reference window, or of the last alarm, if it is recent."""
        return self.state.notes[0].number

    def normal_before(self, number: int) -> LevelSums:
        """Give all that was normal before an outcome, as far as notes tell."""
        notes = self.state.notes
        return next((note.normal for note in reversed(notes) if note.number <= number), notes[0].normal)

    def next_look(self, count: int) -> int:
        """Say behind how many outcomes, more than `count`, the window is to be looked at."""
        since, step = self._rhythm()
        return since + (max((count - since) // step, 0) + 1) * step

    def pending(self, count: int) -> tuple[int, int]:
        """Give the outcomes [start, stop) that are looked at behind `count` outcomes, where a look is due."""
        return count - self._rhythm()[1], count

    def _rhythm(self) -> tuple[int, int]:
        if self.state.opened_at is not None:
            return self.state.opened_at, BLOCK
        return self.state.notes[-1].number, STEP

    def open(self, change: int, number: int) -> None:
        """Begin to follow an alarm behind `number` outcomes; `change` of them came before the estimated change."""
        self.state.opened_at = number
        self._aftermath = Aftermath.begin(self.normal_before(change), self._inflation, self._limits)
        self.state.aftermath = self._aftermath.state

    def look(self, losses: Float, count: int) -> Turn | None:
        """Take the losses that `pending` named; say whether an open alarm has ended or changed."""
        if self._aftermath is not None:
            turn = self._aftermath.take(losses)
            if turn is not None and turn.kind == "back":
                self._end(self._aftermath.state.reference, turn.level, count)
            return turn
        normal = msgspec.structs.replace(self.normal)
        normal.take(losses)
        self.state.notes.append(Note(count, normal))
        del self.state.notes[:-_MOST_NOTES]
        return None

    def accept(self, number: int) -> LevelSums | None:
        """Take the present level for normal, behind `number` outcomes; gives it. None where it is not known."""
        if self._aftermath is None or not self._aftermath.level.count:
            return None
        level = msgspec.structs.replace(self._aftermath.level)
        self._end(level, LevelSums(), number)
        return level

    def _end(self, normal: LevelSums, since: LevelSums, number: int) -> None:
        """Go on as stable: what was learnt as normal stays, and what followed the return is added to it."""
        known = msgspec.structs.replace(normal)
        known.add(since)
        self.state.notes = [Note(number, known)]
        self.state.opened_at = self.state.aftermath = self._aftermath = None
