"""The commands replay, backtest, sweep and diff, as a person or a program calls them."""

from pathlib import Path

import orjson
import pytest
import yaml
from typer.testing import CliRunner, Result

from service.cli.commands import app
from service.cli.errors import UsageError
from service.cli.sweep_plan import SweepPlan, variants
from service.config import Config
from tests.replay.live import contents
from tests.replay.test_replay import write_csv

MAPPING = ["--model-id", "m", "--prediction", "said", "--label", "truth", "--time", "at", "--label-delay-events", "20"]


def call(*arguments: object, expect: int = 0) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == expect, result.output + str(result.exception)
    return result


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rows") / "rows.csv"
    write_csv(path, 2400)
    return path


def test_a_file_is_replayed_twice_to_the_same_directory_of_files(rows: Path, tmp_path: Path) -> None:
    for name in "ab":
        told = call("replay", rows, *MAPPING, "--out", tmp_path / name, "--json")
        summary = orjson.loads(told.stdout)
        assert summary["records"] == 2 * 2399
        assert summary["bad_rows"] == 1
        assert "rows.csv:6: " in told.stderr
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert (tmp_path / "a" / "run.json").read_bytes() == (tmp_path / "b" / "run.json").read_bytes()
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [
        "alerts.jsonl",
        "dead_letters.jsonl",
        "metrics.jsonl",
        "run.json",
        "triggers.jsonl",
    ]
    assert call("diff", tmp_path / "a", tmp_path / "b").stdout.endswith("0 changed, 0 gone, 0 new\n")


def test_a_directory_is_not_written_twice_and_a_finished_run_is_resumed_at_no_cost(rows: Path, tmp_path: Path) -> None:
    call("replay", rows, *MAPPING, "--out", tmp_path / "a")
    again = call("replay", rows, *MAPPING, "--out", tmp_path / "a", expect=2)
    assert "holds a run already" in again.stderr
    call("replay", rows, *MAPPING, "--out", tmp_path / "a", "--resume")
    other = call("replay", rows, *MAPPING, "--limit", 10, "--out", tmp_path / "a", "--resume", expect=2)
    assert "another configuration or source" in other.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--out", "x", "--to-topics", "y"], "exclude each other"),
        (["--resume"], "--resume needs"),
        (["--published"], "--published writes"),
        (["--verify", "--out", "x"], "no FILE"),
        (["--model-id", "m"], "--prediction COLUMN"),
    ],
)
def test_contradictions_are_one_line_and_exit_code_2(rows: Path, options: list[str], said: str) -> None:
    result = call("replay", rows, *options, expect=2)
    assert said in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_range_that_cannot_be_verified_is_refused_before_it_is_replayed(tmp_path: Path) -> None:
    result = call("replay", "--verify", "--out", tmp_path / "out", "--from", "earliest", expect=2)
    assert "must be recorded" in result.stderr
    assert not (tmp_path / "out").exists()


def test_without_a_target_a_replay_is_printed(rows: Path) -> None:
    printed = call("replay", rows, *MAPPING)
    assert "ALERT" in printed.stdout
    lines = [orjson.loads(line) for line in call("replay", rows, *MAPPING, "--json").stdout.splitlines()]
    assert {line["type"] for line in lines} >= {"Alert", "MetricSnapshot"}


@pytest.mark.slow
def test_topics_are_replayed_by_processes_into_files_and_by_one_into_topics(rows: Path, tmp_path: Path) -> None:
    config = tmp_path / "two.yaml"
    config.write_text(
        yaml.safe_dump({"topics": {"partitions": 2}, "log": {"sqlite": {"path": f"{tmp_path}/log.sqlite"}}})
    )
    for model in ("m", "other"):
        call("produce", rows, *MAPPING, "--model-id", model, "-c", config)
    summary = orjson.loads(call("replay", "-c", config, "--out", tmp_path / "two", "--jobs", 2, "--json").stdout)
    call("replay", "-c", config, "--out", tmp_path / "one", "--jobs", 1)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert len(summary["ranges"]) == 2
    counted = orjson.loads(call("replay", "-c", config, "--to-topics", "past", "--json").stdout)
    assert counted["outputs"] == summary["outputs"]
    assert "exists; name another prefix" in call("replay", "-c", config, "--to-topics", "past", expect=2).stderr
    assert "live service" in call("replay", "-c", config, "--to-topics", "tidegauge", expect=2).stderr
    resumed = orjson.loads(call("replay", "-c", config, "--to-topics", "past", "--resume", "--json").stdout)
    assert resumed["outputs"] == summary["outputs"]


def test_a_log_that_is_not_there_is_said_and_not_made(tmp_path: Path) -> None:
    result = call("replay", "--log", tmp_path / "none.sqlite", expect=2)
    assert "no such log" in result.stderr
    assert not (tmp_path / "none.sqlite").exists()


# Backtest, sweep, diff ------------------------------------------------------------------------------------------------


def test_a_backtest_tells_people_and_programs_the_same(rows: Path, tmp_path: Path) -> None:
    options = [rows, *MAPPING, "--drift-at", 1200, "--tolerance-events", 400]
    report = tmp_path / "report.html"
    told = orjson.loads(call("backtest", *options, "--json", "--report", report).stdout)
    (model,) = told["models"]
    own = model["tallies"][0]
    assert (own["policy"], own["detected"], own["missed"]) == ("monitor", 1, 0)
    assert 0 < model["detections"][0]["delay_events"] < 400
    assert [tally["policy"] for tally in model["tallies"]] == ["monitor", "always", "never", "schedule"]
    printed = call("backtest", *options).stdout
    assert "drift at 1,200" in printed
    assert "monitor" in printed
    assert report.read_text().startswith("<!doctype html>")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--drift-at", "noon"], "number of an event"),
        (["--incident", "5"], "FROM..TO"),
        (["--no-drift", "--drift-at", "5"], "excludes"),
        (["--tolerance-events", "5"], "needs"),
    ],
)
def test_a_truth_that_makes_no_sense_is_refused(rows: Path, options: list[str], said: str) -> None:
    assert said in call("backtest", rows, *MAPPING, *options, expect=2).stderr


def test_the_winner_of_a_sweep_is_a_configuration_that_gives_what_the_sweep_said(rows: Path, tmp_path: Path) -> None:
    plan, winner = tmp_path / "plan.yaml", tmp_path / "winner.yaml"
    base = tmp_path / "base.yaml"
    base.write_text("core:\n  default:\n    fine_tune: {min_labels: 60}\n")
    plan.write_text(
        "objective: [missed, delay_events]\n"
        "grid:\n"
        "  core.default.concept_drift.reference_outcomes: [200, 800]\n"
        "  core.default.concept_drift.detectors.0.name: [e_sr, e_cusum]\n"
        "list:\n"
        "- {name: none, set: {core.default.feature_drift.enabled: false}}\n"
    )
    options = [rows, *MAPPING, "--drift-at", 1200, "-c", base]
    sweep = ["sweep", *options, "--plan", plan, "--json"]
    one = orjson.loads(call(*sweep, "--jobs", 1, "--winner", winner).stdout)
    assert len(one["configurations"]) == 5
    best = one["configurations"][0]
    assert winner.read_text().startswith("# The best of 5 configurations by missed, delay_events: ")
    raw = yaml.safe_load(winner.read_text())
    assert raw["core"]["default"]["fine_tune"] == {"min_labels": 60}
    told = orjson.loads(call("backtest", rows, *MAPPING, "--drift-at", 1200, "-c", winner, "--json").stdout)
    (model,) = told["models"]
    own = model["tallies"][0]
    assert own["false_alarms"] == best["false_alarms"]
    assert own["mean_delay_events"] == best["delay_events"]
    assert own["cost"]["fine_tunes"] == best["fine_tunes"]


@pytest.mark.slow
def test_a_sweep_finds_the_same_in_however_many_processes(rows: Path, tmp_path: Path) -> None:
    plan = tmp_path / "plan.yaml"
    plan.write_text("grid: {core.default.concept_drift.reference_outcomes: [200, 400, 800]}\n")
    sweep = ["sweep", rows, *MAPPING, "--drift-at", 1200, "--plan", plan, "--json"]
    one, two = (orjson.loads(call(*sweep, "--jobs", jobs).stdout) for jobs in (1, 2))
    assert one["configurations"] == two["configurations"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"log.carrier": "kafka"}, r"varies core\.\* alone"),
        ({"core.default.nothing": 1}, "unknown field"),
        ({"core.default.concept_drift.detectors.9": {}}, "a list of 4"),
        ({"core.tick_ms.x": 1}, "no group of settings"),
    ],
)
def test_a_change_that_cannot_be_made_is_named(changes: dict[str, object], said: str) -> None:
    plan = SweepPlan(grid={path: [value] for path, value in changes.items()})
    with pytest.raises(UsageError, match=said):
        variants(plan, {"core": {"tick_ms": 5}}, Config(core=Config().core.__class__(tick_ms=5)))


def test_an_objective_that_is_not_measured_is_refused(rows: Path, tmp_path: Path) -> None:
    plan = tmp_path / "plan.yaml"
    plan.write_text("grid: {core.tick_ms: [1000, 2000]}\n")
    for objective, said in (("beauty", "expected one of"), ("missed", "needs the truth")):
        result = call("sweep", rows, *MAPPING, "--plan", plan, "--objective", objective, expect=2)
        assert said in result.stderr


def test_diff_says_what_changed_and_exits_like_diff(rows: Path, tmp_path: Path) -> None:
    slow = tmp_path / "slow.yaml"
    slow.write_text("core: {default: {concept_drift: {reference_outcomes: 900}}}\n")
    call("replay", rows, *MAPPING, "--out", tmp_path / "a")
    call("replay", rows, *MAPPING, "-c", slow, "--out", tmp_path / "b")
    told = orjson.loads(call("diff", tmp_path / "a", tmp_path / "b", "--json", expect=1).stdout)
    assert told["gone"] or told["new"] or told["changed"]
    printed = call("diff", tmp_path / "a", tmp_path / "b", expect=1).stdout
    assert "concept_drift" in printed
