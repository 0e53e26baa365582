"""`tidegauge produce`."""

import json
import sys
import time
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from service.eventlog.partitioner import partition_for
from tests.cli.conftest import Cli
from tests.cli.logs import TOPICS, chunk_of, labels_of, predictions_of

COLUMNS = ("--prediction", "said", "--label", "truth")
ROWS = [{"said": n % 2, "truth": (n // 2) % 2, "x": n / 4, "kind": "ab"[n % 2]} for n in range(10)]


def write(tmp_path: Path, form: str) -> Path:
    path = tmp_path / f"rows.{form}"
    if form == "csv":
        lines = [",".join(ROWS[0]), *(",".join(map(str, row.values())) for row in ROWS)]
        path.write_text("\n".join(lines) + "\n")
    elif form == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    else:
        parquet.write_table(pa.Table.from_pylist(ROWS), path)
    return path


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_each_format_gives_the_same_events(cli: Cli, tmp_path: Path, log_file: Path, form: str) -> None:
    result = cli("produce", write(tmp_path, form), "--model-id", "m", *COLUMNS, "--start", "1000", "--log", log_file)
    assert result.exit_code == 0, result.output
    predictions, labels = predictions_of(log_file), labels_of(log_file)
    assert [(p.prediction_id, p.prediction, p.features) for p in predictions] == [
        (str(n), float(row["said"]), {"x": row["x"], "kind": row["kind"]}) for n, row in enumerate(ROWS)
    ]
    assert [p.event_time_ms for p in predictions] == [1000 + 1000 * n for n in range(10)]
    assert [(label.prediction_id, label.label) for label in labels] == [
        (str(n), float(row["truth"])) for n, row in enumerate(ROWS)
    ]


def test_the_summary_is_json_for_programs(cli: Cli, tmp_path: Path, log_file: Path) -> None:
    result = cli("produce", write(tmp_path, "csv"), "--model-id", "m", *COLUMNS, "--log", log_file, "--json")
    summary = json.loads(result.stdout)
    assert (summary["rows"], summary["predictions"], summary["labels"], summary["bad_rows"]) == (10, 10, 10, 0)


def test_labels_that_are_delayed_by_events_carry_the_time_at_which_they_come(
    cli: Cli, tmp_path: Path, log_file: Path
) -> None:
    delay = ("--label-delay-events", "3", "--start", "0", "--step-ms", "10")
    cli("produce", write(tmp_path, "csv"), "--model-id", "m", *COLUMNS, *delay, "--log", log_file)
    assert [label.event_time_ms for label in labels_of(log_file)] == [30 + 10 * n for n in range(10)]


def test_labels_that_are_delayed_by_time_carry_that_delay(cli: Cli, tmp_path: Path, log_file: Path) -> None:
    delay = ("--label-delay-ms", "25", "--start", "0", "--step-ms", "10")
    cli("produce", write(tmp_path, "csv"), "--model-id", "m", *COLUMNS, *delay, "--log", log_file)
    assert [label.event_time_ms for label in labels_of(log_file)] == [25 + 10 * n for n in range(10)]


def test_event_times_that_are_made_up_end_just_before_now_and_the_log_stamps_the_moment_of_writing(
    cli: Cli, tmp_path: Path, log_file: Path
) -> None:
    before_ms = time.time_ns() // 1_000_000
    delay = ("--label-delay-events", "4")
    cli("produce", write(tmp_path, "csv"), "--model-id", "m", *COLUMNS, *delay, "--log", log_file)
    last_ms = labels_of(log_file)[-1].event_time_ms
    assert before_ms - 10_000 < last_ms <= before_ms
    chunk = chunk_of(log_file, TOPICS.predictions)
    assert chunk is not None
    assert min(chunk.timestamps_ms) >= before_ms


def test_times_of_a_column_are_kept_and_those_ahead_of_the_clock_are_told(
    cli: Cli, tmp_path: Path, log_file: Path
) -> None:
    path = tmp_path / "a.csv"
    path.write_text("at,said\n2025-01-31T09:30:00Z,1\n2999-01-01T00:00:00+01:00,1\n")
    result = cli(
        *("produce", path, "--model-id", "m", "--prediction", "said"),
        *("--time", "at", "--time-unit", "iso", "--log", log_file),
    )
    assert [p.event_time_ms for p in predictions_of(log_file)] == [1_738_315_800_000, 32_472_140_400_000]
    assert "1 events lie so far ahead of the clock" in result.stderr


def test_times_without_a_zone_are_refused_unless_one_is_named(cli: Cli, tmp_path: Path, log_file: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("at,said\n2026-09-21T10:00:00,1\n")
    words = ("produce", path, "--model-id", "m", "--prediction", "said", "--time", "at", "--time-unit", "iso")
    refused = cli(*words, "--log", log_file)
    assert refused.exit_code == 2
    assert "a.csv:2: at: 2026-09-21T10:00:00 has no time zone: say which with --time-zone" in refused.stderr
    assert cli(*words, "--time-zone", "Europe/Berlin", "--log", log_file).exit_code == 0
    assert [p.event_time_ms for p in predictions_of(log_file)] == [1_789_977_600_000]
    wrong = cli(*words, "--time-zone", "Berlin", "--log", log_file)
    assert (wrong.exit_code, "--time-zone Berlin: no such time zone" in wrong.stderr) == (2, True)
    start = cli(*words[:6], "--start", "2026-09-21T10:00", "--log", log_file)
    assert (start.exit_code, "--start 2026-09-21T10:00:00 has no time zone" in start.stderr) == (2, True)


def test_seconds_in_a_column_of_which_nothing_is_said_are_refused_with_the_unit(
    cli: Cli, tmp_path: Path, log_file: Path
) -> None:
    path = tmp_path / "a.csv"
    path.write_text("at,said\n1790000000,1\n")
    words = ("produce", path, "--model-id", "m", "--prediction", "said", "--time", "at", "--log", log_file)
    assert "at: looks like seconds: 1790000000 as milliseconds is 1970-01-21" in cli(*words).stderr
    assert cli(*words, "--time-unit", "s").exit_code == 0


def test_records_are_keyed_by_model_and_lie_in_kafkas_partition_of_the_key(
    cli: Cli, tmp_path: Path, log_file: Path
) -> None:
    config, rows = tmp_path / "config.yaml", tmp_path / "a.csv"
    config.write_text("topics: {partitions: 5}\n")
    rows.write_text("model,said\n" + "".join(f"m{n},1\n" for n in range(20)))
    common = ("--prediction", "said", "--config", config, "--log", log_file)
    assert cli("produce", rows, "--model-id", "@model", *common).exit_code == 0
    for partition in range(5):
        chunk = chunk_of(log_file, TOPICS.predictions, partition)
        keys = [f"m{n}".encode() for n in range(20) if partition_for(f"m{n}".encode(), 5) == partition]
        assert (chunk.keys if chunk is not None else []) == keys


def test_bad_rows_are_named_and_counted_and_the_good_ones_are_written(cli: Cli, tmp_path: Path, log_file: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("said,p\n1,0.5\n1,1.5\n1\n,0.5\n1,0.25\n")
    words = ("produce", path, "--model-id", "m", "--prediction", "said", "--score", "p", "--log", log_file)
    result = cli(*words, "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["bad_rows"] == 3
    assert [line.split(": ")[0] for line in result.stderr.splitlines()] == [f"{path}:{n}" for n in (3, 4, 5)]
    assert "$.score" in result.stderr
    assert [p.prediction_id for p in predictions_of(log_file)] == ["0", "4"]


def test_strict_stops_at_the_first_bad_row(cli: Cli, tmp_path: Path, log_file: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('said\n1\n""\n1\n')
    result = cli("produce", path, "--model-id", "m", "--prediction", "said", "--log", log_file, "--strict")
    assert result.exit_code == 2
    assert result.stderr.startswith(f"tidegauge: {path}:3: said: expected a prediction")


def test_only_one_of_the_topics_is_written_where_that_is_asked_for(cli: Cli, tmp_path: Path, log_file: Path) -> None:
    path = write(tmp_path, "csv")
    cli("produce", path, "--model-id", "m", *COLUMNS, "--only", "predictions", "--log", log_file)
    assert (len(predictions_of(log_file)), len(labels_of(log_file))) == (10, 0)
    cli("produce", path, "--model-id", "m", "--label", "truth", "--only", "labels", "--limit", "4", "--log", log_file)
    assert (len(predictions_of(log_file)), len(labels_of(log_file))) == (10, 4)


def test_a_rate_is_held(cli: Cli, tmp_path: Path, log_file: Path) -> None:
    began = time.monotonic()
    cli("produce", write(tmp_path, "csv"), "--model-id", "m", *COLUMNS, "--rate", "100", "--log", log_file)
    # 20 events; the last batch of 5 is not waited for.
    assert time.monotonic() - began >= 0.15
    assert len(labels_of(log_file)) == 10


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--prediction", "answer"), "no column 'answer'; there are said, truth, x, kind"),
        ((), "--prediction COLUMN is needed"),
        (("--only", "labels"), "--only labels needs --label COLUMN"),
        ((*COLUMNS, "--start", "tomorrow"), "--start tomorrow: expected ISO 8601"),
        ((*COLUMNS, "--label-delay-events", "1", "--label-delay-ms", "1"), "exclude each other"),
        ((*COLUMNS, "--delimiter", "ab"), "expected one character"),
        ((*COLUMNS, "--bootstrap", "127.0.0.1:1"), "--bootstrap and --log exclude each other"),
        ((*COLUMNS, "--config", "none.yaml"), "none.yaml: No such file"),
        (("--prediction", "x", "--score", "kind"), "none of its 10 rows could be used"),
    ],
)
def test_a_mistake_is_one_clear_line_and_exit_code_2(
    cli: Cli, tmp_path: Path, log_file: Path, words: tuple[str, ...], message: str
) -> None:
    result = cli("produce", write(tmp_path, "csv"), "--model-id", "m", *words, "--log", log_file)
    assert result.exit_code == 2
    assert message in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.output


def test_a_missing_file_is_named(cli: Cli, tmp_path: Path, log_file: Path) -> None:
    result = cli("produce", tmp_path / "no.csv", "--model-id", "m", *COLUMNS, "--log", log_file)
    assert (result.exit_code, "no.csv: No such file" in result.stderr) == (2, True)


def test_without_pyarrow_parquet_is_refused_with_the_extra_that_helps(
    cli: Cli, tmp_path: Path, log_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, "parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    result = cli("produce", path, "--model-id", "m", *COLUMNS, "--log", log_file)
    assert result.exit_code == 2
    assert "install tidegauge[parquet]" in result.stderr


def test_a_broker_that_is_not_there_is_one_clear_line(cli: Cli, tmp_path: Path) -> None:
    result = cli("produce", write(tmp_path, "csv"), "--model-id", "m", *COLUMNS, "--bootstrap", "127.0.0.1:9")
    assert result.exit_code == 2
    assert result.stderr.startswith("tidegauge: ")
    assert "Traceback" not in result.output
