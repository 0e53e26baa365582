"""A stored reference window in figures that people read: shares, quantiles, extremes.

The window keeps counts between quantile edges. With the default of 20 bins the edges *are* the quantiles shown here;
elsewhere they are read off the line between two edges.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np

from service.config import Config
from service.core.classes import OTHER
from service.core.reference import Drift, Embeddings, Features, Histogram, Reference, Values, check_reference

QUANTILES: Final = (0.05, 0.25, 0.5, 0.75, 0.95)
DIGITS: Final = 12
"""Digits of a figure: the last four of a double are rounding."""


def summarise(reference: Reference) -> dict[str, Any]:
    """Give a window's figures as plain data."""
    classes = reference.classes
    return {
        "model_id": reference.model_id,
        "model_version": reference.model_version,
        "classes": list(classes),
        "features": None if reference.features is None else _features(reference.features),
        "embeddings": None if reference.embeddings is None else _embeddings(reference.embeddings),
        "predictions": None if reference.predictions is None else _values(reference.predictions, 0, classes),
        "scores": None if reference.predictions is None else _scores(reference.predictions),
        "labels": None if reference.labels is None else _values(reference.labels, 0, classes),
        "loss": None if reference.loss is None else _loss(reference),
    }


def _features(features: Features) -> list[dict[str, Any]]:
    drift, quality = features.drift, features.quality
    found = []
    for place, (name, categories) in enumerate(zip(features.table.names, features.table.categories, strict=True)):
        if name in features.left_out:
            found.append({"name": name, "kind": "left out"})  # no feature; see service/core/inputs/no_features.py
            continue
        told: dict[str, Any] = {"name": name, "kind": "numeric" if categories is None else "categorical"}
        if drift is not None and place < len(drift.before):
            told |= describe(drift.histogram, place, categories or ())
        if quality is not None and place < len(quality.low):
            columns = len(quality.low)
            missing, wrong = quality.counts[place], quality.counts[columns + place]
            told |= {"count": quality.total - missing - wrong, "missing": missing, "wrong_type": wrong}
        found.append(told)
    return found


def _embeddings(embeddings: Embeddings) -> list[dict[str, Any]]:
    return [{"name": each.name, "dimension": each.dimension, "count": each.count} for each in embeddings.embeddings]


def _values(values: Values, column: int, classes: Sequence[str]) -> dict[str, Any]:
    kind = "numeric" if not values.drift.histogram.categorical[column] else "categorical"
    return {"kind": kind, **describe(values.drift.histogram, column, classes), **_mean(values.drift, column)}


def _scores(values: Values) -> dict[str, Any] | None:
    told = _values(values, 1, ())
    return told if told["count"] else None


def _mean(drift: Drift, column: int) -> dict[str, Any]:
    before = drift.before[column]
    return {"mean": _figure(before)} if isinstance(before, float | int) else {}


def _loss(reference: Reference) -> dict[str, Any]:
    loss = reference.loss
    assert loss is not None  # noqa: S101  # the caller has looked
    told: dict[str, Any] = {"count": loss.count, "mean": _figure(loss.mean), "std": _figure(loss.std)}
    regression = reference.labels is not None and not reference.labels.is_classes
    return told | ({"cap": _figure(loss.cap)} if regression else {})


def describe(histogram: Histogram, column: int, categories: Sequence[str]) -> dict[str, Any]:
    """Give one column's count, missing values, and categories by falling share, or extremes and quantiles."""
    counts = histogram.counts[column]
    missing = counts[-1]
    told: dict[str, Any] = {"count": sum(counts) - missing, "missing": missing}
    if histogram.categorical[column]:
        return told | {"shares": _shares(histogram, column, categories)}
    return told | _numbers(histogram, column)


def _shares(histogram: Histogram, column: int, categories: Sequence[str]) -> dict[str, float]:
    bins, counts = histogram.features[column], histogram.counts[column]
    total = sum(counts[: bins.bins])
    alone = np.bincount(bins.bin_of, minlength=bins.bins) == 1
    named: dict[str, int] = {}
    for code, place in zip(bins.edges, bins.bin_of, strict=True):
        name = categories[int(code)] if alone[place] and code < len(categories) else OTHER
        # Codes that share a bin have one count together.
        named[name] = counts[place] if alone[place] or name not in named else named[name]
    ranked = sorted(named.items(), key=lambda item: (item[0] == OTHER, -item[1], item[0]))
    return {name: _figure(count / total) for name, count in ranked if total}


def _numbers(histogram: Histogram, column: int) -> dict[str, Any]:
    bins = histogram.features[column]
    counts = np.array(histogram.counts[column][: bins.bins])
    total = int(counts.sum())
    if not total or bins.low > bins.high:
        return {}
    # A number is unseen beyond the extremes by half their span, so high - low is twice that.
    span = bins.high / 2 - bins.low / 2
    low, high = bins.low + span / 2, bins.high - span / 2
    edges = [low, *np.clip(bins.edges, low, high), high]
    shares = np.concatenate([[0], np.cumsum(counts)]) / total
    quantiles = np.interp(QUANTILES, shares, edges)
    mean = float(np.dot(counts / total, histogram.positions[column][: bins.bins]))
    return {
        "mean": _figure(mean),
        "std": _figure(histogram.spread[column]) if high > low else 0.0,
        "min": _figure(low),
        "max": _figure(high),
        "quantiles": {f"p{100 * q:g}": _figure(value) for q, value in zip(QUANTILES, quantiles, strict=True)},
    }


def _figure(value: float) -> float:
    return float(f"{value:.{DIGITS}g}") + 0.0  # no minus zero


def counts_of(reference: Reference) -> dict[str, int]:
    """Count what a reference window holds."""
    features, labels, loss = reference.features, reference.labels, reference.loss
    predictions = reference.predictions
    return {
        "features": 0 if features is None else len(features.table.names) - len(features.left_out),
        "events": 0 if features is None else features.sample_count,
        "embeddings": 0 if reference.embeddings is None else len(reference.embeddings.embeddings),
        "predictions": 0 if predictions is None else predictions.sample_count,
        "labels": 0 if labels is None else labels.sample_count,
        "losses": 0 if loss is None else loss.count,
    }


def words_of(reference: Reference) -> str:
    """Say in a line what a reference window holds."""
    counts = counts_of(reference)
    version = "every version" if reference.model_version is None else f"version {reference.model_version}"
    embeddings = f"{counts['embeddings']:,} embeddings, " if counts["embeddings"] else ""
    return (
        f"{counts['features']:,} features of {counts['events']:,} events, {embeddings}"
        f"{counts['predictions']:,} predictions, "
        f"{counts['labels']:,} labels, {counts['losses']:,} losses, for {version}"
    )


def reference_lines(config: Config) -> Iterator[str]:
    """Say in a line each which stored reference windows a configuration names."""
    for model_id, profile in config.core.models.items():
        if profile.reference.data is not None:
            named = profile.reference.path or "data"
            yield f"reference window of {model_id}: {named}: {words_of(check_reference(profile.reference.data))}"
