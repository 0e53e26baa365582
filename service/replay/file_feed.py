"""A file of rows as a task's input: predictions and their labels, in the order in which `produce` would write them."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from schemas.events import MAX_EPOCH_MS, Label, Prediction
from service.core.decode import decode_block
from service.core.intake import Block, Intake, Positions, Role
from service.core.settings import CoreSettings
from service.replay.delay import EventDelay, TimeDelay
from service.replay.events import MAX_RECORD_BYTES, GoodRow, encode_input, read_batches
from service.replay.mapping import ColumnMapping, MappingError, RowMapper, check_columns
from service.replay.sources import BadRow, Contents, Format, Source
from service.replay.tabular import LABEL_BYTES, Batch, TableMapper

FILE_END: Final = 1 << 60
"""The end of a range that goes to the end of the file: more rows than any file has."""


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
        texts, largest = self._contents.texts, min(core.max_record_bytes, MAX_RECORD_BYTES)
        tables, mapper = TableMapper(mapping, largest, texts=texts), RowMapper(mapping, texts=texts)
        self._chunks = read_batches(self._contents.pieces, tables, mapper, limit=request.limit)
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
        chunk = next(self._chunks, None)
        if chunk is None:
            self._ended = True
            self._offer_labels(intake, list(self._delay.rest()))
        elif isinstance(chunk, Batch):
            labels: list[Label] = []
            for time_ms, label in zip(chunk.times_ms, chunk.labels, strict=True):
                labels += self._delay.row(time_ms, label)
            self._offer_checked(intake, Role.PREDICTIONS, chunk.predictions)
            self._offer_labels(intake, labels)
        else:
            self._offer_rows(intake, chunk)

    def _offer_rows(self, intake: Intake, chunk: Sequence[GoodRow | BadRow]) -> None:
        good = list(self._good(chunk))
        labels = [label for row in good for label in self._delay.row(row.mapped.time_ms, row.mapped.label)]
        found = [(row.prediction, row.mapped.time_ms) for row in good if row.prediction is not None]
        self._offer_encoded(intake, Role.PREDICTIONS, [value for value, _ in found], [time for _, time in found])
        self._offer_labels(intake, labels)

    def _good(self, chunk: Sequence[GoodRow | BadRow]) -> Iterator[GoodRow]:
        for row in chunk:
            if isinstance(row, GoodRow):
                yield row
            else:
                self._refuse(row)

    def _offer_labels(self, intake: Intake, labels: list[Label]) -> None:
        # Each was checked with its row; but a delay may have moved it behind the last time that there is.
        times = [label.event_time_ms for label in labels]
        if max(times, default=0) <= MAX_EPOCH_MS and self._core.max_record_bytes >= LABEL_BYTES:
            self._offer_checked(intake, Role.LABELS, labels)
        else:
            self._offer_encoded(intake, Role.LABELS, [encode_input(label) for label in labels], times)

    def _offer_encoded(self, intake: Intake, role: Role, values: list[bytes], times: list[int]) -> None:
        start, skip = self._place(intake, role, len(values))
        if skip < len(values):
            # A file knows no time of writing: that an event lies in the future of its record cannot be.
            written = np.array(times[skip:], dtype=np.int64)
            offsets, end = np.arange(start + skip, start + len(values)), start + len(values)
            intake.offer(role, decode_block(role, offsets, written, values[skip:], end, self._core))

    def _offer_checked(self, intake: Intake, role: Role, events: Sequence[Prediction | Label]) -> None:
        start, skip = self._place(intake, role, len(events))
        if skip < len(events):
            times = np.array([event.event_time_ms for event in events[skip:]], dtype=np.int64)
            offsets, end = np.arange(start + skip, start + len(events)), start + len(events)
            # Bytes are counted by who fetches ahead; here nothing is offered before all was taken.
            intake.offer(role, Block(offsets, times, times, list(events[skip:]), end, 0))

    def _place(self, intake: Intake, role: Role, count: int) -> tuple[int, int]:
        """Say where the next records stand, and how many of them a replay that was resumed has taken already."""
        start = self._given[role]
        self._given[role] += count
        return start, max(intake.position(role) - start, 0)

    async def close(self) -> None:
        """Close the file."""
        self._source.__exit__(None, None, None)
