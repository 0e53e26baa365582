"""Table A: how many events lie between false alarms, measured on stable streams, against what was asked for."""

import functools
from typing import Any

from benchmarks.detection_quality.contenders import FROUROS, MOA, NOMINAL, RIVER, STREAM_EVENTS, Contender, ours
from benchmarks.detection_quality.elsewhere import available
from benchmarks.detection_quality.running import all_alarms, counted, side_by_side
from benchmarks.detection_quality.streams import STABLE, stable_streams

TITLE = "A. Run length: events between false alarms"
SEED = 101


def measure(*, quick: bool = False, scale: float = 1.0) -> dict[str, Any]:
    """Measure everyone on every kind of stable stream."""
    streams = 2 if quick else max(2, round(50 * scale))
    everyone = [c for c in [*ours(), *RIVER, *FROUROS, *MOA] if available(c.family)]
    if quick:
        everyone = [c for c in everyone if c.family in ("ours", "river") and c.share > 0.05]
    absent = [family for family in ("frouros", "moa") if not available(family)]
    rows = side_by_side(functools.partial(_row, streams=streams), everyone)
    return {"title": TITLE, "events_a_cell": streams * STREAM_EVENTS, "absent": absent, "rows": rows}


def _row(contender: Contender, streams: int) -> dict[str, Any]:
    count = max(1, round(streams * contender.share))
    kinds = [kind for kind in STABLE if kind.binary or contender.domain != "bernoulli"]
    # All kinds in one call: a library that runs in a program of its own takes seconds to start.
    found = all_alarms(contender, [s for kind in kinds for s in stable_streams(kind, count, STREAM_EVENTS, SEED)])
    cells: dict[str, dict[str, float] | None] = {kind.label: None for kind in STABLE}
    for place, kind in enumerate(kinds):
        measured = counted(found[place * count : (place + 1) * count], count * STREAM_EVENTS)
        cells[kind.label] = {"events": measured.events, "alarms": measured.alarms, "upper": measured.upper}
    return {
        "detector": contender.label,
        "family": contender.family,
        "nominal": contender.nominal,
        "guaranteed": contender.guaranteed,
        "cells": cells,
    }


def broken_promises(table: dict[str, Any], *, independent: bool = True) -> list[str]:
    """Name the cells where a guaranteed detector's run length is below the nominal beyond doubt."""
    kinds = [kind.label for kind in STABLE if kind.independent or not independent]
    return [
        f"{row['detector']} on {kind}: {cell['events'] / max(cell['alarms'], 1):,.0f} of {row['nominal']:,.0f}"
        for row in table["rows"]
        if row["guaranteed"]
        for kind in kinds
        if (cell := row["cells"][kind]) is not None and cell["upper"] is not None and cell["upper"] < row["nominal"]
    ]


def markdown(table: dict[str, Any]) -> str:
    """Write the table."""
    kinds = [kind.label for kind in STABLE]
    about = (
        f"Mean events between false alarms on {table['events_a_cell']:,} stable events (streams of {STREAM_EVENTS:,}, "
        "a new detector for each, rebased after an alarm; fewer streams for slow detectors). `>` means no alarm at all "
        f"in so many events. Detectors whose run length can be asked for were asked for {NOMINAL:,.0f}; `betting` and "
        "`empirical_bernstein` promise at most 1 % of false alarms over a stream of any length, and 1 % for their "
        f"reference: one in {STREAM_EVENTS / 0.02:,.0f} events of such streams. All others run with their defaults. "
        "**G**: the promise is a theorem for independent losses. AR(1) streams break its condition, that the mean loss "
        "given the past is at most the null."
    )
    lines = [
        about,
        "",
        "| detector | nominal | " + " | ".join(kinds) + " |",
        "|---|---|" + "---|" * len(kinds),
    ]
    for row in table["rows"]:
        nominal = "-" if row["nominal"] is None else f"{row['nominal']:,.0f}" + (" G" if row["guaranteed"] else "")
        cells = " | ".join(_cell(row["cells"][kind]) for kind in kinds)
        lines.append(f"| {row['detector']} | {nominal} | {cells} |")
    broken = broken_promises(table)
    beyond = [one for one in broken_promises(table, independent=False) if one not in broken]
    lines += ["", "Guaranteed run lengths missed on independent streams: " + ("; ".join(broken) or "none") + "."]
    lines.append("On AR(1) streams, beyond the theorem: " + ("; ".join(beyond) or "none") + ".")
    if table["absent"]:
        lines.append(f"Could not be installed here, and so not measured: {', '.join(table['absent'])}.")
    return "\n".join(lines)


def _cell(cell: dict[str, float] | None) -> str:
    if cell is None:
        return "-"
    if not cell["alarms"]:
        return f"> {cell['events']:,.0f}"
    return f"{cell['events'] / cell['alarms']:,.0f}"
