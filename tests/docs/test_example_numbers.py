"""The examples of the README and of the page on connecting, run as they stand: their numbers are those of the model."""

import csv
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import orjson
import pytest
from sklearn.metrics import brier_score_loss, roc_auc_score
from typer.testing import CliRunner

from service.cli.commands import app
from tests.core.stream import START_MS, Driver, Source
from tests.docs.pages import blocks, commands

COUNT = 400


def drawn() -> tuple[list[float], list[str], list[str]]:
    """Give the probability of `leaves`, the answer and the truth of each prediction."""
    rng = np.random.default_rng(5)
    chance = np.round(rng.beta(1.2, 1.2, COUNT), 3)
    truth = ["leaves" if leaves else "stays" for leaves in rng.random(COUNT) < chance]
    return chance.tolist(), ["leaves" if p > 0.5 else "stays" for p in chance], truth


def expected() -> dict[str, float]:
    chance, answers, truth = drawn()
    leaves = [answer == "leaves" for answer in truth]
    return {
        "auc": roc_auc_score(leaves, chance),
        "brier": brier_score_loss(leaves, chance),
        "accuracy": float(np.mean([answer == right for answer, right in zip(answers, truth, strict=True)])),
    }


def assert_right(snapshot: dict[str, Any]) -> None:
    values = snapshot["windows"][0]["values"]
    assert {name: values[name] for name in expected()} == pytest.approx(expected())
    assert values["auc"] > 0.7
    assert (snapshot["problem"], snapshot["positive_class"], snapshot["score_class"]) == ("binary", "leaves", "leaves")


@pytest.mark.parametrize("page", ["README.md", "docs/connect.md"])
@pytest.mark.parametrize("left_out", [(), ("score_class",)])
def test_events_like_those_of_the_page_have_the_metrics_of_their_model(page: str, left_out: tuple[str, ...]) -> None:
    shown = [orjson.loads(block.text) for block in blocks("json") if block.page == page]
    example = next(event for event in shown if "prediction" in event)
    truth_example = next(event for event in shown if "label" in event)
    assert (example["prediction"], example["score"], example["score_class"]) == ("stays", 0.31, "leaves")
    predictions, labels = [], []
    for number, (p, answer, truth) in enumerate(zip(*drawn(), strict=True)):
        at = {"prediction_id": str(number), "event_time_ms": START_MS + number * 1000}
        event = example | at | {"prediction": answer, "score": p}
        predictions.append(orjson.dumps({name: value for name, value in event.items() if name not in left_out}))
        labels.append(orjson.dumps(truth_example | at | {"label": truth}))
    for number in range(9):  # what comes later moves the log's clock, and that a model which is silent
        last = {"event_time_ms": START_MS + 10**8, "prediction_id": f"last{number}", "model_id": "another"}
        predictions.append(orjson.dumps(example | last))
        labels.append(orjson.dumps(truth_example | last))
    outputs = [orjson.loads(msgspec.json.encode(output)) for output in Driver(Source([], predictions, labels)).run()]
    assert_right([output for output in outputs if output.get("model_id") == "churn" and "windows" in output][-1])


def produces() -> list[tuple[str, list[str]]]:
    found = [(block, words) for block, words in commands() if words[:2] == ["tidegauge", "produce"]]
    return [(str(block), words[2:]) for block, words in found if "--score" in words]


@pytest.mark.parametrize(("where", "words"), produces())
@pytest.mark.parametrize("says", [True, False])
def test_a_file_like_that_of_the_page_has_the_metrics_of_its_model(
    where: str, words: list[str], says: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(produces()) >= 2, "README.md and docs/connect.md show --score"
    monkeypatch.chdir(tmp_path)
    with Path(words[0]).open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["id", "answer", "p_leaves", "truth", "answered_at", "age"])
        for number, (p, answer, truth) in enumerate(zip(*drawn(), strict=True)):
            at = datetime.fromtimestamp((START_MS + number * 60_000) / 1000 - 10**7, UTC).isoformat()
            rows.writerow([f"p{number}", answer, p, truth, at, number % 70])
    if not says:
        place = words.index("--score-class")
        words = [*words[:place], *words[place + 2 :]]
    runner = CliRunner()
    told = runner.invoke(app, ["produce", *words, "--log", "log.db"])
    assert told.exit_code == 0, (where, told.output)
    Path("tidegauge.yaml").write_text(
        "log: {carrier: sqlite, sqlite: {path: log.db}}\n"
        "core: {default: {performance: {windows: [{last: 5000}]}}, tick_ms: 1000, allowed_lateness_ms: 0}\n"
    )
    told = runner.invoke(app, ["replay", "--config", "tidegauge.yaml", "--out", "out"])
    assert told.exit_code == 0, (where, told.output)
    snapshots = [orjson.loads(line) for line in Path("out/metrics.jsonl").read_bytes().splitlines()]
    last = snapshots[-1].get("data", snapshots[-1])
    count = last["outcomes_total"]
    assert count > 300
    assert last["score_class"] == "leaves"
    chance, _, truth = drawn()
    assert last["windows"][0]["values"]["auc"] == pytest.approx(
        roc_auc_score([answer == "leaves" for answer in truth[:count]], chance[:count])
    )
