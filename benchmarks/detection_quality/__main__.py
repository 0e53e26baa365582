"""`python -m benchmarks.detection_quality [--table A..G] [--quick] [--scale S] [--processes N]` and where it is kept.

Each table is measured, kept as JSON in DIR, and all tables that are there are written as Markdown: a table can be
measured again by itself. `--quick` looks whether everything runs, with sizes from which nothing can be concluded.
"""

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.detection_quality import table_a, table_b, table_c, table_d, table_e, table_f, table_g
from benchmarks.detection_quality.readings import READINGS
from benchmarks.detection_quality.running import use_processes

ROOT = Path(__file__).resolve().parent.parent.parent
JSON = ROOT / ".cache" / "detection_quality"
DOCUMENT = ROOT / "docs" / "detection-quality.md"
SCALE = 0.4
"""Of the full sizes: with it all six took an hour, in one process on two cores that had a load of ten."""


class Table(NamedTuple):
    """One of the seven."""

    title: str
    measure: Callable[..., dict[str, Any]]
    markdown: Callable[[dict[str, Any]], str]


TABLES = {
    "A": Table(table_a.TITLE, table_a.measure, table_a.markdown),
    "B": Table(table_b.TITLE, table_b.measure, table_b.markdown),
    "C": Table(table_c.TITLE, table_c.measure, table_c.markdown),
    "D": Table(table_d.TITLE, table_d.measure, table_d.markdown),
    "E": Table(table_e.TITLE, table_e.measure, table_e.markdown),
    "F": Table(table_f.TITLE, table_f.measure, table_f.markdown),
    "G": Table(table_g.TITLE, table_g.measure, table_g.markdown),
}

BESIDE = ", one after the other in one process, on two cores that had a load of 3 to 13 from other work"
"""What the times were measured beside: whoever measures again says it anew."""

PREFACE = """# Detection quality

How good the detectors are, and beside what. Written by

    python -m benchmarks.detection_quality

(`--table B` measures one table again, `--scale 1` takes the full sizes, `--quick` only looks whether all runs). Below
each table stand what it says, the time that it took and the share of the full sizes that was measured. All streams are
made from fixed seeds. The figures are in `docs/detection-quality.json` too. `docs/detectors.md` says which detector to
use when.

How the defaults of the e-detectors were chosen: the alternatives, the length of the reference and how its confidence
is shared on streams like those of table B with other seeds, the treatment of dependence on table A's AR(1) streams. No
default was chosen on the public streams of tables C and D.
"""


def document(tables: dict[str, dict[str, Any]]) -> str:
    """Write all tables that were measured."""
    parts = [PREFACE]
    for letter, result in sorted(tables.items()):
        table = TABLES[letter]
        spent = f"Measured in {result['seconds']:,.0f} s, at {result['scale']:.0%} of the full sizes."
        parts.append(f"## {table.title}\n\n{table.markdown(result)}\n\n{READINGS[letter]}\n{spent}\n")
    total = sum(result["seconds"] for result in tables.values())
    parts.append(f"All tables above took {total / 60:,.0f} minutes together{BESIDE}.\n")
    return "\n".join(parts)


def figures(tables: dict[str, dict[str, Any]]) -> str:
    """Give all figures as JSON, a line for each row of a table; the places of single alarms are left out."""
    parts = []
    for letter, result in sorted(tables.items()):
        rest = {name: part for name, part in result.items() if name != "rows"}
        rows = ",\n  ".join(json.dumps(_brief(row)) for row in result["rows"])
        parts.append(f'"{letter}": {{"about": {json.dumps(rest)}, "rows": [\n  {rows}\n]}}')
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _brief(value: Any) -> Any:
    """Leave out where single alarms were, and round to six digits: no figure is known better."""
    if isinstance(value, dict):
        # In table A `alarms` is how many there were.
        return {name: _brief(part) for name, part in value.items() if name != "alarms" or isinstance(part, int)}
    if isinstance(value, list):
        return [_brief(part) for part in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def measured(letter: str, *, quick: bool, scale: float) -> dict[str, Any]:
    """Measure a table and say how long it took."""
    began = time.perf_counter()
    result = TABLES[letter].measure(quick=quick, scale=scale)
    plain: dict[str, Any] = _plain({**result, "seconds": time.perf_counter() - began, "scale": scale})
    return plain


def stored(directory: Path) -> dict[str, dict[str, Any]]:
    """Read the tables that were measured before."""
    paths = {letter: directory / f"table-{letter}.json" for letter in TABLES}
    return {letter: json.loads(path.read_text()) for letter, path in paths.items() if path.exists()}


def _plain(value: Any) -> Any:
    """Replace what JSON has no number for, infinity and nothing at all, by null."""
    if isinstance(value, dict):
        return {str(name): _plain(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def main(arguments: Sequence[str] | None = None) -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.detection_quality", description=__doc__)
    parser.add_argument("--table", choices=sorted(TABLES), action="append", help="measure this one; may be repeated")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, under a minute; nothing is concluded")
    parser.add_argument("--scale", type=float, default=SCALE, help=f"the share of the full sizes ({SCALE:g})")
    parser.add_argument("--processes", type=int, default=2, metavar="N", help="how many work side by side (2)")
    parser.add_argument("--json", type=Path, metavar="DIR", help="where tables are kept as JSON")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="where the page is written")
    chosen = parser.parse_args(arguments)
    use_processes(chosen.processes)
    # A quick run must not overwrite what a long one measured.
    directory: Path = chosen.json or (JSON / "quick" if chosen.quick else JSON)
    page: Path = chosen.markdown or (directory / "tables.md" if chosen.quick else DOCUMENT)
    directory.mkdir(parents=True, exist_ok=True)
    for letter in chosen.table or sorted(TABLES):
        print(f"{TABLES[letter].title} ...", file=sys.stderr, flush=True)
        result = measured(letter, quick=chosen.quick, scale=chosen.scale)
        print(f"  {result['seconds']:.0f} s", file=sys.stderr, flush=True)
        (directory / f"table-{letter}.json").write_text(json.dumps(result, indent=1) + "\n")
        tables = stored(directory)
        page.write_text(document(tables))
        page.with_suffix(".json").write_text(figures(tables))
    print(page)


if __name__ == "__main__":
    main()
