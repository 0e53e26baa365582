"""Table B: how many events after a shift the alarm comes, everyone tuned to the same run length first."""

import functools
import math
from typing import Any, NamedTuple

import numpy as np

from benchmarks.detection_quality.contenders import NOMINAL, STREAM_EVENTS, Tuned, tunable
from benchmarks.detection_quality.running import alarms, mean_and_error, run_length, side_by_side
from benchmarks.detection_quality.streams import Stable, errors, shifting, stable_streams
from benchmarks.detection_quality.tuning import Calibrated, tuned

TITLE = "B. Delay at a matched run length of 10,000"
SHIFTS = ((0.1, 0.15), (0.1, 0.2), (0.2, 0.3), (0.2, 0.5))
STABLE_EVENTS = 2_000
SHIFTED_EVENTS = 4_000
TUNING_SEED, CHECK_SEED, SHIFT_SEED = 212, 213, 214


class Sizes(NamedTuple):
    """How much is simulated."""

    tuning: int
    check: int
    runs: int


FULL, QUICK = Sizes(40, 50, 300), Sizes(2, 2, 20)


def measure(*, quick: bool = False, scale: float = 1.0) -> dict[str, Any]:
    """Tune everyone on stable errors, check on fresh ones, and measure the delays."""
    sizes = QUICK if quick else Sizes(*(max(10, round(size * scale)) for size in FULL))
    everyone = [one for one in tunable() if not quick or one.contender.family == "ours"]
    jobs = [(one, before) for one in everyone for before in sorted({before for before, _ in SHIFTS})]
    found = side_by_side(functools.partial(_measured, sizes=sizes), jobs)
    rows: dict[str, dict[str, Any]] = {}
    for (one, before), (setting, cells) in zip(jobs, found, strict=True):
        row = rows.setdefault(
            one.contender.label, {"detector": one.contender.label, "family": one.contender.family, "cells": {}}
        )
        row[f"setting {before:g}"] = setting
        row["cells"].update(cells)
    return {"title": TITLE, "runs": sizes.runs, "rows": list(rows.values())}


def _measured(job: tuple[Tuned, float], sizes: Sizes) -> tuple[dict[str, Any], dict[str, Any]]:
    one, before = job
    kind = Stable("", binary=True, independent=True, draw=errors(before))
    calibrated = tuned(one, stable_streams(kind, sizes.tuning, STREAM_EVENTS, TUNING_SEED), NOMINAL)
    check = run_length(calibrated.contender, stable_streams(kind, sizes.check, STREAM_EVENTS, CHECK_SEED))
    setting = {"parameter": calibrated.parameter, "value": calibrated.value, "run_length": check.mean}
    shifts = [(low, high) for low, high in SHIFTS if low == before]
    return setting, {name(low, high): _delays(calibrated, low, high, sizes.runs) for low, high in shifts}


def name(before: float, after: float) -> str:
    """Name a shift."""
    return f"{before:g} to {after:g}"


def _delays(calibrated: Calibrated, before: float, after: float, runs: int) -> dict[str, float]:
    """Measure the delays in the runs without an alarm before the shift; what is missed counts with the whole time."""
    delays, early, missed = [], 0, 0
    for stream in shifting(before, after, STABLE_EVENTS, SHIFTED_EVENTS, runs, SHIFT_SEED):
        first = next(iter(alarms(calibrated.contender, stream, at_most=1)), None)
        if first is not None and first < STABLE_EVENTS:
            early += 1
            continue
        missed += first is None
        delays.append(SHIFTED_EVENTS if first is None else first - STABLE_EVENTS + 1)
    mean, error = mean_and_error(delays)
    median = float(np.median(delays)) if delays else math.nan
    return {"mean": mean, "error": error, "median": median, "missed": missed, "early": early, "runs": runs}


def standing(table: dict[str, Any], shift: str) -> dict[str, Any]:
    """Say who is best of ours and of the others, and whether ours is ahead or tied (within two standard errors).

    Only detectors whose checked run length is at least 70 % of the target are compared: the others bought their delay.
    """
    best: dict[bool, dict[str, Any]] = {}
    for row in table["rows"]:
        cell = row["cells"][shift]
        own = row["family"] == "ours"
        if row[f"setting {shift.split(' ', maxsplit=1)[0]}"]["run_length"] < 0.7 * NOMINAL or cell["mean"] is None:
            continue
        if own not in best or cell["mean"] < best[own]["mean"]:
            best[own] = {"detector": row["detector"], **cell}
    if False not in best or True not in best:
        return {"ours": best.get(True), "theirs": best.get(False), "holds": True in best}
    slack = 2.0 * math.hypot(best[True]["error"] or 0.0, best[False]["error"] or 0.0)
    holds = best[True]["mean"] <= best[False]["mean"] + slack
    return {"ours": best[True], "theirs": best[False], "holds": holds}


def markdown(table: dict[str, Any]) -> str:
    """Write the table."""
    shifts = [name(*shift) for shift in SHIFTS]
    befores = sorted({before for before, _ in SHIFTS})
    about = (
        f"Everyone is tuned by the parameter named to one false alarm in {NOMINAL:,.0f} events on stable streams of "
        f"{STREAM_EVENTS:,}, and checked on fresh streams (run length). Then {table['runs']} runs of {STABLE_EVENTS:,} "
        f"stable events and {SHIFTED_EVENTS:,} after the shift. Cells: mean delay +- its standard error, the share "
        "missed in brackets where there was one; missed runs count with the whole time, runs with an alarm before the "
        "shift are left out. Every detector learns from its stream alone. river's KSWIN is not tuned: at 110 us and "
        "more an event that would take hours."
    )
    lines = [
        about,
        "",
        "| detector | tuned | "
        + " | ".join(f"run length at {before:g}" for before in befores)
        + " | "
        + " | ".join(shifts)
        + " |",
        "|---|---|" + "---|" * (len(befores) + len(shifts)),
    ]
    for row in sorted(table["rows"], key=lambda row: row["family"] != "ours"):
        settings = [row[f"setting {before:g}"] for before in befores]
        values = " / ".join(f"{setting['value']:.3g}" for setting in settings)
        lengths = " | ".join(f"{setting['run_length']:,.0f}" for setting in settings)
        cells = " | ".join(_cell(row["cells"][shift]) for shift in shifts)
        lines.append(f"| {row['detector']} | {settings[0]['parameter']} {values} | {lengths} | {cells} |")
    return "\n".join([*lines, "", *(_sentence(table, shift) for shift in shifts)])


def _cell(cell: dict[str, Any]) -> str:
    if cell["mean"] is None:
        return "-"
    missed = cell["missed"] / max(cell["runs"] - cell["early"], 1)
    return f"{cell['mean']:,.0f} +- {cell['error']:,.0f}" + (f" ({missed:.0%})" if missed else "")


def _sentence(table: dict[str, Any], shift: str) -> str:
    found = standing(table, shift)
    ours, theirs = found["ours"], found["theirs"]
    if ours is None or theirs is None:
        return f"* {shift}: not compared."
    verdict = "ours is shortest or tied" if found["holds"] else "**ours is behind**"
    return (
        f"* {shift}: ours {ours['detector']} {ours['mean']:,.0f}, "
        f"others {theirs['detector']} {theirs['mean']:,.0f}: {verdict}."
    )
