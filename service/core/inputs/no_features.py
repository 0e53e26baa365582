"""Columns that are no features: row numbers, time stamps, identifiers. They drift by what they are.

They are told by the reference window alone, by the order in which its values came:

* a number that goes the same step with (almost) every event, or that rises, or falls, with (almost) every event;
* a number that reads as a time since 1970 and (almost) never goes back;
* text of which (almost) no value comes again after another one.

How likely is it to take a genuine feature for one of these? Of 1,000 independent values, or of a random walk, half of
the 999 steps rise: 990 do with a chance below 1e-100 (of its 500 disjoint pairs 490 must rise: Chernoff), 900 with one
below 1e-38 (400 of 500). A number that truly grows, with so little noise that it goes back in less than 1 % of the
steps, is a clock for a monitor of drift: no later window can agree with the reference. Of text with K equally frequent
values, about 95,000 / K come again among 1,000: one or none of them does with a chance of 8e-4 for K = 10,000 and of
0.75 for K = 100,000, of which a monitor that tells `max_categories` of them apart would see nothing either.
"""

from typing import Final, NamedTuple

import numpy as np

from service.core.advice import NAMED_FEATURES, NO_FEATURES_SUBJECT, figure
from service.core.columns import Float
from service.core.findings import Evidence, FeatureContribution, Finding, Level
from service.core.inputs.blocks import Block
from service.core.inputs.levels import Schema

LEAST_STEPS: Final = 99
"""Steps by which a constant step is told."""
LEAST_EVENTS: Final = 1000
"""Events by which the rest is told. A shorter reference window shows constant steps alone."""
STEADY: Final = 0.99
"""Share of the steps that must agree; the rest may be repeated, or out of order."""
STEADY_TIMES: Final = 0.9
"""The same of what reads as a time: producers side by side send times that go back a little."""
LEAST_DISTINCT: Final = 20
"""Distinct texts, or times, that are needed."""
RETURNS_PER_EVENT: Final = 0.001
"""How many texts may come again after another one."""
PRESENT: Final = 0.99
"""Share of the events that must have the value."""
_EPOCH_S: Final = (1.0e9, 4.2e9)
"""From 2001 to 2103."""
_UNITS: Final = (1.0, 1e3, 1e6, 1e9)


class NoFeature(NamedTuple):
    """Why a column is no feature."""

    words: str
    share: float
    """Of the steps that agree."""


def recognise(rows: Float, schema: Schema, other_code: int) -> dict[str, NoFeature]:
    """Find the columns of a reference window that are no features, by name.

    `rows`: shape (n, F), in the order of the events, NaN or infinity for what is no value. `other_code`: the category
    code that texts beyond the limit share.
    """
    found = {}
    for column in range(rows.shape[1]):
        values = rows[:, column]
        values = values[np.isfinite(values)]
        if values.size < PRESENT * len(rows) or values.size <= LEAST_STEPS:
            continue
        reason = _text(values, other_code) if schema.is_categorical(column) else _number(values)
        if reason is not None:
            found[schema.names[column]] = reason
    return found


def _number(values: Float) -> NoFeature | None:
    # Numbers near the ends of what a float holds: a step may be infinite, which still rises.
    with np.errstate(over="ignore", invalid="ignore"):
        steps = np.diff(values)
        usual = float(np.median(steps))
        same = float(np.mean(steps == usual)) if usual else 0.0
    if same >= STEADY:
        return NoFeature(f"goes by {figure(usual)} with each event", same)
    if values.size < LEAST_EVENTS:
        return None
    rising = float(np.mean(steps > 0))
    falling = float(np.mean(steps < 0))
    if _reads_as_time(values) and 1 - falling >= STEADY_TIMES and values[-1] > values[0]:
        return NoFeature("is a time that goes on with the events", 1 - falling)
    if max(rising, falling) >= STEADY:
        return NoFeature(f"{'rises' if rising > falling else 'falls'} with each event", max(rising, falling))
    return None


def _reads_as_time(values: Float) -> bool:
    low, high = float(values.min()), float(values.max())
    fits = any(_EPOCH_S[0] * unit <= low and high <= _EPOCH_S[1] * unit for unit in _UNITS)
    return fits and len(np.unique(values)) >= LEAST_DISTINCT


def _text(codes: Float, other_code: int) -> NoFeature | None:
    """Judge text by its codes, which are given in the order in which texts first came."""
    if codes.size < LEAST_EVENTS:
        return None
    own = codes[codes < other_code]
    if len(np.unique(own)) < min(LEAST_DISTINCT, other_code):
        return None
    newest = np.maximum.accumulate(codes)
    returns = int(np.count_nonzero(codes < newest))
    if returns > RETURNS_PER_EVENT * codes.size:
        return None
    return NoFeature("is text that does not come again", 1 - returns / codes.size)


def told(found: dict[str, NoFeature], block: Block) -> Finding:
    """Tell people, once, what is not watched. `block`: the reference window."""
    named = [f"{figure(name)} ({reason.words})" for name, reason in list(found.items())[:NAMED_FEATURES]]
    more = f" and {len(found) - len(named)} more" if len(found) > len(named) else ""
    evidence = Evidence(
        detector="no_feature",
        subject="features",
        statistic=min(reason.share for reason in found.values()),
        threshold=STEADY_TIMES,
        sample_count=len(block.rows),
        features=tuple(
            FeatureContribution(feature=name, statistic=reason.share, threshold=STEADY_TIMES)
            for name, reason in list(found.items())[:NAMED_FEATURES]
        ),
    )
    return Finding(
        sequence=block.end.sequence,
        time_ms=block.end.watermark_ms,
        kind="operational",
        subject=NO_FEATURES_SUBJECT,
        level=Level.DRIFT,
        evidence=(evidence,),
        summary=f"no features, and so not watched: {', '.join(named)}{more}",
    )
