"""Table G: the life after the alarm."""

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.detection_quality.lives import LABEL_DELAY, alerts, classifier, published, row_of
from benchmarks.detection_quality.running import side_by_side
from schemas.outputs import Alert

TITLE = "G. The life after the alarm"
SEED = 707
SEEDS = 20
STEPS = ((0.02, 0.05), (0.10, 0.13), (0.10, 0.15), (0.10, 0.20), (0.20, 0.30))
GOALS = {"0.02-0.05": 1_800, "0.1-0.13": 5_100, "0.1-0.15": 2_000, "0.1-0.2": 600, "0.2-0.3": 850}
"""Outcomes to the all-clear: 1.5 times Lorden's bound log(2,000,000) / KL(reference, damaged level)."""
STABLE = 10_000
DAMAGED = 20_000
RECOVERED = 20_000
CHANGES = 10
BETWEEN = 3_000
"""Outcomes between two of the ten changes."""
SMALLEST, LARGEST = 0.05, 0.20
"""By how much the error rate changes each time, uniform."""
INTERVALS = 500
KINDS = (*STEPS, (0.02, 0.10), (0.10, 0.40), (0.05, 0.60))
"""Steps over which the coverage of the level's interval is counted, equally often."""

Rates = NDArray[np.float64]


def measure(*, quick: bool = False, scale: float = 1.0) -> dict[str, Any]:
    """Measure all parts. `scale` shrinks the number of streams, never their length."""
    seeds = 2 if quick else max(2, round(SEEDS * scale))
    intervals = 16 if quick else max(16, round(INTERVALS * scale))
    jobs = [(step, seed) for step in range(len(STEPS)) for seed in range(seeds)]
    damages = side_by_side(_damage, jobs)
    rows = [
        _step_row(STEPS[step], [one for (place, _), one in zip(jobs, damages, strict=True) if place == step])
        for step in range(len(STEPS))
    ]
    frozen = side_by_side(_frozen, range(seeds))
    covered = side_by_side(functools.partial(_level, seeds=intervals), range(intervals))
    found = [one for one in covered if one is not None]
    return {
        "title": TITLE,
        "seeds": seeds,
        "rows": rows,
        "frozen": {
            "told": [one["told"] for one in frozen],
            "false_updates": sum(one["false"] for one in frozen),
            "outcomes": seeds * CHANGES * BETWEEN,
        },
        "levels": {
            "alarms": len(found),
            "covered": float(np.mean([one["covered"] for one in found])),
            "plain_bias": float(np.mean([one["plain"] - one["truth"] for one in found])),
            "bias": float(np.mean([one["told"] - one["truth"] for one in found])),
        },
    }


def _damage(job: tuple[int, int]) -> dict[str, Any]:
    """One lasting damage and its end."""
    place, seed = job
    before, after = STEPS[place]
    rng = np.random.default_rng([SEED, place, seed])
    rates = np.repeat([before, after, before], [STABLE, DAMAGED, RECOVERED])
    told = alerts(published(classifier(rng, rates)), "concept_drift")
    spans = _open_spans(told, len(rates))
    end = STABLE + DAMAGED
    firings = [start for start, _ in spans if STABLE <= start < end]
    if not firings:
        return {"found": False}
    first = firings[0]
    covered = sum(max(0, min(stop, end) - max(start, first)) for start, stop in spans)
    cleared = [stop for start, stop in spans if start < end <= stop < len(rates)]
    return {
        "found": True,
        "delay": first - STABLE,
        "open_share": covered / (end - first),
        "firings": len(firings),
        "false_all_clear": any(first < stop < end for _, stop in spans),
        "recovery": cleared[0] - end if cleared else None,
        "updates": sum(STABLE <= row_of(alert.event_time_ms) < end for alert in _updates(told)),
    }


def _open_spans(told: Sequence[Alert], rows: int) -> list[tuple[int, int]]:
    """Give from which to which row an incident fired; the last row where it still does."""
    starts: dict[str, int] = {}
    spans: dict[str, tuple[int, int]] = {}
    for alert in told:
        row = row_of(alert.event_time_ms)
        if alert.state == "firing":
            starts.setdefault(alert.incident_id, row)
            spans[alert.incident_id] = (starts[alert.incident_id], rows)
        elif alert.state == "resolved" and alert.incident_id in starts:
            spans[alert.incident_id] = (starts[alert.incident_id], row)
    return list(spans.values())


def _updates(told: Sequence[Alert]) -> list[Alert]:
    """Give the alerts that tell of a further change within an incident."""
    seen: set[str] = set()
    found = []
    for alert in told:
        if alert.state == "firing" and alert.incident_id in seen:
            found.append(alert)
        seen.add(alert.incident_id)
    return found


def _step_row(step: tuple[float, float], damages: Sequence[dict[str, Any]]) -> dict[str, Any]:
    found = [one for one in damages if one["found"]]
    recoveries = [one["recovery"] for one in found if one["recovery"] is not None]
    return {
        "step": f"{step[0]:g}-{step[1]:g}",
        "damages": len(damages),
        "found": len(found),
        "delay": float(np.median([one["delay"] for one in found])),
        "open_share": float(np.mean([one["open_share"] for one in found])),
        "least_open_share": min(one["open_share"] for one in found),
        "firings": float(np.mean([one["firings"] for one in found])),
        "false_all_clears": sum(one["false_all_clear"] for one in found),
        "recovered": len(recoveries),
        "recovery": float(np.median(recoveries)) if recoveries else None,
        "updates_per_10k": sum(one["updates"] for one in found) / (len(found) * DAMAGED / 10_000),
    }


def _frozen(seed: int) -> dict[str, Any]:
    """Follow a model that is never trained again, whose error rate changes ten times."""
    rng = np.random.default_rng([SEED, 100, seed])
    levels = _levels(rng)
    rates = np.repeat([0.10, *levels], [STABLE, *[BETWEEN] * CHANGES])
    rows = [
        row_of(alert.event_time_ms)
        for alert in alerts(published(classifier(rng, rates)), "concept_drift")
        if alert.state == "firing"
    ]
    starts = [STABLE + BETWEEN * number for number in range(CHANGES)]
    told = [sum(start <= row < start + BETWEEN for row in rows) for start in starts]
    return {"told": sum(count > 0 for count in told), "false": sum(max(count - 1, 0) for count in told)}


def _levels(rng: np.random.Generator) -> list[float]:
    """Draw ten error rates, each at least SMALLEST from the one before it and above the reference's."""
    levels, rate = [], 0.10
    while len(levels) < CHANGES:
        sign = 1.0 if not levels or rng.random() < 0.6 else -1.0
        following = rate + sign * rng.uniform(SMALLEST, LARGEST)
        if 0.15 <= following <= 0.80:
            levels.append(following)
            rate = following
    return levels


def _level(number: int, *, seeds: int) -> dict[str, float] | None:  # noqa: ARG001 - the count names the work
    """Give what the first alarm says of the level, beside the truth."""
    before, after = KINDS[number % len(KINDS)]
    rng = np.random.default_rng([SEED, 200, number])
    rates = np.repeat([before, after], [3_000, 7_000])
    columns = classifier(rng, rates)
    told = [alert for alert in alerts(published(columns), "concept_drift") if alert.state == "firing"]
    first = next((alert for alert in told if row_of(alert.event_time_ms) >= 3_000), None)
    if first is None or first is not told[0]:
        return None
    evidence = first.evidence[0]
    low, high = evidence.after_low, evidence.after_high
    if low is None or high is None or evidence.change_point is None or not isinstance(evidence.after, float):
        raise ValueError("an alarm of the loss tells its level as a number with an interval")
    stop = row_of(first.event_time_ms)
    wrong = columns["prediction"] != columns["label"]
    return {
        "truth": after,
        "told": evidence.after,
        "plain": float(wrong[evidence.change_point.sample_index : stop + 1].mean()),
        "covered": float(low <= after <= high),
    }


def markdown(table: dict[str, Any]) -> str:
    """Write the table."""
    frozen, levels = table["frozen"], table["levels"]
    about = (
        f"A deployed classifier with default settings, labels {LABEL_DELAY} rows late, through the whole program. "
        f"{STABLE:,} stable outcomes, {DAMAGED:,} damaged, {RECOVERED:,} back at the reference; "
        f"{table['seeds']} streams of each. Open: share of the damaged time behind the first alarm with a firing "
        "incident. All-clear: outcomes from the true return to `resolved` (median; goal: 1.5 times Lorden's bound)."
    )
    heads = (
        "error rate",
        "found",
        "delay",
        "open, mean (least)",
        "firings a damage",
        "false all-clears",
        "all-clear",
        "goal",
        "updates per 10k",
    )
    lines = [about, "", f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    for row in table["rows"]:
        recovery = "never" if row["recovery"] is None else f"{row['recovery']:,.0f}"
        lines.append(
            f"| {row['step'].replace('-', ' to ')} | {row['found']} of {row['damages']} | {row['delay']:,.0f} "
            f"| {row['open_share']:.1%} ({row['least_open_share']:.1%}) | {row['firings']:.2f} "
            f"| {row['false_all_clears']} | {recovery} ({row['recovered']} of {row['found']}) "
            f"| {GOALS[row['step']]:,} | {row['updates_per_10k']:.2f} |"
        )
    frozen_model = (
        f"**A frozen model**, ten changes of {SMALLEST:g} to {LARGEST:g}, {BETWEEN:,} outcomes apart: told "
        f"{np.mean(frozen['told']):.1f} of {CHANGES} on average (at least {min(frozen['told'])}), "
        f"{frozen['false_updates'] / (frozen['outcomes'] / 10_000):.2f} further alerts per 10,000 outcomes."
    )
    level = (
        f"**The level told at the alarm** ({levels['alarms']} alarms over {len(KINDS)} kinds of step): its 90 % "
        f"interval held the truth in {levels['covered']:.0%}; on average it was {levels['bias']:+.3f} off the truth, "
        f"the plain mean since the estimated change {levels['plain_bias']:+.3f}."
    )
    return "\n".join([*lines, "", frozen_model, "", level])
