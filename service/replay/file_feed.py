"""A file of rows as a task's input: predictions and their labels, in the order in which `produce` would write them."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from schemas.events import Label, Prediction
from service.core.decode import decode_block
from service.core.intake import Intake, Positions, Role
from service.core.settings import CoreSettings
from service.replay.delay import EventDelay, TimeDelay
from service.replay.events import GoodRow, encode_input, read_events
from service.replay.mapping import ColumnMapping, MappingError, RowMapper, check_columns
from service.replay.sources import BadRow, Contents, Format, Source

FILE_END: Final = 1 << 60
"""The end of a range that goes to the end of the file: more rows than any file has."""

ROWS_AT_ONCE: Final = 1_000


class FileRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Which file, and how its rows are read."""

    path: str
    file_format: Format | None = None
    delimiter: str = ","
    mapping: ColumnMapping
    label_delay_events: int = 0
    label_delay_ms: int | None = None
    limit: int | None = None
    """Rows."""


class FileFeed:
    """Reads a file from its beginning, and hands on what lies behind the positions where the task stands.

    Positions count predictions and labels: the offsets that they would have in topics of one partition. Rows are in
    the file's order; where that is not the order of time, a late row follows the one before it, as in a topic.
    `refuse` is told of each row that cannot be used.
    """

    def __init__(self, request: FileRequest, core: CoreSettings, refuse: Callable[[BadRow], None]) -> None:
        self._core = core
        self._source = Source(Path(request.path), request.file_format, request.delimiter)
        self._contents: Contents = self._source.__enter__()
        mapping = request.mapping
        if self._contents.columns is not None:
            try:
                check_columns(mapping, self._contents.columns)
            except MappingError:
                self._source.__exit__(None, None, None)  # nobody gets the feed, so nobody else can close it
                raise
        mapper = RowMapper(mapping, texts=self._contents.texts)
        self._rows = read_events(self._contents.rows, mapper, limit=request.limit, chunk_rows=ROWS_AT_ONCE)
        self._delay = (
            EventDelay(request.label_delay_events)
            if request.label_delay_ms is None
            else TimeDelay(request.label_delay_ms)
        )
        self._given = {Role.PREDICTIONS: 0, Role.LABELS: 0}
        self._ended = False
        self._refuse = refuse

    def progress(self) -> tuple[int, int]:
        """Say how much of the file was read, and how much it is: bytes or rows."""
        return self._contents.done(), self._contents.size

    def finished(self, intake: Intake, role: Role, end: Positions) -> bool:  # noqa: ARG002  (the protocol's signature)
        """Whether no earlier event of an input can come: of labels never, for each comes when it is due."""
        return self._ended or role is not Role.PREDICTIONS

    async def offer(self, intake: Intake, end: Positions) -> None:  # noqa: ARG002  (the protocol's signature)
        """Offer the next rows, if nothing waits. Raises SourceError or DelayError."""
        if intake.buffered(Role.PREDICTIONS)[0] or self._ended:
            return
        chunk = next(self._rows, None)
        labels: list[Label] = []
        if chunk is None:
            self._ended = True
            labels = [label for _, label in self._delay.rest()]
            self._offer(intake, Role.LABELS, [encode_input(label) for label in labels], labels)
            return
        good = list(self._good(chunk))
        for row in good:
            labels.extend(label for _, label in self._delay.row(row.line, row.mapped))
        values = [row.prediction for row in good if row.prediction is not None]
        self._offer(intake, Role.PREDICTIONS, values, [row.mapped.prediction for row in good if row.mapped.prediction])
        self._offer(intake, Role.LABELS, [encode_input(label) for label in labels], labels)

    def _good(self, chunk: Sequence[GoodRow | BadRow]) -> Iterator[GoodRow]:
        for row in chunk:
            if isinstance(row, GoodRow):
                yield row
            else:
                self._refuse(row)

    def _offer(self, intake: Intake, role: Role, values: list[bytes], events: Sequence[Prediction | Label]) -> None:
        start = self._given[role]
        self._given[role] += len(values)
        skip = max(intake.position(role) - start, 0)  # a replay that was resumed has taken these already
        if skip >= len(values):
            return
        # A file knows no time of writing: that an event lies in the future of its record cannot be.
        times = [event.event_time_ms for event in events[skip:]]
        offsets = np.arange(start + skip, start + len(values))
        block = decode_block(
            role, offsets, np.array(times, dtype=np.int64), values[skip:], start + len(values), self._core
        )
        intake.offer(role, block)

    async def close(self) -> None:
        """Close the file."""
        self._source.__exit__(None, None, None)
