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
from service.replay.sources import BadRow, Row

encode_input = msgspec.json.Encoder(order="sorted").encode
"""Five times as fast as the codec's own, which looks for numbers that are not finite. Here these become null, and the
check behind finds a null where none may be: a feature is then missing, as the service itself would read it."""

CHUNK_ROWS = 1_000
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
