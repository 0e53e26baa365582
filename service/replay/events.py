"""Checked events of a file: what is given here, the service takes; every other row is named and counted.

Rows are checked in chunks, by the codec that the service itself decodes with, before anything of them is written: a row
is good or bad as a whole, so that no label stands without its prediction.
"""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import msgspec

from schemas.codec import decode_labels, decode_predictions
from service.replay.mapping import Mapped, RowError, RowMapper
from service.replay.sources import BadRow, Row, Table
from service.replay.tabular import Batch, TableMapper

encode_input = msgspec.json.Encoder(order="sorted").encode
"""Five times as fast as the codec's own, which looks for numbers that are not finite. Here these become null, and the
check behind finds a null where none may be: a feature is then missing, as the service itself would read it."""

CHUNK_ROWS = 2_000
"""Rows that are checked, and handed on, at once: half of what a step takes, with their labels the whole of it."""
MAX_RECORD_BYTES = 1_048_576
"""The service's own default limit; Kafka's default is as much."""


class GoodRow(NamedTuple):
    """A row that the service will take."""

    line: int
    mapped: Mapped
    prediction: bytes | None
    """Its prediction, encoded."""


class _Encoded(NamedTuple):
    good: GoodRow
    label: bytes | None


def read_events(
    rows: Iterator[Row | BadRow], mapper: RowMapper, *, limit: int | None = None, chunk_rows: int = CHUNK_ROWS
) -> Iterator[list[GoodRow | BadRow]]:
    """Give at most `limit` rows, good and bad ones in the file's order, in lists of at most `chunk_rows`.

    Row numbers, which make prediction ids and event times where no column does, count bad rows too.
    """
    number = 0
    rows = islice(rows, limit)
    while chunk := list(islice(rows, chunk_rows)):
        yield _check([_encode(row, number + place, mapper) for place, row in enumerate(chunk)])
        number += len(chunk)


def read_batches(
    pieces: Iterator[Table | Row | BadRow], tables: TableMapper, mapper: RowMapper, *, limit: int | None = None
) -> Iterator[Batch | list[GoodRow | BadRow]]:
    """Give what `read_events` gives, and where it can be had so, the events of rows in columns."""
    number = 0
    for part in _parts(pieces, limit):
        batch = tables.map(number, part) if isinstance(part, Table) else None
        if batch is not None:
            yield batch
            number += len(batch.times_ms)
            continue
        rows = list(part.rows()) if isinstance(part, Table) else part
        yield _check([_encode(row, number + place, mapper) for place, row in enumerate(rows)])
        number += len(rows)


def _parts(pieces: Iterator[Table | Row | BadRow], limit: int | None) -> Iterator[Table | list[Row | BadRow]]:
    """Give tables and lists of at most CHUNK_ROWS rows, in all at most `limit`."""
    left = float("inf") if limit is None else limit
    loose: list[Row | BadRow] = []
    for piece in pieces if left > 0 else ():
        if isinstance(piece, Table):
            if loose:
                yield loose
                loose = []
            for part in piece.parts(CHUNK_ROWS):
                if left > 0:
                    yield part if left >= len(part.lines) else next(part.parts(int(left)))
                left -= len(part.lines)
        else:
            loose.append(piece)
            left -= 1
            if len(loose) == CHUNK_ROWS:
                yield loose
                loose = []
        if left <= 0:
            break
    if loose:
        yield loose


def _encode(row: Row | BadRow, number: int, mapper: RowMapper) -> _Encoded | BadRow:
    if isinstance(row, BadRow):
        return row
    try:
        mapped = mapper.map(number, row.cells)
        prediction = None if mapped.prediction is None else encode_input(mapped.prediction)
        label = None if mapped.label is None else encode_input(mapped.label)
    except (RowError, TypeError, OverflowError) as error:
        return BadRow(row.line, str(error))
    except UnicodeEncodeError:
        return BadRow(row.line, "not UTF-8")
    return _Encoded(GoodRow(row.line, mapped, prediction), label)


def _check(rows: Sequence[_Encoded | BadRow]) -> list[GoodRow | BadRow]:
    """Let the codec have its say on every row of a chunk."""
    bad: dict[int, str] = {}
    for values, decode in (
        ({place: row.good.prediction for place, row in _encoded(rows)}, decode_predictions),
        ({place: row.label for place, row in _encoded(rows)}, decode_labels),
    ):
        places = [place for place, value in values.items() if value is not None]
        for rejection in decode([values[place] for place in places], MAX_RECORD_BYTES).rejections:
            bad.setdefault(places[rejection.index], rejection.message)
    checked: list[GoodRow | BadRow] = []
    for place, row in enumerate(rows):
        if isinstance(row, BadRow):
            checked.append(row)
        elif place in bad:
            checked.append(BadRow(row.good.line, bad[place]))
        else:
            checked.append(row.good)
    return checked


def _encoded(rows: Sequence[_Encoded | BadRow]) -> Iterator[tuple[int, _Encoded]]:
    return ((place, row) for place, row in enumerate(rows) if isinstance(row, _Encoded))
