"""The same rows have the same metrics as CSV, as JSON Lines and as Parquet."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import orjson
import pyarrow as pa
import pytest
from pyarrow import parquet
from typer.testing import CliRunner

from service.cli.commands import app
from service.replay.answers import answer_of

COUNT = 300
SEEDS = range(2)


def drawn(seed: int, classes: int) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    truths = rng.integers(0, classes, COUNT)
    return np.where(rng.random(COUNT) < 0.25, rng.integers(0, classes, COUNT), truths), truths


def floats(seed: int) -> tuple[Any, Any]:
    truths = np.random.default_rng(seed).normal(50, 20, COUNT)
    return truths + 1.5, truths


KINDS: dict[str, Callable[[int], tuple[list[Any], list[Any]]]] = {
    "whole": lambda seed: tuple(column.tolist() for column in drawn(seed, 5)),  # type: ignore[arg-type,return-value]
    "whole floats": lambda seed: tuple(column.astype(float).tolist() for column in drawn(seed, 3)),  # type: ignore[return-value]
    "zero and one": lambda seed: tuple(column.tolist() for column in drawn(seed, 2)),  # type: ignore[return-value]
    "booleans": lambda seed: tuple(column.astype(bool).tolist() for column in drawn(seed, 2)),  # type: ignore[return-value]
    "beyond 2^53": lambda seed: tuple((column + 2**53).tolist() for column in drawn(seed, 4)),  # type: ignore[return-value]
    "names": lambda seed: tuple([f"class-{n}" for n in column.tolist()] for column in drawn(seed, 3)),  # type: ignore[return-value]
    "codes": lambda seed: tuple([f"{n:03}" for n in column.tolist()] for column in drawn(seed, 12)),  # type: ignore[return-value]
    "numbers": lambda seed: tuple(column.tolist() for column in floats(seed)),  # type: ignore[return-value]
    "counts": lambda seed: tuple(column.tolist() for column in drawn(seed, 10_000)),  # type: ignore[return-value]
}
PROBLEM = {"numbers": "regression", "counts": "regression", "zero and one": "binary", "booleans": "binary"}


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    if path.suffix == ".csv":
        with path.open("w", newline="") as file:
            table = csv.DictWriter(file, list(rows[0]))
            table.writeheader()
            table.writerows(rows)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        parquet.write_table(pa.Table.from_pylist(rows), path)


def told(path: Path, out: Path) -> list[dict[str, Any]]:
    columns = ["--model-id", "m", "--prediction", "answer", "--label", "truth"]
    result = CliRunner().invoke(app, ["replay", str(path), *columns, "--out", str(out)])
    assert result.exit_code == 0, result.output
    return [orjson.loads(line) for line in (out / "metrics.jsonl").read_bytes().splitlines()]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", SEEDS)
def test_the_same_rows_have_the_same_metrics_in_every_format(kind: str, seed: int, tmp_path: Path) -> None:
    answers, truths = KINDS[kind](seed)
    rows = [{"answer": answers[n], "truth": truths[n], "x": n % 9 / 4} for n in range(COUNT)]
    found = {}
    for suffix in ("csv", "jsonl", "parquet"):
        path = tmp_path / f"rows.{suffix}"
        write(path, rows)
        found[suffix] = told(path, tmp_path / suffix)
    assert found["csv"] == found["jsonl"] == found["parquet"]
    last = found["csv"][-1].get("data", found["csv"][-1])
    assert last["problem"] == PROBLEM.get(kind, "multiclass")
    window = last["windows"][0]
    if last["problem"] != "regression":
        count = window["count"]
        pairs = list(zip(answers, truths, strict=True))[:count]
        assert window["values"]["accuracy"] == pytest.approx(sum(a == t for a, t in pairs) / count)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *[
            ("", None),
            ("nan", None),
            ("1", 1.0),
            ("-3", -3.0),
            ("0", 0.0),
            ("1.0", 1.0),
            ("007", "007"),
            ("1_0", "1_0"),
        ],
        *[("true", True), ("False", False), (str(2**53 + 1), 2**53 + 1), (str(2**64), float(2**64))],
    ],
)
def test_a_cell_is_read_as_json_and_parquet_hold_it(text: str, value: Any) -> None:
    assert answer_of(text) == value
    assert type(answer_of(text)) is type(value)
    assert value is None or msgspec.convert(value, int | float | str | bool) == value
