"""Rows of a file to events, by names of columns. Shared by `produce` and replay.

What a column holds is told by the options alone; nothing is guessed but numbers in CSV. A row that makes no event is
refused with the column that is at fault.
"""

import datetime as dt
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Annotated, Any, Final, Literal, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
from msgspec import Meta

from schemas.events import Label, Prediction
from schemas.instants import epoch_ms, likely_unit
from schemas.relaxed import EXACT_TO
from service.replay.answers import answer_of
from service.replay.sources import Cell, number_or_text

TimeUnit = Literal["s", "ms", "us", "ns", "iso"]
_MS_PER_UNIT: Final[dict[str, float]] = {"s": 1000.0, "ms": 1.0, "us": 1e-3, "ns": 1e-6}

COLUMN_SIGN: Final = "@"
"""`@region` is the column region, `region` the word itself; `@@x` is the word `@x`."""


DELIMITERS: Final = (";", "\t", "|", ",")
"""Those that files of cells are written with."""


class ColumnMapping(msgspec.Struct, frozen=True, kw_only=True):
    """Which column is what."""

    model_id: Annotated[str, Meta(min_length=1, description="the model's name, or @column")]
    model_version: Annotated[str, Meta(min_length=1, description="the version's name, or @column")] = "1"
    prediction_id: Annotated[str | None, Meta(description="column; null: the number of the row")] = None
    prediction: Annotated[str | None, Meta(description="column; null: no predictions")] = None
    score: Annotated[str | None, Meta(description="column of a probability, see score_class")] = None
    score_class: Annotated[
        str | None,
        Meta(
            min_length=1,
            description="the class whose probability score is, or @column: of the answers, for the confidence in them; "
            "null: positive_label of the profile, else found out from the answers",
        ),
    ] = None
    label: Annotated[str | None, Meta(description="column; null: no labels; an empty cell: not labelled")] = None
    time: Annotated[str | None, Meta(description="column of the event time; null: start_ms + row * step_ms")] = None
    time_unit: Annotated[
        TimeUnit | None, Meta(description="of the event time; null: milliseconds, unless the number looks like others")
    ] = None
    time_zone: Annotated[
        str | None, Meta(description="of times that name none, as Europe/Berlin; null: such a time is refused")
    ] = None
    start_ms: Annotated[int, Meta(description="event time of the first row, UTC milliseconds")] = 0
    step_ms: Annotated[int, Meta(ge=0, description="event time between two rows, milliseconds")] = 1000
    features: Annotated[tuple[str, ...] | None, Meta(description="columns; null: all that are nothing else")] = None
    exclude: Annotated[tuple[str, ...], Meta(description="columns that are no features")] = ()
    segments: tuple[str, ...] = ()
    embeddings: Annotated[
        tuple[str, ...], Meta(description="columns that hold vectors; each is named as its column")
    ] = ()
    latency: Annotated[str | None, Meta(description="column of the latency, milliseconds")] = None

    def columns(self) -> tuple[str, ...]:
        """Give all columns that the mapping names, and that a file therefore must have."""
        single = (self.prediction_id, self.prediction, self.score, self.label, self.time, self.latency)
        constant = (column_of(self.model_id), column_of(self.model_version), column_of(self.score_class or ""))
        named = (*single, *constant, *self.segments, *self.embeddings, *self.exclude, *(self.features or ()))
        return tuple(name for name in named if name is not None)


class MappingError(ValueError):
    """A mapping does not fit the file; the message names the column."""


class RowError(ValueError):
    """A row makes no event; the message begins with the column."""


class TimeError(ValueError):
    """A cell is a time, but it cannot be told which; the message says what would tell."""


class Mapped(NamedTuple):
    """What a row says."""

    time_ms: int
    prediction: Prediction | None
    label: Label | None
    """Its event time is the row's own; who writes it delays it."""


def check_columns(mapping: ColumnMapping, columns: Iterable[str]) -> None:
    """Raise MappingError if a column that the mapping names is not there."""
    known = list(columns)
    for name in mapping.columns():
        if name not in known:
            raise MappingError(f"no column {name!r}; there are {', '.join(known)}{_other_delimiter(name, known)}")


def _other_delimiter(missing: str, known: Sequence[str]) -> str:
    """Say which delimiter the file seems to have: its header is one column, which another delimiter splits so."""
    likely = [mark for mark in DELIMITERS if len(known) == 1 and missing in known[0].split(mark)]
    if not likely:
        return ""
    shown = "$'\\t'" if likely[0] == "\t" else repr(likely[0])
    return f"; the header is one column, which another delimiter splits: --delimiter {shown}"


def column_of(text: str) -> str | None:
    """Give the column that a constant-or-column names; None where it is a constant."""
    return text[1:] if text.startswith(COLUMN_SIGN) and not text.startswith(COLUMN_SIGN * 2) else None


def constant_of(text: str) -> str:
    """Give the constant that a constant-or-column is."""
    return text[1:] if text.startswith(COLUMN_SIGN) else text


class RowMapper:
    """Turns rows into events. `texts`: cells are texts in which numbers must be recognised."""

    def __init__(self, mapping: ColumnMapping, *, texts: bool) -> None:
        self._mapping = mapping
        self._value: Callable[[Cell], Any] = number_or_text if texts else plain
        self._answer: Callable[[Cell], Any] = (lambda cell: answer_of(cell or "")) if texts else plain
        self._taken = frozenset(mapping.columns()) - frozenset(mapping.features or ())
        self._id_column = mapping.prediction_id
        self._time_of = read_time(mapping.time_unit, zone_of(mapping.time_zone))
        self._model_column, self._version_column = column_of(mapping.model_id), column_of(mapping.model_version)
        self._model, self._version = constant_of(mapping.model_id), constant_of(mapping.model_version)

    def map(self, number: int, cells: Mapping[str, Cell]) -> Mapped:
        """Turn a row into a prediction and a label. `number` counts rows from 0. Raises RowError."""
        mapping = self._mapping
        time_ms = self._time(number, cells)
        model_id = self._model if self._model_column is None else self._text(cells, self._model_column)
        prediction_id = str(number) if self._id_column is None else self._text(cells, self._id_column)
        prediction, label = None, None
        if mapping.label is not None:
            truth = self._answer(cells.get(mapping.label))
            if truth is not None:
                label = Label(prediction_id=prediction_id, model_id=model_id, label=truth, event_time_ms=time_ms)
        if mapping.prediction is not None:
            answer = self._answer(cells.get(mapping.prediction))
            if answer is None:
                raise RowError(f"{mapping.prediction}: expected a prediction, got an empty cell")
            prediction = self._prediction(cells, prediction_id, model_id, answer, time_ms)
        return Mapped(time_ms, prediction, label)

    def _prediction(
        self, cells: Mapping[str, Cell], prediction_id: str, model_id: str, answer: Any, time_ms: int
    ) -> Prediction:
        mapping = self._mapping
        return Prediction(
            prediction_id=prediction_id,
            model_id=model_id,
            model_version=self._version if self._version_column is None else self._text(cells, self._version_column),
            event_time_ms=time_ms,
            prediction=answer,
            score=None if mapping.score is None else self._number(cells, mapping.score),
            score_class=self._score_class(cells),
            features=self._features(cells),
            embeddings=self._embeddings(cells) if mapping.embeddings else None,
            segments=self._segments(cells) if mapping.segments else None,
            latency_ms=None if mapping.latency is None else self._number(cells, mapping.latency),
        )

    def _score_class(self, cells: Mapping[str, Cell]) -> Any:
        said = self._mapping.score_class
        if said is None or self._mapping.score is None or self._cell(cells, self._mapping.score) is None:
            return None
        column = column_of(said)
        return constant_of(said) if column is None else self._answer(cells.get(column))

    def _features(self, cells: Mapping[str, Cell]) -> dict[str, Any] | None:
        chosen, value, taken = self._mapping.features, self._value, self._taken
        if chosen is None:
            found = {name: value(cell) for name, cell in cells.items() if name not in taken}
        else:
            found = {name: value(cells.get(name)) for name in chosen}
        if any(isinstance(cell, dict) for cell in found.values()):
            found = _spread(found)
        return found or None

    def _embeddings(self, cells: Mapping[str, Cell]) -> dict[str, list[float | None]]:
        found = ((name, cells.get(name)) for name in self._mapping.embeddings)
        return {name: _vector(name, cell) for name, cell in found if cell not in (None, "")}

    def _segments(self, cells: Mapping[str, Cell]) -> dict[str, str]:
        found = ((name, cells.get(name)) for name in self._mapping.segments)
        return {name: str(cell) for name, cell in found if cell not in (None, "")}

    def _time(self, number: int, cells: Mapping[str, Cell]) -> int:
        if self._mapping.time is None:
            return self._mapping.start_ms + number * self._mapping.step_ms
        cell = cells.get(self._mapping.time)
        try:
            return self._time_of(cell)
        except TimeError as error:
            raise RowError(f"{self._mapping.time}: {error}") from error
        except (ValueError, TypeError, OverflowError) as error:
            unit = self._mapping.time_unit or "ms"
            raise RowError(f"{self._mapping.time}: expected a time in {unit}, got {_shown(cell)}") from error

    def _text(self, cells: Mapping[str, Cell], column: str) -> str:
        cell = cells.get(column)
        if cell is None or cell == "":
            raise RowError(f"{column}: expected a name, got an empty cell")
        return as_name(cell)

    def _cell(self, cells: Mapping[str, Cell], column: str) -> Any:
        return self._value(cells.get(column))

    def _number(self, cells: Mapping[str, Cell], column: str) -> float | None:
        number = self._cell(cells, column)
        if number is None or (isinstance(number, int | float) and not isinstance(number, bool)):
            return number
        raise RowError(f"{column}: expected a number, got {_shown(number)}")


def _vector(column: str, cell: Cell) -> list[float | None]:
    """Take a list, or a text of CSV that is one in JSON. What is in it the codec checks."""
    vector = cell
    if isinstance(cell, str):
        try:
            vector = msgspec.json.decode(cell)
        except msgspec.DecodeError:
            vector = None
    if isinstance(vector, list):
        return vector
    raise RowError(f"{column}: expected a list of numbers, as [0.1, -0.2], got {_shown(cell)}")


def plain(cell: Cell) -> Any:
    """Turn what JSON or Parquet hold into what an event may hold: times and decimals too, NaN is missing.

    Lists stay lists, for the codec to refuse by name.
    """
    if cell is None or isinstance(cell, str | bool | int):
        return cell
    if isinstance(cell, float | Decimal):
        return float(cell) if math.isfinite(cell) else None
    if isinstance(cell, dt.datetime | dt.date | dt.time):
        return cell.isoformat()
    if isinstance(cell, dict):
        return {str(name): plain(member) for name, member in cell.items()}
    return str(cell) if isinstance(cell, bytes | dt.timedelta) else cell


def read_start(text: str, time_zone: str | None) -> int:
    """Read a time that a person gave, ISO 8601 or UTC milliseconds since 1970. Raises MappingError."""
    zone = zone_of(time_zone)
    try:
        return read_time("ms" if text.isdecimal() else "iso", zone)(text)
    except TimeError as error:
        raise MappingError(f"--start {error}") from error
    except (ValueError, OverflowError) as error:
        raise MappingError(f"--start {text}: expected ISO 8601 or milliseconds since 1970") from error


def as_name(cell: Cell) -> str:
    """Write a cell as an identifier; as in events 7.0, which a column of integers with gaps makes of 7, is "7"."""
    return str(int(cell)) if isinstance(cell, float) and cell.is_integer() and abs(cell) <= EXACT_TO else str(cell)


def zone_of(name: str | None) -> dt.tzinfo | None:
    """Find a time zone by its IANA name. Raises MappingError."""
    if name is None or name == "UTC":
        return None if name is None else dt.UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise MappingError(
            f"--time-zone {name}: no such time zone, or this system lacks the data of time zones (package tzdata); "
            "expected a name as Europe/Berlin, or UTC"
        ) from error


def read_time(unit: TimeUnit | None, zone: dt.tzinfo | None) -> Callable[[Cell], int]:
    """Give what reads a cell of this unit into UTC milliseconds; it raises ValueError, TypeError or OverflowError.

    A time without an offset is one of `zone`, and where there is none a TimeError. Times that Parquet holds as times
    need no unit. Unit None: milliseconds, but a number that looks like another unit is a TimeError too.
    """

    def moment(time: dt.datetime) -> int:
        if time.tzinfo is None and zone is None:
            what = f"{time.isoformat()} has no time zone"
            raise TimeError(f"{what}: say which with --time-zone, as UTC or Europe/Berlin")
        return epoch_ms(time.replace(tzinfo=zone) if time.tzinfo is None else time)

    def read(cell: Cell) -> int:
        if isinstance(cell, dt.datetime):
            return moment(cell)
        if unit == "iso":
            return moment(dt.datetime.fromisoformat(cell))
        if unit is None and _is_iso(cell):
            raise TimeError(f"{cell} looks like ISO 8601: say so with --time-unit iso")
        # Integers stay exact: nanoseconds of today need 61 bits, and a float has 53.
        exact = isinstance(cell, int) or (isinstance(cell, str) and cell.isdecimal())
        number: int | float = int(cell) if exact else float(cell)
        if unit is None and (other := likely_unit(number)) is not None:
            raise TimeError(f"{other}: say which unit it is with --time-unit")
        factor = _MS_PER_UNIT[unit or "ms"]
        if isinstance(number, int):
            return number * 1000 if unit == "s" else number // round(1 / factor)
        return math.floor(number * factor)

    return read


def _is_iso(cell: Cell) -> bool:
    """Say whether it is a date or time as people write it; digits alone are a number of some unit."""
    if not isinstance(cell, str) or "-" not in cell[1:]:
        return False
    try:
        dt.datetime.fromisoformat(cell)
    except ValueError:
        return False
    return True


def _spread(found: Mapping[str, Any]) -> dict[str, Any]:
    """Take the members of objects among the features as features: `{"features": {"age": 30}}` has the feature age."""
    spread: dict[str, Any] = {}
    for name, cell in found.items():
        spread.update(cell if isinstance(cell, dict) else {name: cell})
    return spread


def _shown(cell: Cell) -> str:
    text = repr(cell)
    return text if len(text) <= 60 else f"{text[:59]}…"
