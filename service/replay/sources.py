"""Rows of files: CSV, JSON Lines and Parquet, one after the other and in bounded memory.

A row that cannot be read is a BadRow with its place; the file goes on behind it. Only what makes the whole file
useless (it is not there, has no header, is no Parquet) raises SourceError.
"""

import csv
import gzip
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from io import BufferedReader, TextIOWrapper
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Literal, NamedTuple, cast

import orjson

Format = Literal["csv", "jsonl", "parquet"]
Cell = Any
"""A text (CSV), or whatever JSON or Parquet hold."""

SUFFIXES: dict[str, Format] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
}

MAX_LINE_CHARS = 16 << 20
"""Longest line of JSON Lines. A longer one is a bad row, and the rest of the file is not read."""

PARQUET_ROWS = 10_000
"""Rows that are taken from a Parquet file at once."""

TABLE_ROWS = 2_000
"""Rows that are made objects of at once."""

UNNAMED = "Unnamed:"
"""Begins the name of a column that the header leaves empty, as that of a row number; its place from 0 follows.

Pandas names it so too.
"""

COUNT_BYTES = 1 << 20


class SourceError(ValueError):
    """A file that cannot be read at all; the message names it."""


class Row(NamedTuple):
    """One row: where it stands, and its cells by column."""

    line: int
    """Number of the line on which it ends (CSV, JSON Lines), of the row (Parquet); from 1."""
    cells: dict[str, Cell]


class Table(NamedTuple):
    """Consecutive rows, in columns."""

    lines: Sequence[int]
    """Of each row, as in Row."""
    columns: dict[str, list[Cell]]

    def parts(self, size: int) -> "Iterator[Table]":
        """Cut it into tables of at most `size` rows."""
        for start in range(0, len(self.lines), size):
            part = slice(start, start + size)
            yield Table(self.lines[part], {name: cells[part] for name, cells in self.columns.items()})

    def rows(self) -> Iterator[Row]:
        """Give them one by one."""
        names = tuple(self.columns)
        for line, cells in zip(self.lines, zip(*self.columns.values(), strict=True), strict=True):
            yield Row(line, dict(zip(names, cells, strict=True)))


class BadRow(NamedTuple):
    """A row that cannot be used, where it stands and why."""

    line: int
    message: str


@dataclass(frozen=True)
class Contents:
    """An open file."""

    columns: tuple[str, ...] | None
    """In the file's order; None where every row says its own (JSON Lines)."""
    pieces: Iterator[Table | Row | BadRow]
    """Of the file, in its order: tables where all rows have the same columns."""
    size: int
    """Of the whole file, in the unit of `done`."""
    done: Callable[[], int]
    """How much of it was read: bytes of the file, or rows."""
    texts: bool
    """Whether all cells are texts, so that numbers must be recognised."""

    @property
    def rows(self) -> Iterator[Row | BadRow]:
        """Give what is left of the file, row by row."""
        for piece in self.pieces:
            if isinstance(piece, Table):
                yield from piece.rows()
            else:
                yield piece


class Source(AbstractContextManager[Contents]):
    """A file of rows, open within `with`. `.gz` behind the suffix of CSV or JSON Lines means compressed."""

    def __init__(self, path: Path, file_format: Format | None = None, delimiter: str = ",") -> None:
        self.path = path
        self.format = file_format or recognise(path)
        self._delimiter = "\t" if ".tsv" in path.suffixes else delimiter
        self._open: list[IO[Any]] = []

    def __enter__(self) -> Contents:
        try:
            raw = self.path.open("rb")
        except OSError as error:
            raise SourceError(f"{self.path}: {error.strerror or error}") from error
        self._open.append(raw)
        try:
            return self._contents(raw)
        except BaseException:
            self._close()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._close()

    def count_at_most(self) -> int:
        """Give an upper bound of the number of rows, by counting line ends (Parquet knows it)."""
        if self.format == "parquet":
            with self as contents:
                return contents.size
        try:
            with self.path.open("rb") as raw:
                stream, lines = self._plain(raw), 1
                while block := stream.read(COUNT_BYTES):
                    lines += block.count(b"\n")
                return lines
        except (EOFError, OSError) as error:
            raise SourceError(f"{self.path}: {getattr(error, 'strerror', None) or error}") from error

    def _contents(self, raw: BufferedReader) -> Contents:
        if self.format == "parquet":
            return _read_parquet(self.path, raw)
        # Bytes that are no UTF-8 become lone surrogates, which the codec refuses: the row is bad, not the file.
        text = TextIOWrapper(self._plain(raw), encoding="utf-8-sig", errors="surrogateescape", newline="")
        self._open.append(text)
        size = self.path.stat().st_size
        done = _position(raw)
        if self.format == "jsonl":
            return Contents(None, _read_jsonl(self._checked(text)), size, done, texts=False)
        reader = csv.reader(self._checked(text), delimiter=self._delimiter)
        columns = self._header(reader)
        return Contents(columns, _read_csv(reader, columns), size, done, texts=True)

    def _plain(self, raw: IO[bytes]) -> IO[bytes]:
        raw.seek(0)
        return cast("IO[bytes]", gzip.GzipFile(fileobj=raw)) if self.path.suffix == ".gz" else raw

    def _checked(self, text: TextIOWrapper) -> Iterator[str]:
        """Give lines, turning a damaged compression into an error that names the file."""
        try:
            while line := text.readline(MAX_LINE_CHARS):
                yield line
        except (EOFError, OSError) as error:
            raise SourceError(f"{self.path}: {error}") from error

    def _header(self, reader: Iterator[list[str]]) -> tuple[str, ...]:
        named = [name.strip() for name in next(reader, [])]
        columns = tuple(name or f"{UNNAMED} {place}" for place, name in enumerate(named))
        twice = sorted({name for name in columns if columns.count(name) > 1})
        if not any(named):
            raise SourceError(f"{self.path}: no header: the first line must name the columns")
        if twice:
            raise SourceError(f"{self.path}: columns are named twice: {', '.join(map(repr, twice))}")
        return columns

    def _close(self) -> None:
        while self._open:
            self._open.pop().close()


def recognise(path: Path) -> Format:
    """Tell the format by the file's name. Raises SourceError."""
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() != ".gz"]
    if suffixes and suffixes[-1] in SUFFIXES:
        return SUFFIXES[suffixes[-1]]
    known = ", ".join(SUFFIXES)
    raise SourceError(f"{path}: cannot tell its format; expected a name that ends in one of {known}, or --format")


def _position(raw: IO[bytes]) -> Callable[[], int]:
    return lambda: 0 if raw.closed else raw.tell()


def _read_csv(reader: Any, columns: tuple[str, ...]) -> Iterator[Table | BadRow]:
    width = len(columns)
    lines: list[int] = []
    rows: list[list[str]] = []
    for cells in _csv_rows(reader):
        if not isinstance(cells, BadRow) and len(cells) == width:
            lines.append(reader.line_num)
            rows.append(cells)
            if len(rows) < TABLE_ROWS:
                continue
        if rows:
            yield _transposed(lines, rows, columns)
            lines, rows = [], []
        if isinstance(cells, BadRow):
            yield cells
        elif len(cells) != width:
            yield BadRow(reader.line_num, f"expected {width} cells, got {len(cells)}")
    if rows:
        yield _transposed(lines, rows, columns)


def _csv_rows(reader: Any) -> Iterator[list[str] | BadRow]:
    while True:
        try:
            cells = next(reader, None)
        except csv.Error as error:
            yield BadRow(reader.line_num, str(error))
            continue
        if cells is None:
            return
        if cells:  # an empty line is no row
            yield cells


def _transposed(lines: list[int], rows: list[list[str]], columns: tuple[str, ...]) -> Table:
    return Table(lines, dict(zip(columns, map(list, zip(*rows, strict=True)), strict=True)))


def _read_jsonl(lines: Iterator[str]) -> Iterator[Row | BadRow]:
    for number, line in enumerate(lines, 1):
        if len(line) >= MAX_LINE_CHARS:
            yield BadRow(number, f"longer than {MAX_LINE_CHARS:,} characters; the rest of the file is not read")
            return
        if not line.strip():
            continue
        try:
            cells = _parse_json(line)
        except (ValueError, RecursionError) as error:
            yield BadRow(number, f"not JSON: {error}")
            continue
        if isinstance(cells, dict):
            yield Row(number, cells)
        else:
            yield BadRow(number, f"expected an object, got {type(cells).__name__}")


def _parse_json(line: str) -> Any:
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        return json.loads(line)  # slower, but takes NaN, which half of the world writes


def _read_parquet(path: Path, raw: BufferedReader) -> Contents:
    try:
        import pyarrow as pa  # noqa: PLC0415  (an optional extra, and slow to import)
        from pyarrow import parquet  # noqa: PLC0415
    except ImportError as error:
        raise SourceError(f"{path}: reading Parquet needs pyarrow; install tidegauge[parquet]") from error
    try:
        table = parquet.ParquetFile(raw)
    except (pa.ArrowException, OSError) as error:
        raise SourceError(f"{path}: not a Parquet file: {error}") from error
    columns = tuple(str(name) for name in table.schema_arrow.names)
    progress = [0]

    def tables() -> Iterator[Table]:
        for batch in _slices(table.iter_batches(batch_size=PARQUET_ROWS)):
            try:
                cells = {name: column.to_pylist() for name, column in zip(columns, batch.columns, strict=True)}
            except UnicodeDecodeError as error:
                raise SourceError(f"{path}: a text is not UTF-8: {error}") from error
            lines = range(progress[0] + 1, progress[0] + 1 + batch.num_rows)
            progress[0] += batch.num_rows
            yield Table(lines, cells)

    return Contents(columns, tables(), table.metadata.num_rows, lambda: progress[0], texts=False)


def _slices(batches: Iterator[Any]) -> Iterator[Any]:
    # Python objects of a whole batch would leave the cache before anybody looks at them.
    return (batch.slice(start, TABLE_ROWS) for batch in batches for start in range(0, batch.num_rows, TABLE_ROWS))


_MISSING = frozenset({"nan", "inf", "infinity"})


def number_or_text(text: str) -> float | str | None:
    """Read a cell of CSV: a number where it is written as one, None where it is empty or not finite, else the text."""
    try:
        number = float(text)
    except ValueError:
        return text or None
    if number - number == 0.0:  # finite
        # float() also takes 1_000 and blanks around, which are rather identifiers and names than numbers.
        return number if "_" not in text else text
    return None if text.strip().lstrip("+-").lower() in _MISSING else number
