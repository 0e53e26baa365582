"""Where the steps of a live run ended, as its commits wrote them down."""

from array import array
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from service.core.intake import Positions
from service.core.state import CorruptStateError, decode_entry
from service.core.verdicts import Verdict
from service.eventlog.protocol import Chunk, Log, TopicPartition
from service.runtime.changelog import CUT_VERSION, Cut
from service.runtime.settings import TopicSettings

MAX_STEPS: Final = 50_000_000
"""Steps of one task that are followed, 24 bytes each: 1.2 GB, or 19 months of one a second. More: BoundariesError."""

FETCH_RECORDS: Final = 10_000


class BoundariesError(ValueError):
    """The recorded steps cannot be followed; the message says why."""


class Boundaries:
    """The ends of one task's steps, in order."""

    def __init__(self, start: Positions, first_number: int) -> None:
        self.start = start
        """Where the first step began."""
        self.first_number = first_number
        """Of its commit; 1 is a task's very first."""
        self.last_number = first_number - 1
        self._ends = array("q")
        self.verdicts: dict[Positions, tuple[Verdict, ...]] = {}
        """What was decided before the step that begins there; see service/core/verdicts."""

    @property
    def ends(self) -> NDArray[np.int64]:
        """End positions, shape (steps, 3), in rank order of the inputs."""
        return np.array(self._ends, dtype=np.int64).reshape(-1, 3)

    @property
    def end(self) -> Positions:
        """Where the last commit ended."""
        return Positions(*self._ends[-3:]) if self._ends else self.start

    def add(self, cut: Cut, where: str) -> None:
        """Take in the next commit. Raises BoundariesError where it does not follow the last one."""
        if cut.number != self.last_number + 1 or cut.start != self.end:
            raise BoundariesError(
                f"{where}: commit {cut.number} begins at {tuple(cut.start)}, but commit {self.last_number} ended at "
                f"{tuple(self.end)}: steps between them are lost, so their order is not known"
            )
        if len(self._ends) // 3 + len(cut.steps) > MAX_STEPS:
            raise BoundariesError(f"{where}: more than {MAX_STEPS:,} steps; replay a shorter range")
        self.last_number = cut.number
        if cut.verdicts:
            self.verdicts[cut.start] = cut.verdicts
        for end in cut.steps:
            self._ends.extend(end)


async def read_boundaries(log: Log, topics: TopicSettings, partition: int) -> Boundaries | None:
    """Read the steps of a task; None where there are none. Raises BoundariesError, CorruptStateError or LogError.

    A task that was begun anew (its state was deleted by a person) numbers its commits from 1 again; what it did before
    is another run, and the last one counts.
    """
    where = TopicPartition(topics.steps, partition)
    if partition >= (await log.partitions([topics.steps])).get(topics.steps, 0):
        return None
    reader = await log.reader({where: 0})
    found: Boundaries | None = None
    try:
        position, end = (await reader.begin_offsets())[where], (await reader.end_offsets())[where]
        reader.seek({where: position})
        while position < end:
            for chunk in await reader.fetch(max_records=FETCH_RECORDS, wait_ms=1000):
                found = _take(chunk, found)
                position = chunk.next_position
    finally:
        await reader.close()
    return found


def _take(chunk: Chunk, found: Boundaries | None) -> Boundaries | None:
    for offset, key, value in zip(chunk.offsets.tolist(), chunk.keys, chunk.values, strict=True):
        if key != b"cut" or value is None:
            continue
        where = f"{chunk.topic}[{chunk.partition}]@{offset}"
        _, payload = decode_entry(value, "cut", CUT_VERSION, where)
        try:
            cut = msgspec.convert(payload, Cut)
        except msgspec.ValidationError as error:
            raise CorruptStateError(f"{where}: {error}") from error
        if found is None or cut.number == 1:
            found = Boundaries(cut.start, cut.number)
        found.add(cut, where)
    return found
