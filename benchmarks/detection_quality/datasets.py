"""The public streams with known drifts, which lie beside the project; `TIDEGAUGE_DATA` names another folder."""

import csv
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent.parent

Row = dict[str, float]


class Labelled(NamedTuple):
    """A stream of rows with their class, and where its concept changes."""

    name: str
    rows: list[Row]
    classes: list[int]
    drifts: tuple[int, ...]
    tolerance: int
    """Events after a drift within which an alarm is taken for it."""


def folder() -> Path:
    """Give where the streams lie."""
    return Path(os.environ.get("TIDEGAUGE_DATA", ROOT.parent / "shared" / "data"))


def sine1(seed: int) -> Labelled:
    """SINE1 of Tornado: the concept is turned round within 50 events, four times."""
    rows, classes = _arff(folder() / "tornado" / f"sine1_w_50_n_0.1_{seed}.arff")
    return Labelled(f"SINE1 {seed}", rows, classes, (20_000, 40_000, 60_000, 80_000), 250)


def circles() -> Labelled:
    """CIRCLES of Tornado: another circle within 500 events, three times."""
    rows, classes = _arff(folder() / "tornado" / "circles_w_500_n_0.1_101.arff")
    return Labelled("CIRCLES", rows, classes, (25_000, 50_000, 75_000), 1_000)


def sea() -> Labelled:
    """SEA: the sum of two features against another limit, three times. 9 % to 11 % of the rows change class."""
    with (folder() / "sea" / "SEA_training_data.csv").open(newline="") as file:
        rows = [_named(values) for values in csv.reader(file)]
    with (folder() / "sea" / "SEA_training_class.csv").open(newline="") as file:
        classes = [int(values[0]) for values in csv.reader(file)]
    return Labelled("SEA", rows, classes, (12_500, 25_000, 37_500), 2_000)


def elec2() -> Labelled:
    """Elec2: three inputs are constant before row 17,424. No concept drift is known for certain."""
    with (folder() / "elec2" / "elec.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    rows = [{name: float(value) for name, value in row.items() if name != "class"} for row in found]
    return Labelled("Elec2", rows, [int(row["class"]) for row in found], (17_424,), 1_000)


def _arff(path: Path) -> tuple[list[Row], list[int]]:
    with path.open() as file:
        lines = list(_data_lines(file))
    values = [line.split(",") for line in lines]
    return [_named(line[:-1]) for line in values], [int(line[-1] == "p") for line in values]


def _data_lines(file: Iterator[str]) -> Iterator[str]:
    """Give what follows @data."""
    for line in file:
        if line.strip().lower() == "@data":
            break
    for line in file:
        if line.strip():
            yield line.strip()


def _named(values: list[str]) -> Row:
    return {f"x{i}": float(value) for i, value in enumerate(values)}
