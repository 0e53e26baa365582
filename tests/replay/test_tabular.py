"""Rows in columns to events: the fast way gives what the rows' own way gives."""

import datetime as dt
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from schemas.codec import decode_labels, decode_predictions
from service.replay.events import GoodRow, encode_input, read_batches, read_events
from service.replay.mapping import ColumnMapping, RowMapper
from service.replay.sources import BadRow, Row, Source, SourceError, Table
from service.replay.tabular import Batch, TableMapper

LARGEST = 20_000
MAPPING = ColumnMapping(
    model_id="@model",
    model_version="7",
    prediction_id="key",
    prediction="said",
    score="p",
    label="truth",
    time="at",
    segments=("country", "age"),
    latency="took",
)
BARE = ColumnMapping(model_id="m", prediction="said", label="truth", start_ms=5, step_ms=3)
COLUMNS = ("model", "key", "said", "p", "truth", "at", "country", "age", "took", "zeta", "alpha")

numbers = st.floats() | st.integers(-(2**70), 2**70)
texts = st.text(max_size=5) | st.sampled_from(["1_000", " 7 ", "nan", "-inf", "1e400", "", "x" * 300, "\udcff", "é"])
odd = st.sampled_from(
    [
        dt.datetime(2026, 5, 1, 12, tzinfo=dt.UTC),
        dt.datetime(2026, 5, 1, 12),  # noqa: DTZ001  # as Parquet holds times without a zone
        dt.date(2026, 5, 1),
        dt.timedelta(seconds=3),
        Decimal("1.50"),
        Decimal("NaN"),
        b"\xff",
        [1],
        {"a": 1.0, "b": float("nan")},
    ]
)
GOOD: dict[str, st.SearchStrategy[Any]] = {
    "model": st.sampled_from(["a", "b"]),
    "key": st.integers(0, 99) | st.text("abc", min_size=1, max_size=3),
    "said": st.booleans() | st.integers(-3, 3) | st.sampled_from(["yes", "no"]),
    "p": st.floats(0, 1) | st.integers(0, 1) | st.none(),
    "truth": st.none() | st.booleans() | st.integers(-3, 3),
    "at": st.integers(0, 10**12),
    "took": st.floats(0, 1e9) | st.none(),
}
usual = st.none() | st.booleans() | st.floats() | st.integers(-9, 9) | st.text(max_size=5)


@st.composite
def tables(draw: st.DrawFn) -> dict[str, list[Any]]:
    """Draw columns of which most are as they should be, so that either way is taken often."""
    size = draw(st.integers(1, 6))

    def column(name: str) -> list[Any]:
        cells = GOOD.get(name, usual)
        if draw(st.integers(0, 20)) == 0:
            cells = st.none() | numbers | texts | odd
        return draw(st.lists(cells, min_size=size, max_size=size))

    return {name: column(name) for name in COLUMNS}


def told(mapping: ColumnMapping, table: Table, *, texts: bool) -> list[Any]:
    """Give what the rows' own way makes of a table: events as the service decodes them, or what is wrong."""
    rows: list[Any] = []
    for row in read_events(table.rows(), RowMapper(mapping, texts=texts)):
        rows += row
    found: list[Any] = []
    for row in rows:
        if isinstance(row, BadRow):
            found.append(row)
            continue
        assert row.prediction is not None
        (prediction,) = decode_predictions([row.prediction], LARGEST).events
        label = None if row.mapped.label is None else decode_labels([encode_input(row.mapped.label)], LARGEST).events[0]
        found.append((row.mapped.time_ms, prediction, label))
    return found


def check(mapping: ColumnMapping, columns: dict[str, list[Any]], *, texts: bool) -> Batch | None:
    table = Table(range(1, len(columns["said"]) + 1), columns)
    batch = TableMapper(mapping, LARGEST, texts=texts).map(0, table)
    if batch is not None:
        # repr, for it tells 1 from 1.0 and from True, and the order of features.
        assert repr(list(zip(*batch, strict=True))) == repr(told(mapping, table, texts=texts))
    return batch


@settings(deadline=None)
@given(tables(), st.sampled_from([MAPPING, BARE]))
@example({name: [7.5, None] for name in COLUMNS}, BARE)
@example({name: [False if name == "said" else "\udcff" if name == "alpha" else None] for name in COLUMNS}, BARE)
def test_typed_columns_give_the_events_of_their_rows(columns: dict[str, list[Any]], mapping: ColumnMapping) -> None:
    check(mapping, columns, texts=False)


@settings(deadline=None)
@given(tables(), st.sampled_from([MAPPING, BARE]))
@example({name: [name == "said", "-1e400" if name == "alpha" else None] for name in COLUMNS}, BARE)
def test_columns_of_texts_give_the_events_of_their_rows(columns: dict[str, list[Any]], mapping: ColumnMapping) -> None:
    written = {name: ["" if cell is None else str(cell) for cell in cells] for name, cells in columns.items()}
    check(mapping, written, texts=True)


@pytest.mark.parametrize("texts", [False, True])
def test_a_usual_table_takes_the_fast_way(texts: bool) -> None:
    usual_cells = {"model": "m", "key": "k", "said": 1, "p": 0.5, "truth": 0, "at": 99, "country": "DE", "age": 30}
    columns = {name: [usual_cells.get(name, 1.5)] * 3 for name in COLUMNS}
    if texts:
        columns = {name: list(map(str, cells)) for name, cells in columns.items()}
    assert check(MAPPING, columns, texts=texts) is not None
    assert check(BARE, columns, texts=texts) is not None


def test_rows_with_embeddings_and_files_of_labels_alone_are_left_to_the_rows_own_way() -> None:
    table = Table([1], {"said": [1], "v": [[0.5, 1.0]]})
    for mapping in (ColumnMapping(model_id="m", prediction="said", embeddings=("v",)), ColumnMapping(model_id="m")):
        assert TableMapper(mapping, LARGEST, texts=False).map(0, table) is None


def test_a_row_that_may_be_too_large_for_a_record_is_left_to_the_codec() -> None:
    assert check(BARE, {"said": [1], "truth": [None], "x": ["y" * LARGEST]}, texts=False) is None


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 3) | st.none(), max_size=12), st.integers(0, 14) | st.none(), st.sampled_from(["csv", "pq"])
)
def test_batches_hold_every_row_once_with_its_own_number(
    tmp_path_factory: pytest.TempPathFactory, answers: list[int | None], limit: int | None, form: str
) -> None:
    path = tmp_path_factory.mktemp("rows") / f"rows.{form}"
    if form == "csv":
        path.write_text("said,x\n" + "".join("torn\n" if a is None else f"{a},2\n" for a in answers))
    else:
        parquet.write_table(pa.table({"said": pa.array(answers, pa.int64()), "x": [2.0] * len(answers)}), path)
    mapping = ColumnMapping(model_id="m", prediction="said")
    found: list[object] = []
    with Source(path) as contents:
        tables, rows = TableMapper(mapping, LARGEST, texts=contents.texts), RowMapper(mapping, texts=contents.texts)
        for chunk in read_batches(contents.pieces, tables, rows, limit=limit):
            if isinstance(chunk, Batch):
                found += [event.prediction_id for event in chunk.predictions]
            else:
                found += [_number(row) for row in chunk]
    assert found == [None if answer is None else str(place) for place, answer in enumerate(answers)][:limit]


def _number(row: GoodRow | BadRow) -> str | None:
    if isinstance(row, BadRow):
        return None
    assert row.mapped.prediction is not None
    return row.mapped.prediction.prediction_id


def test_a_table_of_rows_is_its_rows() -> None:
    table = Table([2, 5], {"a": [1, 2], "b": ["x", "y"]})
    assert list(table.rows()) == [Row(2, {"a": 1, "b": "x"}), Row(5, {"a": 2, "b": "y"})]
    assert [list(part.rows()) for part in table.parts(1)] == [[row] for row in table.rows()]


def test_a_parquet_text_that_is_no_utf_8_is_said_with_the_file(tmp_path: Path) -> None:
    broken = pa.array([b"\xff"], pa.binary()).view(pa.string())
    parquet.write_table(pa.table({"said": broken}), tmp_path / "a.parquet")
    with Source(tmp_path / "a.parquet") as contents, pytest.raises(SourceError, match=r"a\.parquet: .*UTF-8"):
        list(contents.rows)
