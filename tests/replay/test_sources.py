"""Rows of files."""

import gzip
import json
import math
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from service.replay.sources import BadRow, Row, Source, SourceError, number_or_text, recognise


def read(path: Path, **options) -> list[Row | BadRow]:
    with Source(path, **options) as contents:
        return list(contents.rows)


def test_a_csv_gives_its_cells_as_texts_with_the_line_they_end_on(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('id,text\n1,plain\n2,"two\nlines"\n3,last\n')
    assert read(path) == [
        Row(2, {"id": "1", "text": "plain"}),
        Row(4, {"id": "2", "text": "two\nlines"}),
        Row(5, {"id": "3", "text": "last"}),
    ]


def test_a_row_of_another_width_is_bad_and_the_file_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("a,b\n1\n\n1,2\n1,2,3\n")
    assert read(path) == [
        BadRow(2, "expected 2 cells, got 1"),
        Row(4, {"a": "1", "b": "2"}),
        BadRow(5, "expected 2 cells, got 3"),
    ]


def test_a_byte_order_mark_a_tab_and_compression_change_no_cell(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a,b\n1,2\n", encoding="utf-8-sig")
    (tmp_path / "a.tsv").write_text("a\tb\n1\t2\n")
    with gzip.open(tmp_path / "a.csv.gz", "wt") as file:
        file.write("a,b\n1,2\n")
    for name in ("a.csv", "a.tsv", "a.csv.gz"):
        assert read(tmp_path / name) == [Row(2, {"a": "1", "b": "2"})]


@pytest.mark.parametrize(
    ("text", "words"),
    [("", "no header"), (",\n1,2\n", "no header"), ("a,b,a\n1,2,3\n", "named twice: 'a'")],
)
def test_a_csv_whose_columns_cannot_be_told_apart_is_refused(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(text)
    with pytest.raises(SourceError, match=words):
        read(path)


def test_a_column_that_the_header_leaves_empty_has_the_name_that_pandas_gives_it(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(",a, \n0,1,\n")
    assert read(path) == [Row(2, {"Unnamed: 0": "0", "a": "1", "Unnamed: 2": ""})]


def test_jsonl_gives_typed_cells_and_names_what_is_no_object(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 1, "b": null}\n\n[1]\n{"a": \n{"a": NaN}\n')
    first, listed, broken, lenient = read(path)
    assert first == Row(1, {"a": 1, "b": None})
    assert listed == BadRow(3, "expected an object, got list")
    assert isinstance(broken, BadRow)
    assert broken.line == 4
    assert isinstance(lenient, Row)
    assert math.isnan(lenient.cells["a"])


def test_parquet_gives_typed_cells_across_batches(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    parquet.write_table(pa.table({"id": list(range(25_000)), "name": ["x", None] * 12_500}), path)
    rows = read(path)
    assert len(rows) == 25_000
    assert rows[20_001] == Row(20_002, {"id": 20_001, "name": None})


def test_what_is_no_parquet_or_no_gzip_or_not_there_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR0")
    (tmp_path / "a.csv.gz").write_bytes(b"a,b\n1,2\n")
    for name in ("a.parquet", "a.csv.gz", "none.csv", "none.parquet"):
        with pytest.raises(SourceError, match=name):
            read(tmp_path / name)


def test_a_truncated_gzip_is_an_error_and_not_an_end(tmp_path: Path) -> None:
    whole = gzip.compress(("a,b\n" + "1,2\n" * 10_000).encode())
    path = tmp_path / "a.csv.gz"
    path.write_bytes(whole[:-20])
    with pytest.raises(SourceError, match=r"a\.csv\.gz"):
        read(path)


def test_a_name_that_tells_no_format_is_refused_unless_the_format_is_given(tmp_path: Path) -> None:
    path = tmp_path / "rows.txt"
    path.write_text("a\n1\n")
    with pytest.raises(SourceError, match="--format"):
        recognise(path)
    assert read(path, file_format="csv") == [Row(2, {"a": "1"})]


@given(count=st.integers(0, 50), form=st.sampled_from(["csv", "jsonl", "csv.gz", "parquet"]))
def test_the_count_is_never_below_the_rows(tmp_path_factory: pytest.TempPathFactory, count: int, form: str) -> None:
    path = tmp_path_factory.mktemp("count") / f"a.{form}"
    if form == "parquet":
        parquet.write_table(pa.table({"a": [1] * count}), path)
    else:
        line = json.dumps({"a": 1}) if form == "jsonl" else "1"
        text = "\n".join([*([] if form == "jsonl" else ["a"]), *([line] * count)])
        path.write_bytes(gzip.compress(text.encode()) if form.endswith(".gz") else text.encode())
    assert count <= Source(path).count_at_most() <= count + 2


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_finite_number_is_read_back_exactly(value: float) -> None:
    assert number_or_text(repr(value)) == value


@pytest.mark.parametrize("text", ["", "nan", "NaN", "inf", "-Infinity"])
def test_a_cell_without_a_finite_number_is_missing(text: str) -> None:
    assert number_or_text(text) is None


@pytest.mark.parametrize("text", ["1_000", "DE", "0x10", "12:30", "1,5", "infinite"])
def test_what_is_not_written_as_a_number_stays_a_text(text: str) -> None:
    assert number_or_text(text) == text
