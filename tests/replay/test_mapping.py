"""Rows to events."""

import datetime as dt
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.events import Label, Prediction
from schemas.instants import epoch_ms
from service.replay.events import GoodRow, read_events
from service.replay.mapping import (
    ColumnMapping,
    MappingError,
    RowError,
    RowMapper,
    TimeError,
    TimeUnit,
    as_name,
    check_columns,
    plain,
    read_time,
    zone_of,
)
from service.replay.sources import BadRow, Row

FULL = ColumnMapping(
    model_id="m",
    model_version="@release",
    prediction_id="key",
    prediction="said",
    score="p",
    label="truth",
    time="at",
    segments=("country",),
    latency="took",
    exclude=("note",),
)
CELLS = {
    "key": "007",
    "release": "v2",
    "said": "1",
    "p": "0.75",
    "truth": "0",
    "at": "1735689600000",
    "country": "DE",
    "took": "12.5",
    "note": "never mind",
    "age": "30",
    "job": "baker",
    "income": "",
}


def test_each_column_goes_where_the_mapping_says_and_the_rest_are_features() -> None:
    mapped = RowMapper(FULL, texts=True).map(3, CELLS)
    assert mapped.prediction == Prediction(
        prediction_id="007",
        model_id="m",
        model_version="v2",
        event_time_ms=1_735_689_600_000,
        prediction=1.0,
        score=0.75,
        features={"age": 30.0, "job": "baker", "income": None},
        segments={"country": "DE"},
        latency_ms=12.5,
    )
    assert mapped.label == Label(prediction_id="007", model_id="m", label=0.0, event_time_ms=1_735_689_600_000)


def test_columns_of_lists_are_embeddings_and_no_features() -> None:
    mapping = ColumnMapping(model_id="m", prediction="said", embeddings=("text", "image"))
    cells = {"said": 1, "age": 30, "text": [0.5, float("nan")], "image": None}
    mapped = RowMapper(mapping, texts=False).map(0, cells)
    assert mapped.prediction is not None
    assert mapped.prediction.features == {"age": 30}
    (checked,) = next(read_events(iter([Row(1, cells)]), RowMapper(mapping, texts=False)))
    assert isinstance(checked, GoodRow)
    assert b'"embeddings":{"text":[0.5,null]}' in (checked.prediction or b"")
    text = RowMapper(mapping, texts=True).map(0, {"said": "1", "text": "[0.5, 1]", "image": ""})
    assert text.prediction is not None
    assert text.prediction.embeddings == {"text": [0.5, 1]}


@pytest.mark.parametrize("cell", ["0.5 1", '{"a": 1}', 7])
def test_a_vector_that_is_no_list_is_refused_by_its_column(cell: Any) -> None:
    mapping = ColumnMapping(model_id="m", prediction="said", embeddings=("text",))
    with pytest.raises(RowError, match=r"^text: expected a list of numbers"):
        RowMapper(mapping, texts=True).map(0, {"said": "1", "text": cell})


def test_without_columns_for_them_the_row_number_makes_the_id_and_the_time() -> None:
    mapping = ColumnMapping(model_id="m", prediction="said", start_ms=5_000, step_ms=100)
    mapped = RowMapper(mapping, texts=True).map(7, {"said": "yes"})
    assert mapped.prediction is not None
    assert (mapped.prediction.prediction_id, mapped.time_ms, mapped.prediction.prediction) == ("7", 5_700, "yes")
    assert mapped.prediction.features is None


def test_an_empty_label_is_no_label_and_an_empty_prediction_is_an_error() -> None:
    mapping = ColumnMapping(model_id="m", prediction="said", label="truth")
    mapper = RowMapper(mapping, texts=True)
    assert mapper.map(0, {"said": "1", "truth": ""}).label is None
    with pytest.raises(RowError, match=r"^said: "):
        mapper.map(0, {"said": "", "truth": "1"})


@pytest.mark.parametrize(
    ("column", "cell", "words"),
    [("p", "high", "expected a number"), ("at", "noon", "expected a time in ms"), ("release", "", "expected a name")],
)
def test_a_cell_that_cannot_be_used_is_named_with_its_column(column: str, cell: str, words: str) -> None:
    with pytest.raises(RowError, match=f"^{column}: {words}"):
        RowMapper(FULL, texts=True).map(0, CELLS | {column: cell})


def test_features_may_be_chosen_and_objects_give_their_members() -> None:
    chosen = ColumnMapping(model_id="m", prediction="said", features=("inputs", "age"))
    cells = {"said": 1, "inputs": {"a": 1, "b": None}, "age": 30, "other": 5}
    prediction = RowMapper(chosen, texts=False).map(0, cells).prediction
    assert prediction is not None
    assert prediction.features == {"a": 1, "b": None, "age": 30}


def test_a_sign_makes_a_column_and_two_make_the_sign_itself() -> None:
    mapping = ColumnMapping(model_id="@@home", model_version="@v", prediction="said")
    prediction = RowMapper(mapping, texts=True).map(0, {"said": "1", "v": "9"}).prediction
    assert prediction is not None
    assert (prediction.model_id, prediction.model_version) == ("@home", "9")


def test_a_mapping_that_names_a_column_which_is_not_there_says_which_are() -> None:
    with pytest.raises(MappingError, match="no column 'said'; there are key, answer"):
        check_columns(ColumnMapping(model_id="m", prediction="said"), ["key", "answer"])


@pytest.mark.parametrize(("mark", "said"), [(";", "';'"), ("|", "'|'"), (",", "','"), ("\t", "$'\\t'")])
def test_a_header_that_another_delimiter_splits_is_told_with_it(mark: str, said: str) -> None:
    mapping = ColumnMapping(model_id="m", prediction="said")
    with pytest.raises(MappingError) as refused:
        check_columns(mapping, [mark.join(("key", "said", "Größe"))])
    assert str(refused.value).endswith(f": --delimiter {said}")
    with pytest.raises(MappingError) as refused:
        check_columns(mapping, [mark.join(("key", "answer"))])
    assert "--delimiter" not in str(refused.value)


@given(st.datetimes(), st.sampled_from(["T", " "]))
def test_a_text_of_iso_8601_without_its_unit_is_told_as_such(time: dt.datetime, between: str) -> None:
    with pytest.raises(TimeError, match="--time-unit iso"):
        read_time(None, dt.UTC)(time.isoformat(between))


@given(st.integers(0, 253_402_300_799_999))
def test_each_unit_reads_the_same_moment(epoch_ms: int) -> None:
    moment = dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(milliseconds=epoch_ms)
    assert read_time("ms", None)(str(epoch_ms)) == epoch_ms
    assert read_time("us", None)(epoch_ms * 1_000) == epoch_ms
    assert read_time("ns", None)(str(epoch_ms * 1_000_000 + 999_999)) == epoch_ms
    assert read_time("s", None)(epoch_ms // 1_000) == epoch_ms // 1_000 * 1_000
    assert read_time("iso", None)(moment.isoformat()) == epoch_ms
    assert read_time("ns", None)(moment) == epoch_ms
    assert read_time(None, dt.UTC)(moment.replace(tzinfo=None)) == epoch_ms


def test_a_time_without_a_zone_is_refused_unless_one_is_named() -> None:
    naive = dt.datetime(2026, 9, 21, 10)  # noqa: DTZ001  # that is the point
    for unit, cell in (("iso", naive.isoformat()), (None, naive)):
        with pytest.raises(TimeError, match=r"2026-09-21T10:00:00 has no time zone: say which with --time-zone"):
            read_time(unit, None)(cell)
        assert read_time(unit, zone_of("Europe/Berlin"))(cell) == epoch_ms(naive.replace(hour=8, tzinfo=dt.UTC))
        assert read_time(unit, zone_of("UTC"))(cell) == epoch_ms(naive.replace(tzinfo=dt.UTC))
    aware = naive.replace(tzinfo=dt.UTC)
    assert read_time("iso", zone_of("Europe/Berlin"))(aware.isoformat()) == epoch_ms(aware)


@pytest.mark.parametrize(
    ("cell", "name"), [(7, "7"), (7.0, "7"), ("7.0", "7.0"), (7.5, "7.5"), (2.0**60, str(2.0**60))]
)
def test_a_number_is_the_identifier_that_it_is_in_an_event(cell: float | str, name: str) -> None:
    assert as_name(cell) == name


@pytest.mark.parametrize("name", ["Europe/Atlantis", "", "../etc/passwd", "\0"])
def test_a_zone_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(MappingError, match="no such time zone"):
        zone_of(name)


@pytest.mark.parametrize(
    ("number", "unit", "words"),
    [
        (1_790_000_000, "s", "looks like seconds: 1790000000 as milliseconds is 1970-01-21, as seconds 2026-09-21"),
        (1_790_000_000_000_000, "us", "looks like microseconds"),
        (1_790_000_000_000_000_000, "ns", "looks like nanoseconds"),
    ],
)
def test_without_a_unit_a_number_that_looks_like_another_is_refused(number: int, unit: TimeUnit, words: str) -> None:
    for cell in (number, str(number)):
        with pytest.raises(TimeError, match=f"{words}.*--time-unit"):
            read_time(None, None)(cell)
        assert read_time(unit, None)(cell) == 1_790_000_000_000
    assert read_time("ms", None)(number) == number  # whoever says so has it so
    assert [read_time(None, None)(cell) for cell in (0, "1", 2.0, 1_790_000_000_000)] == [0, 1, 2, 1_790_000_000_000]


def test_seconds_with_a_fraction_are_read() -> None:
    assert read_time("s", None)("1735689600.25") == 1_735_689_600_250


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        (float("nan"), None),
        (Decimal("1.5"), 1.5),
        (dt.date(2025, 1, 31), "2025-01-31"),
        ({"a": float("inf"), "b": {"c": True}}, {"a": None, "b": {"c": True}}),
        ([1, 2], [1, 2]),
    ],
)
def test_what_parquet_and_json_hold_becomes_what_an_event_may_hold(cell: Any, expected: Any) -> None:
    assert plain(cell) == expected


def rows_of(*cells: dict[str, Any]) -> list[Row | BadRow]:
    return [Row(line, found) for line, found in enumerate(cells, 2)]


def test_a_row_is_good_as_a_whole_or_bad_with_the_path_that_is_at_fault() -> None:
    mapping = ColumnMapping(model_id="m", prediction="said", label="truth", score="p")
    good = {"said": 1, "truth": 1, "p": 0.5, "x": 1.0}
    rows = rows_of(
        good, good | {"p": 1.5}, good | {"truth": "y" * 2000}, good | {"x": [1]}, good | {"x": "\udcff"}, good
    )
    read = [row for chunk in read_events(iter(rows), RowMapper(mapping, texts=False), chunk_rows=4) for row in chunk]
    assert [row.line for row in read if isinstance(row, GoodRow)] == [2, 7]
    bad = {row.line: row.message for row in read if isinstance(row, BadRow)}
    assert bad[3].startswith("$.score: ")
    assert bad[4].startswith("$.label: ")
    assert bad[5].startswith("$.features.x: ")
    assert bad[6] == "not UTF-8"


@given(st.lists(st.booleans(), max_size=30), st.integers(1, 7), st.none() | st.integers(0, 40))
def test_chunks_change_nothing_and_row_numbers_count_bad_rows_too(
    goods: list[bool], chunk_rows: int, limit: int | None
) -> None:
    rows = [Row(n, {"said": 1}) if good else BadRow(n, "bad") for n, good in enumerate(goods)]
    mapper = RowMapper(ColumnMapping(model_id="m", prediction="said"), texts=False)
    read = [row for chunk in read_events(iter(rows), mapper, limit=limit, chunk_rows=chunk_rows) for row in chunk]
    expected = goods[:limit]
    assert [isinstance(row, GoodRow) for row in read] == expected
    for row in read:
        if isinstance(row, GoodRow):
            assert row.mapped.prediction is not None
            assert row.mapped.prediction.prediction_id == str(row.line)
