"""What a step holds for each model version: columns sorted by version once, then cut.

With a thousand models a step has a handful of rows for each. So whole columns are put in order first, and a
version's share is a slice of them: picking each version's rows from each column costs three times as much.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from service.core.columns import LARGEST_WEIGHT, Bool, Corrections, Float, Int, Outcomes, Predictions
from service.core.join.operations import Rows
from service.core.metrics.window import packed_outcomes
from service.core.prepare import PredictionBatch, Prepared
from service.core.roster import Model, Roster
from service.core.stretch import StepJoin
from service.core.version_batch import VersionBatch


class Groups(NamedTuple):
    """Rows place after place, those of one place in their order."""

    rows: Int
    shares: list[tuple[int, int, int]]
    """Place, start and stop within `rows`; places rise."""


class Watermarks(NamedTuple):
    """Each model's own, at its records."""

    predictions: Int
    """At each prediction of the step."""
    labels: Int
    operations: Int
    """At each operation of the join."""


def version_batches(
    prepared: Prepared, joined: StepJoin, watermarks: Watermarks, roster: Roster
) -> Iterator[tuple[int, VersionBatch]]:
    """Give each version's batch with its place in the roster; places rise."""
    predictions, first_ids = _predictions(prepared.predictions, watermarks.predictions, joined.result.new_prediction)
    outcomes = _outcomes(joined, watermarks.operations, roster)
    corrections = _corrections(joined, watermarks.operations, roster)
    for place in sorted({*predictions, *outcomes, *corrections}):
        parts = (predictions.get(place), outcomes.get(place), corrections.get(place))
        yield place, VersionBatch(*parts, first_ids.get(place, ""))


def count_by_place(places: Int, keep: Bool | None = None) -> list[tuple[int, int]]:
    """Count rows by place, of all rows or those to be kept; places rise."""
    return [(place, stop - start) for place, start, stop in group(places, keep).shares]


def group(places: Int, keep: Bool | None = None) -> Groups:
    """Sort rows, all or those to be kept, by place."""
    rows = np.arange(len(places)) if keep is None or keep.all() else np.flatnonzero(keep)
    if not len(rows):
        return Groups(rows, [])
    kept = places[rows]
    if (kept == kept[0]).all():
        return Groups(rows, [(int(kept[0]), 0, len(rows))])
    order = np.argsort(kept, kind="stable")
    ordered = kept[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    stops = np.append(starts[1:], len(rows))
    return Groups(rows[order], list(zip(ordered[starts].tolist(), starts.tolist(), stops.tolist(), strict=True)))


def _predictions(batch: PredictionBatch, watermark_ms: Int, new: Bool) -> tuple[dict[int, Predictions], dict[int, str]]:
    """Give each version's new predictions, and the identifier of the first of them."""
    groups = group(batch.place, new)
    if not groups.shares:
        return {}, {}
    rows = groups.rows
    at = _as_slice(rows) if len(groups.shares) == 1 else rows
    events = batch.events[at] if isinstance(at, slice) else [batch.events[row] for row in at.tolist()]
    embeddings = [event.embeddings for event in events]
    columns = Predictions(
        sequence=batch.sequence[at],
        watermark_ms=watermark_ms[at],
        time_ms=batch.time_ms[at],
        offset=batch.offset[at],
        value=batch.value[at],
        score=batch.score[at],
        latency_ms=batch.latency_ms[at],
        error=batch.error[at],
        weight=batch.weight[at],
        features=[event.features for event in events],
        embeddings=embeddings if any(embeddings) else (),
        confidence=batch.confidence[at],
    )
    first_ids = {place: events[start].prediction_id for place, start, _ in groups.shares}
    return {place: columns.part(start, stop) for place, start, stop in groups.shares}, first_ids


def _as_slice(rows: Int) -> Int | slice:
    """See rising rows without a gap as a slice, which copies nothing."""
    start, stop = int(rows[0]), int(rows[-1]) + 1
    return slice(start, stop) if stop - start == len(rows) else rows


def _outcomes(step: StepJoin, watermark_ms: Int, roster: Roster) -> dict[int, Outcomes]:
    joined = step.result.outcomes
    groups = group(joined.predictions["monitor"].astype(np.int64))
    if not groups.shares:
        return {}
    rows = groups.rows
    operation, predictions, labels = joined.operation[rows], joined.predictions[rows], joined.labels[rows]
    columns = Outcomes(
        sequence=step.sequence[operation],
        watermark_ms=watermark_ms[operation],
        prediction_time_ms=predictions["time_ms"].copy(),
        label_time_ms=labels["time_ms"].copy(),
        prediction_offset=predictions["offset"].copy(),
        label_offset=labels["offset"].copy(),
        predicted=predictions["value"].copy(),
        actual=_actual(predictions, labels, step.sequence[operation], roster),
        score=predictions["score"].copy(),
        weight=np.minimum(predictions["weight"].astype(np.float64), LARGEST_WEIGHT),
        segments=predictions["segments"].astype(np.int64),
        probabilities=[joined.extras[row] for row in rows.tolist()],
    )
    columns = columns._replace(packed=packed_outcomes(columns))
    return {place: columns.part(start, stop) for place, start, stop in groups.shares}


def _corrections(step: StepJoin, watermark_ms: Int, roster: Roster) -> dict[int, Corrections]:
    corrected = step.result.corrections
    groups = group(corrected.predictions["monitor"].astype(np.int64))
    if not groups.shares:
        return {}
    rows = groups.rows
    operation = corrected.operation[rows]
    columns = Corrections(
        sequence=step.sequence[operation],
        watermark_ms=watermark_ms[operation],
        prediction_offset=corrected.predictions["offset"][rows],
        actual=_actual(corrected.predictions[rows], corrected.labels[rows], step.sequence[operation], roster),
        label_offset=corrected.labels["offset"][rows],
    )
    return {place: columns.part(start, stop) for place, start, stop in groups.shares}


def _actual(predictions: Rows, labels: Rows, sequence: Int, roster: Roster) -> Float:
    """Give labels in the codes of their predictions' models.

    They are other models' where an older program put the one under the model itself, and this one the other under its
    target.
    """
    actual: Float = labels["value"].copy()
    models, of_labels = roster.models_of(predictions["monitor"].astype(np.int64)), labels["model"]
    for row in np.flatnonzero(models != of_labels).tolist():
        ours, theirs = roster.models[int(models[row])], roster.models[int(of_labels[row])]
        actual[row] = _read(actual[row], theirs, ours, int(sequence[row]))
    return actual


def _read(value: float, written_by: Model, reader: Model, sequence: int) -> float:
    """Give a label in the codes that a model had at a record; NaN where it has none for it."""
    if written_by.problem == "regression" or reader.problem == "regression":
        return value if written_by.problem == reader.problem else np.nan
    name, known = written_by.table.names[int(value)], reader.table.names_before(sequence + 1)
    return float(known.index(name)) if name in known else np.nan
