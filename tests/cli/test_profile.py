"""`tidegauge profile`: a whole file, or a range of the topics, is one reference window."""

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pytest
from pyarrow import parquet

from schemas.events import ResetMonitor
from service.eventlog.protocol import NewRecord
from service.eventlog.sqlite import SqliteLog
from service.replay.events import encode_input
from tests.cli.conftest import Cli
from tests.cli.logs import TOPICS, predictions_of, with_log

COUNT = 400
COLUMNS = ("--model-id", "m", "--prediction", "said", "--label", "truth", "--score", "score")
MAPPED = (*COLUMNS, "--prediction-id", "key")


def rows(count: int = COUNT, *, seed: int = 1, shift: float = 0.0) -> list[dict[str, Any]]:
    """Rows of a classifier: a number, one with few values, categories, and values that are missing."""
    rng = np.random.default_rng(seed)
    made = []
    for n in range(count):
        score = float(rng.random())
        truth = "yes" if rng.random() < score else "no"
        x = float(rng.normal(shift))
        row = {"key": f"{seed}-{n}", "x": x, "few": float(n % 3), "kind": "aab"[n % 3], "score": score}
        row |= {"said": "yes" if score > 0.5 else "no", "truth": None if n % 10 == 4 else truth}
        made.append(row | {"x": None if n % 40 == 7 else x})
    return made


def write(path: Path, made: Sequence[dict[str, Any]]) -> Path:
    if path.suffix == ".csv":
        lines = [",".join(made[0]), *(",".join("" if v is None else str(v) for v in row.values()) for row in made)]
        path.write_text("\n".join(lines) + "\n")
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in made))
    else:
        parquet.write_table(pa.Table.from_pylist(list(made)), path)
    return path


@pytest.fixture
def train(tmp_path: Path) -> Path:
    return write(tmp_path / "train.csv", rows())


def build(cli: Cli, out: Path, *words: str | Path) -> dict[str, Any]:
    result = cli("profile", "build", *words, "--out", out, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def shown(cli: Cli, out: Path) -> dict[str, Any]:
    result = cli("profile", "show", out, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


# What is in it --------------------------------------------------------------------------------------------------------


def test_a_whole_file_is_one_window(cli: Cli, tmp_path: Path, train: Path) -> None:
    summary = build(cli, tmp_path / "p.json", train, *MAPPED)
    labelled = sum(row["truth"] is not None for row in rows())
    counts = {name: summary[name] for name in ("features", "events", "predictions", "labels", "losses")}
    assert counts == {"features": 3, "events": COUNT, "predictions": COUNT, "labels": labelled, "losses": labelled}
    assert (summary["for_version"], summary["left_out"], summary["bad_rows"]) == (None, {}, 0)
    assert summary["bytes"] == (tmp_path / "p.json").stat().st_size


def test_what_is_shown_is_what_numpy_says_of_the_rows(cli: Cli, tmp_path: Path, train: Path) -> None:
    build(cli, tmp_path / "p.json", train, *MAPPED)
    told = shown(cli, tmp_path / "p.json")
    features = {feature["name"]: feature for feature in told["features"]}
    x = np.array([row["x"] for row in rows() if row["x"] is not None])
    assert (features["x"]["count"], features["x"]["missing"]) == (len(x), COUNT - len(x))
    assert features["x"]["min"] == pytest.approx(x.min())
    assert features["x"]["max"] == pytest.approx(x.max())
    assert features["x"]["mean"] == pytest.approx(x.mean())
    assert features["x"]["std"] == pytest.approx(x.std())
    for name, value in features["x"]["quantiles"].items():
        exact = np.quantile(x, float(name[1:]) / 100, method="inverted_cdf")
        assert (x <= value).sum() == pytest.approx((x <= exact).sum(), abs=1)
    assert features["few"]["quantiles"] == {"p5": 0.0, "p25": 0.0, "p50": 1.0, "p75": 2.0, "p95": 2.0}
    assert features["kind"]["shares"] == pytest.approx({"a": 267 / COUNT, "b": 133 / COUNT})


def test_predictions_labels_and_loss_are_those_of_the_rows(cli: Cli, tmp_path: Path, train: Path) -> None:
    build(cli, tmp_path / "p.json", train, *MAPPED)
    told, made = shown(cli, tmp_path / "p.json"), rows()
    labelled = [row for row in made if row["truth"] is not None]
    yes = sum(row["said"] == "yes" for row in made) / COUNT
    assert told["predictions"]["shares"] == pytest.approx({"yes": yes, "no": 1 - yes})
    true = sum(row["truth"] == "yes" for row in labelled) / len(labelled)
    assert told["labels"]["shares"] == pytest.approx({"yes": true, "no": 1 - true})
    assert told["loss"]["count"] == len(labelled)
    assert told["loss"]["mean"] == pytest.approx(np.mean([row["said"] != row["truth"] for row in labelled]))
    assert told["scores"]["mean"] == pytest.approx(np.mean([row["score"] for row in made]))


def test_a_regression_has_numbers_for_predictions_and_a_cap_on_its_loss(cli: Cli, tmp_path: Path) -> None:
    made = [{"x": n / 8, "said": n + 0.5, "truth": n + 0.25 * (n % 5)} for n in range(200)]
    build(cli, tmp_path / "p.json", write(tmp_path / "r.csv", made), *COLUMNS[:6])
    told = shown(cli, tmp_path / "p.json")
    assert (told["classes"], told["predictions"]["min"], told["predictions"]["max"]) == ([], 0.5, 199.5)
    assert told["loss"]["mean"] == pytest.approx(np.mean([abs(row["said"] - row["truth"]) for row in made]))
    assert told["loss"]["cap"] == 0.5
    assert told["scores"] is None


@pytest.mark.parametrize("form", ["csv.gz", "jsonl", "parquet"])
def test_the_same_rows_give_the_same_bytes_whatever_the_file(cli: Cli, tmp_path: Path, train: Path, form: str) -> None:
    import gzip

    other = tmp_path / f"train.{form}"
    if form == "csv.gz":
        other.write_bytes(gzip.compress(train.read_bytes()))
    else:
        write(other, rows())
    build(cli, tmp_path / "first.json", train, *MAPPED)
    build(cli, tmp_path / "second.json", other, *MAPPED)
    assert (tmp_path / "first.json").read_bytes() == (tmp_path / "second.json").read_bytes()


def test_the_time_of_a_row_is_no_feature_and_changes_nothing(cli: Cli, tmp_path: Path) -> None:
    made = rows()
    for n, row in enumerate(made):
        row["at"] = 1_700_000_000_000 - n * 86_400_000
    file = write(tmp_path / "timed.csv", made)
    summary = build(cli, tmp_path / "timed.json", file, *MAPPED, "--time", "at")
    build(cli, tmp_path / "plain.json", write(tmp_path / "plain.csv", rows()), *MAPPED)
    assert summary["features"] == 3
    assert (tmp_path / "timed.json").read_bytes() == (tmp_path / "plain.json").read_bytes()


def test_a_column_that_is_no_feature_is_shown_as_left_out(cli: Cli, tmp_path: Path) -> None:
    plain = build(cli, tmp_path / "plain.json", write(tmp_path / "plain.csv", rows()), *MAPPED)
    numbered = [row | {"Unnamed: 0": number} for number, row in enumerate(rows())]
    summary = build(cli, tmp_path / "p.json", write(tmp_path / "numbered.csv", numbered), *MAPPED)
    assert summary["features"] == plain["features"]
    told = {feature["name"]: feature["kind"] for feature in shown(cli, tmp_path / "p.json")["features"]}
    assert told["Unnamed: 0"] == "left out"
    assert "left out" in cli("profile", "show", tmp_path / "p.json").stdout


def test_a_limit_is_as_if_the_file_ended_there(cli: Cli, tmp_path: Path, train: Path) -> None:
    build(cli, tmp_path / "limited.json", train, *MAPPED, "--limit", "150")
    build(cli, tmp_path / "short.json", write(tmp_path / "short.csv", rows()[:150]), *MAPPED)
    assert (tmp_path / "limited.json").read_bytes() == (tmp_path / "short.json").read_bytes()


def test_a_file_without_predictions_gives_features_and_labels(cli: Cli, tmp_path: Path) -> None:
    made = [{"x": row["x"], "truth": row["truth"]} for row in rows() if row["truth"] is not None]
    file = write(tmp_path / "t.csv", made)
    summary = build(cli, tmp_path / "p.json", file, "--model-id", "m", "--label", "truth")
    assert (summary["events"], summary["labels"]) == (len(made), len(made))
    assert (summary["predictions"], summary["losses"]) == (0, 0)
    text = cli("profile", "show", tmp_path / "p.json").stdout
    assert "not in it, so learnt from the first events: predictions, loss" in text


def test_parts_with_too_few_events_are_left_out_and_named(cli: Cli, tmp_path: Path) -> None:
    made = [row | {"truth": row["truth"] if n < 50 else None} for n, row in enumerate(rows())]
    summary = build(cli, tmp_path / "p.json", write(tmp_path / "t.csv", made), *MAPPED)
    assert summary["left_out"] == {"labels": 45}
    assert (summary["labels"], summary["losses"]) == (0, 45)


# Topics ---------------------------------------------------------------------------------------------------------------


def test_a_file_and_the_topics_that_it_was_written_to_give_the_same_bytes(
    cli: Cli, tmp_path: Path, train: Path, log_file: Path
) -> None:
    delayed = ("--label-delay-events", "37", "--log", log_file)
    assert cli("produce", train, *MAPPED, *delayed).exit_code == 0
    build(cli, tmp_path / "file.json", train, *MAPPED)
    build(cli, tmp_path / "topics.json", "--topics", "--log", log_file)
    assert (tmp_path / "file.json").read_bytes() == (tmp_path / "topics.json").read_bytes()


def test_a_range_is_named_by_offsets_or_by_the_time_of_writing(cli: Cli, tmp_path: Path, log_file: Path) -> None:
    first, second = write(tmp_path / "a.csv", rows(200)), write(tmp_path / "b.csv", rows(150, seed=2))
    assert cli("produce", first, *MAPPED, "--log", log_file).exit_code == 0
    time.sleep(0.01)
    between = str(time.time_ns() // 1_000_000)
    time.sleep(0.01)
    assert cli("produce", second, *MAPPED, "--log", log_file).exit_code == 0
    build(cli, tmp_path / "first.json", first, *MAPPED)
    build(cli, tmp_path / "before.json", "--topics", "--log", log_file, "--to", between)
    assert (tmp_path / "before.json").read_bytes() == (tmp_path / "first.json").read_bytes()
    assert build(cli, tmp_path / "after.json", "--topics", "--log", log_file, "--from", between)["events"] == 150
    labelled = build(cli, tmp_path / "first.json", first, *MAPPED)["labels"]
    partition = partition_of(log_file)
    offsets = [f"offsets:{partition}=0/0/0", f"offsets:{partition}=0/200/{labelled}"]
    offsets = [text + "".join(f";{n}=0/0/0" for n in range(32) if n != partition) for text in offsets]
    build(cli, tmp_path / "offsets.json", "--topics", "--log", log_file, "--from", offsets[0], "--to", offsets[1])
    assert (tmp_path / "offsets.json").read_bytes() == (tmp_path / "first.json").read_bytes()


def partition_of(log_file: Path) -> int:
    async def find(log: SqliteLog) -> int:
        counts = await log.partitions([TOPICS.predictions])
        return counts[TOPICS.predictions]

    from service.eventlog.partitioner import partition_for

    return partition_for(b"m", with_log(log_file, find))


def test_a_reset_in_the_range_does_not_cut_the_window_short(
    cli: Cli, tmp_path: Path, train: Path, log_file: Path
) -> None:
    assert cli("produce", train, *MAPPED, "--start", "1000", "--step-ms", "10", "--log", log_file).exit_code == 0
    reset = encode_input(ResetMonitor(model_id="m", event_time_ms=3000))

    async def write_reset(log: SqliteLog) -> None:
        appender = await log.appender()
        await appender.append([NewRecord(TOPICS.control, partition, b"m", reset)])
        await appender.close()

    partition = partition_of(log_file)
    with_log(log_file, write_reset)
    assert build(cli, tmp_path / "p.json", "--topics", "--log", log_file)["events"] == COUNT


@pytest.fixture
def two_versions(cli: Cli, tmp_path: Path, log_file: Path) -> Iterator[Path]:
    for version in ("1", "2"):
        file = write(tmp_path / f"v{version}.csv", rows(200, seed=int(version)))
        assert cli("produce", file, *MAPPED, "--model-version", version, "--log", log_file).exit_code == 0
    yield log_file
    assert {event.model_version for event in predictions_of(log_file)} <= {"1", "2"}


def test_of_several_versions_one_must_be_chosen_and_the_window_is_for_it_alone(
    cli: Cli, tmp_path: Path, two_versions: Path
) -> None:
    result = cli("profile", "build", "--topics", "--log", two_versions, "--out", tmp_path / "p.json")
    assert result.exit_code == 2
    assert "there are m version 1, m version 2: choose one" in result.stderr
    chosen = ("--topics", "--log", two_versions, "--model-version", "2")
    assert build(cli, tmp_path / "p.json", *chosen)["for_version"] == "2"
    build(cli, tmp_path / "file.json", tmp_path / "v2.csv", *MAPPED, "--model-version", "2")
    # Class codes count from the model's first value, which here was version 1's.
    assert shown(cli, tmp_path / "p.json") | {"classes": []} == shown(cli, tmp_path / "file.json") | {"classes": []}
    assert build(cli, tmp_path / "p.json", *chosen, "--any-version")["for_version"] is None


# Errors ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "expected a FILE or --topics"),
        (["FILE", "--topics"], "expected a FILE or --topics"),
        (["FILE", "--model-id", "m"], "--prediction COLUMN, or at least --label COLUMN"),
        (["FILE", "--label", "truth"], "a file needs --model-id"),
        (["FILE", *COLUMNS, "--any-version"], "--any-version goes with --model-version"),
        (["FILE", "--model-id", "m", "--prediction", "nosuch"], "no column 'nosuch'"),
        (["FILE", "--model-id", "@kind", "--prediction", "said"], "there are a version 1, b version 1: choose one"),
        (["--topics", "--label", "truth"], "--label says how a FILE is read"),
        (["--topics", "--format", "csv"], "--format says how a FILE is read"),
        (["--topics", "--log", "nosuch.sqlite"], "no such log"),
        (["FILE", *COLUMNS, "--out", "nosuch/p.json"], "there is no such folder"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(
    cli: Cli, tmp_path: Path, train: Path, words: list[str], told: str
) -> None:
    given = [str(train) if word == "FILE" else word for word in words]
    result = cli("profile", "build", "--out", tmp_path / "p.json", *given)
    assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)
    assert told in result.stderr
    assert not (tmp_path / "p.json").exists()


def test_a_model_that_is_not_in_the_range_is_named(cli: Cli, tmp_path: Path, train: Path, log_file: Path) -> None:
    cli("produce", train, *MAPPED, "--log", log_file)
    words = ("--topics", "--log", log_file, "--model-id", "other", "--model-version", "7")
    result = cli("profile", "build", *words, "--out", tmp_path / "p.json")
    assert "there is no usable prediction of model other, version 7" in result.stderr


def test_a_file_that_is_too_short_makes_no_window(cli: Cli, tmp_path: Path) -> None:
    file = write(tmp_path / "short.csv", rows(99))
    result = cli("profile", "build", file, *MAPPED, "--out", tmp_path / "p.json")
    assert (result.exit_code, "needs 100 events at least, and there are 99" in result.stderr) == (2, True)


def test_bad_rows_are_named_and_counted_and_the_rest_is_used(cli: Cli, tmp_path: Path) -> None:
    made = [row | {"said": None} if n in (3, 8) else row for n, row in enumerate(rows())]
    file = write(tmp_path / "t.csv", made)
    result = cli("profile", "build", file, *MAPPED, "--out", tmp_path / "p.json")
    assert result.exit_code == 0
    assert f"{file}:5: said: expected a prediction" in result.stderr
    assert "2 rows of the file could not be used" in result.stderr
    assert f"of {COUNT - 2} events" in result.stdout


def test_ids_that_come_twice_are_left_out_and_counted(cli: Cli, tmp_path: Path) -> None:
    file = write(tmp_path / "t.csv", [*rows(), *rows(10)])
    result = cli("profile", "build", file, *MAPPED, "--out", tmp_path / "p.json")
    assert "10 predictions had an id that came before" in result.stderr


# Show -----------------------------------------------------------------------------------------------------------------


def test_a_person_sees_a_line_for_each_feature(cli: Cli, tmp_path: Path, train: Path) -> None:
    build(cli, tmp_path / "p.json", train, *MAPPED, "--model-version", "7")
    lines = cli("profile", "show", tmp_path / "p.json").stdout.splitlines()
    assert lines[0] == "m"
    assert lines[1].startswith(f"3 features of {COUNT} events")
    assert lines[1].endswith("for version 7")
    by_name = {line.split()[0]: line for line in lines[2:]}
    assert "2.5%" in by_name["x"]
    assert "a 66.8%, b 33.2%" in by_name["kind"]
    assert "yes" in by_name["predictions:"]
    assert by_name["loss:"].startswith("loss: 360 outcomes, mean 0.")


def test_names_cannot_make_a_terminal_lie(cli: Cli, tmp_path: Path) -> None:
    made = [{"x\x1b[31m": n, "said": "a\x1b[2J"} for n in range(120)]
    words = ("--model-id", "m\x07", "--prediction", "said")
    build(cli, tmp_path / "p.json", write(tmp_path / "t.jsonl", made), *words)
    assert not set("\x1b\x07") & set(cli("profile", "show", tmp_path / "p.json").stdout)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, "No such file"),
        ("{", "not JSON"),
        ("[]", "expected an object with a version"),
        ('{"version": 9}', "newer program"),
        ('{"version": 1, "model_id": "m", "classes": [3]}', "$.classes[0]"),
    ],
)
def test_a_file_that_is_no_profile_is_refused(cli: Cli, tmp_path: Path, text: str | None, told: str) -> None:
    if text is not None:
        (tmp_path / "p.json").write_text(text)
    result = cli("profile", "show", tmp_path / "p.json")
    assert (result.exit_code, told in result.stderr) == (2, True)


# Use ------------------------------------------------------------------------------------------------------------------


def test_a_model_with_a_profile_is_judged_from_its_first_event_on(cli: Cli, tmp_path: Path) -> None:
    build(cli, tmp_path / "m.json", write(tmp_path / "train.csv", rows(2000)), *MAPPED)
    config = tmp_path / "tidegauge.yaml"
    config.write_text("core: {models: {m: {reference: {path: m.json}}}}\n")
    for name, shift in (("same", 0.0), ("moved", 1.0)):
        file = write(tmp_path / f"{name}.csv", rows(800, seed=3, shift=shift))
        result = cli("replay", file, *MAPPED, "--config", config, "--out", tmp_path / name)
        assert result.exit_code == 0, result.output
        alerts = [orjson.loads(line) for line in (tmp_path / name / "alerts.jsonl").read_bytes().splitlines()]
        fired = [alert["kind"] for alert in alerts if alert["state"] == "firing"]
        assert fired == ([] if name == "same" else ["data_drift"])
