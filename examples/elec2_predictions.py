"""Predictions of a river model on Elec2 (Harries, 1999), ready for `tidegauge produce`.

Prequential, as streams are judged (Gama, Sebastiao, Rodrigues, 2013): the model answers each row before it learns it.

python -m examples.elec2_predictions elec.csv elec2-predictions.csv
tidegauge produce elec2-predictions.csv --model-id elec2 --prediction prediction --score score --label label \
    --step-ms 1800000 --label-delay-events 48
"""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from river import tree

TRUTH = "class"


def predictions(rows: Iterator[dict[str, str]]) -> Iterator[dict[str, str]]:
    """Give each row with what a Hoeffding tree, which has seen all rows before it, says of it."""
    model: Any = tree.HoeffdingTreeClassifier()
    for row in rows:
        truth = row.pop(TRUTH)
        features = {name: float(cell) for name, cell in row.items()}
        score = float(model.predict_proba_one(features).get(1, 0.5))
        answer = {"prediction": str(int(score >= 0.5)), "score": f"{score:.6f}", "label": truth}
        yield answer | row
        model.learn_one(features, int(float(truth)))


def main(
    source: Annotated[Path, typer.Argument(help="Elec2 as CSV, the column `class` being 0 or 1.")],
    target: Annotated[Path, typer.Argument(help="Where the predictions go.")],
) -> None:
    """Write a CSV with prediction, score, label and the features."""
    right = total = 0
    with source.open(newline="") as read, target.open("w", newline="") as write:
        reader = csv.DictReader(read)
        columns = list(reader.fieldnames or [])
        if TRUTH not in columns:
            raise typer.BadParameter(f"{source} has no column {TRUTH!r}")
        writer = csv.DictWriter(write, ["prediction", "score", "label", *(c for c in columns if c != TRUTH)])
        writer.writeheader()
        for row in predictions(iter(reader)):
            writer.writerow(row)
            right += int(row["prediction"]) == int(float(row["label"]))
            total += 1
    typer.echo(f"{total:,} rows, prequential accuracy {right / max(total, 1):.4f}")


if __name__ == "__main__":
    typer.run(main)
