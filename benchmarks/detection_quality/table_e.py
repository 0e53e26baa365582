"""Table E: the known defects, each shown by a small program, and ours without it."""

from typing import Any

from benchmarks.detection_quality.conformance import DEFECTS, Defect
from benchmarks.detection_quality.elsewhere import available

TITLE = "E. Conformance: known defects, and ours without them"


def measure(*, quick: bool = False, scale: float = 1.0) -> dict[str, Any]:  # noqa: ARG001 - as all
    """Run every program; those of libraries that cannot be had are marked. Nothing is scaled."""
    some = [defect for defect in DEFECTS if not quick or defect.library.startswith("river")]
    return {"title": TITLE, "rows": [_row(defect) for defect in some]}


def _row(defect: Defect) -> dict[str, Any]:
    theirs = defect.theirs() if defect.theirs is not None and available(defect.family) else None
    ours = defect.ours()
    return {
        "library": defect.library,
        "defect": defect.what,
        "theirs": theirs.words if theirs else None,
        "shown": theirs.defective if theirs else None,
        "ours": ours.words,
        "ours_free": not ours.defective,
    }


def markdown(table: dict[str, Any]) -> str:
    """Write the table."""
    about = (
        "The programs are in `benchmarks/detection_quality/conformance.py`: the same values through the library "
        "(river 0.26.1, frouros 0.9.0 and MOA 2024.07 as installed) and through ours. scikit-multiflow 0.5.3 does not "
        "build with a current numpy: its defects were read in its source."
    )
    lines = [
        about,
        "",
        "| library | defect | what it does | ours | ours is free of it |",
        "|---|---|---|---|---|",
    ]
    for row in table["rows"]:
        theirs = row["theirs"] if row["theirs"] is not None else "(from its source, not run)"
        if row["shown"] is False:
            theirs += " (not shown by this run)"
        free = "yes" if row["ours_free"] else "**no**"
        lines.append(f"| {row['library']} | {row['defect']} | {theirs} | {row['ours']} | {free} |")
    return "\n".join(lines)
