"""Rows in columns to events, without JSON on the way: the fast way of a replay from CSV and Parquet.

It takes no decision of its own: what it gives is, event for event, what RowMapper and the codec give (a tested law).
Where they would refuse a row, or find an object or a list, it gives nothing, and they have their say on the table.
"""

import math
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import msgspec

from schemas.events import MAX_CLASS_CHARS, MAX_FEATURES, MAX_ID_CHARS, FeatureValue, Label, Prediction
from schemas.instants import PLAUSIBLE_FROM_MS, PLAUSIBLE_TO_MS
from service.replay.answers import answer_of
from service.replay.mapping import ColumnMapping, as_name, column_of, constant_of, plain, read_time, zone_of
from service.replay.sources import Cell, Table, number_or_text

Column = list[Any]

_ESCAPED_CHARS: Final = 6
r"""Bytes of JSON that a character takes at most: \u001f."""
_NUMBER_CHARS: Final = 32
"""Bytes of JSON that a number takes at most, with its comma: -1.7976931348623157e+308 has 24."""
_FIELD_NAMES: Final = 400
"""Bytes of an event beside its cells: the names of its fields, braces, the time."""
LABEL_BYTES: Final = _FIELD_NAMES + _ESCAPED_CHARS * (2 * MAX_ID_CHARS + MAX_CLASS_CHARS)
"""No label that the schema allows takes more."""

_PREDICTION: Final = {field.name: list[field.type] for field in msgspec.structs.fields(Prediction)}  # type: ignore[name-defined]  # made of the schema
_LABEL: Final = {field.name: list[field.type] for field in msgspec.structs.fields(Label)}  # type: ignore[name-defined]  # made of the schema
"""What a column of each field must hold. The schema has its say on columns, which costs a third of one on rows."""

_SECONDS_FROM: Final = PLAUSIBLE_FROM_MS // 1000
_SECONDS_TO: Final = PLAUSIBLE_TO_MS // 1000
_MICROSECONDS_FROM: Final = PLAUSIBLE_FROM_MS * 1000
"""Below, between and before them a number looks like no other unit than milliseconds."""

_AS_THEY_ARE: Final = frozenset({str, int, bool, type(None)})


class Batch(NamedTuple):
    """Rows that the service will take. Shape (n,) each."""

    times_ms: list[int]
    predictions: list[Prediction]
    labels: list[Label | None]


class _Read(NamedTuple):
    """A column as an event may hold it."""

    values: Column
    longest: int
    """No text in it has more characters."""


class _UnevenError(ValueError):
    """A column holds what must be looked at row by row."""


class TableMapper:
    """Turns tables into events. `texts`: cells are texts in which numbers must be recognised."""

    def __init__(self, mapping: ColumnMapping, max_record_bytes: int, *, texts: bool) -> None:
        self._mapping = mapping
        self._max_record_bytes = max_record_bytes
        self._clean = _read_texts if texts else _read_cells
        self._read_answers = _read_answers if texts else _read_cells
        self._taken = frozenset(mapping.columns()) - frozenset(mapping.features or ())
        self._time_of = read_time(mapping.time_unit, zone_of(mapping.time_zone))

    def map(self, number: int, table: Table) -> Batch | None:
        """Turn a table into events; None where its rows have to be mapped one by one.

        `number`: of the first row, from 0.
        """
        mapping, size = self._mapping, len(table.lines)
        if mapping.prediction is None or mapping.embeddings:
            return None
        try:
            times_ms = self._times(number, table)
            model_ids = self._names(mapping.model_id, table)
            prediction_ids = self._ids(number, table)
            predictions = self._predictions(table, prediction_ids, model_ids, times_ms)
            labels: list[Label | None] = [None] * size
            if mapping.label is not None:
                labels = _labels(self._answers(table, mapping.label), prediction_ids, model_ids, times_ms)
        except (msgspec.ValidationError, ValueError, TypeError, OverflowError):
            return None  # whatever it was, the rows' own way names the row and the column
        return Batch(times_ms, predictions, labels)

    def _predictions(
        self, table: Table, prediction_ids: Column, model_ids: Column, times_ms: list[int]
    ) -> list[Prediction]:
        mapping = self._mapping
        nothing: Column = [None] * len(table.lines)
        given = {
            "prediction_id": prediction_ids,
            "model_id": model_ids,
            "model_version": self._names(mapping.model_version, table),
            "event_time_ms": times_ms,
            "prediction": self._answers(table, mapping.prediction or ""),
            "score": self._column(table, mapping.score),
            "score_class": self._score_class(table),
            "latency_ms": self._column(table, mapping.latency),
            "segments": self._segments(table),
        }
        if None in given["prediction"]:
            raise _UnevenError
        checked = [
            nothing if column is None else msgspec.convert(column, _PREDICTION[name]) for name, column in given.items()
        ]
        rows = zip(*checked, self._features(table) or nothing, strict=True)
        return [
            Prediction(
                prediction_id=key,
                model_id=model_id,
                model_version=version,
                event_time_ms=time_ms,
                prediction=answer,
                score=score,
                score_class=None if score is None else said,
                latency_ms=latency_ms,
                segments=segments,
                features=features,
            )
            for key, model_id, version, time_ms, answer, score, said, latency_ms, segments, features in rows
        ]

    def _score_class(self, table: Table) -> Column | None:
        said = self._mapping.score_class
        if said is None or self._mapping.score is None:
            return None
        column = column_of(said)
        return [constant_of(said)] * len(table.lines) if column is None else self._answers(table, column)

    def _features(self, table: Table) -> list[dict[str, Any]] | None:
        chosen = self._mapping.features
        names = [name for name in table.columns if name not in self._taken] if chosen is None else chosen
        # As in the encoded event, where names are sorted.
        columns = {name: self._clean(table.columns[name]) for name in sorted(set(names))}
        # What the schema bounds, one class name and three identifiers, and what it does not.
        size = LABEL_BYTES + _ESCAPED_CHARS * MAX_ID_CHARS * (1 + 2 * len(self._mapping.segments))
        size += sum(_NUMBER_CHARS + _ESCAPED_CHARS * (len(name) + read.longest) for name, read in columns.items())
        if size > self._max_record_bytes or len(columns) > MAX_FEATURES:
            raise _UnevenError
        values = [msgspec.convert(read.values, list[FeatureValue]) for read in columns.values()]
        # Columns are of one length: checked once, not for each row, and here is where most of the time goes.
        return [dict(zip(columns, row)) for row in zip(*values, strict=True)] if columns else None  # noqa: B905

    def _segments(self, table: Table) -> list[dict[str, str]] | None:
        names = sorted(set(self._mapping.segments))
        if not names:
            return None
        columns = [table.columns[name] for name in names]
        for cells in columns:
            _refuse_surrogates([cell for cell in cells if type(cell) is str])
        rows = zip(*columns, strict=True)
        return [
            {name: str(cell) for name, cell in zip(names, row, strict=True) if cell not in (None, "")} for row in rows
        ]

    def _times(self, number: int, table: Table) -> list[int]:
        mapping = self._mapping
        if mapping.time is None:
            start = mapping.start_ms + number * mapping.step_ms
            stop = start + len(table.lines) * mapping.step_ms
            return list(range(start, stop, mapping.step_ms)) if mapping.step_ms else [start] * len(table.lines)
        cells = table.columns[mapping.time]
        if mapping.time_unit in (None, "ms") and set(map(type, cells)) == {int}:
            first, last = min(cells), max(cells)
            settled = last < _SECONDS_FROM or (first >= _SECONDS_TO and last < _MICROSECONDS_FROM)
            if settled or mapping.time_unit == "ms":
                return cells
        return list(map(self._time_of, cells))

    def _ids(self, number: int, table: Table) -> Column:
        column = self._mapping.prediction_id
        if column is None:
            return list(map(str, range(number, number + len(table.lines))))
        return _texts(table.columns[column])

    def _names(self, name: str, table: Table) -> Column:
        column = column_of(name)
        return [constant_of(name)] * len(table.lines) if column is None else _texts(table.columns[column])

    def _answers(self, table: Table, name: str) -> Column:
        return self._read_answers(table.columns[name]).values

    def _column(self, table: Table, name: str | None) -> Any:
        return None if name is None else self._clean(table.columns[name]).values


def _labels(truths: Column, prediction_ids: Column, model_ids: Column, times_ms: list[int]) -> list[Label | None]:
    given = {"prediction_id": prediction_ids, "model_id": model_ids, "event_time_ms": times_ms}
    checked = [msgspec.convert(column, _LABEL[name]) for name, column in given.items()]
    known = iter(msgspec.convert([truth for truth in truths if truth is not None], _LABEL["label"]))
    return [
        None
        if truth is None
        else Label(prediction_id=prediction_id, model_id=model_id, label=next(known), event_time_ms=time_ms)
        for truth, prediction_id, model_id, time_ms in zip(truths, *checked, strict=True)
    ]


def _texts(cells: Column) -> Column:
    if None in cells or "" in cells:
        raise _UnevenError
    texts = cells if set(map(type, cells)) == {str} else list(map(as_name, cells))
    _refuse_surrogates(texts)
    return texts


def _read_cells(cells: Sequence[Cell]) -> _Read:
    """Do what `plain` does with each cell of a column."""
    kinds = set(map(type, cells))
    values = list(cells)
    if not (kinds <= _AS_THEY_ARE or (kinds == {float} and math.isfinite(sum(cells)))):
        values = list(map(plain, cells))
        kinds = set(map(type, values))
        if not kinds <= _AS_THEY_ARE | {float}:
            raise _UnevenError
    texts = [value for value in values if type(value) is str] if str in kinds else []
    _refuse_surrogates(texts)
    return _Read(values, max(map(len, texts), default=0))


def _read_texts(cells: Sequence[str]) -> _Read:
    """Do what `number_or_text` does with each cell of a column."""
    together = "".join(cells)
    if "_" not in together:
        try:
            numbers = list(map(float, cells))
        except ValueError:
            pass
        else:
            if math.isfinite(sum(numbers)):
                return _Read(numbers, 0)
    _refuse_surrogates([together])
    read = {text: number_or_text(text) for text in set(cells)}  # most texts are names, of which there are few
    if math.inf in read.values() or -math.inf in read.values():  # as of 1e400
        raise _UnevenError
    return _Read([read[text] for text in cells], max(map(len, cells), default=0))


def _read_answers(cells: Sequence[str]) -> _Read:
    """Do what `answer_of` does with each cell of a column."""
    _refuse_surrogates(["".join(cells)])
    read = {text: answer_of(text) for text in set(cells)}
    if math.inf in read.values() or -math.inf in read.values():  # as of 1e400
        raise _UnevenError
    return _Read([read[text] for text in cells], max(map(len, cells), default=0))


def _refuse_surrogates(texts: Sequence[str]) -> None:
    """Raise UnicodeEncodeError, a ValueError, where a text of a file was no UTF-8."""
    "".join(texts).encode()
