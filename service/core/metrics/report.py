"""From the outcomes of one window to its `WindowMetrics`."""

from collections.abc import Sequence

import numpy as np

from schemas.outputs import WindowMetrics
from service.core.columns import Bool, Float, Int
from service.core.metrics.catalogue import ResolvedProblem, metric_names
from service.core.metrics.classification import (
    averaged_values,
    class_values,
    confusion,
    count_classes,
    shown_classes,
)
from service.core.metrics.probability import (
    binary_probability_values,
    mean_of_defined,
    multiclass_probability_values,
    rank_values,
    sums_to_one,
)
from service.core.metrics.regression import regression_values
from service.core.metrics.scores import USUAL, ScoreReading, positive_scores
from service.core.metrics.selection import WindowColumns

Values = dict[str, float | None]


def window_metrics(
    problem: ResolvedProblem,
    window: str,
    columns: WindowColumns,
    classes: Sequence[str] = (),
    reading: ScoreReading = USUAL,
) -> WindowMetrics:
    """Compute every metric of the problem over one window.

    `classes` are the model's class names in code order, `reading` says which is the positive class of a binary model
    and of which class its scores speak. Outcomes without a prediction (the serving call failed) are left out, also of
    the count.
    Every metric of the problem has a key; an undefined one is None. `start_ms` and `end_ms` are the watermarks at
    which the window's first and last outcome became whole. Raises ValueError for a code without a name.
    """
    usable = np.isfinite(columns.actual) & np.isfinite(columns.predicted)
    if not usable.all():
        columns = columns.where(usable)
    values: Values = dict.fromkeys(metric_names(problem))
    per_class: dict[str, Values] = {}
    table: dict[str, dict[str, int]] = {}
    if columns.actual.size and problem == "regression":
        values |= regression_values(columns.actual, columns.predicted, columns.weight)
    elif columns.actual.size:
        per_class, table = _classification(values, problem, columns, classes, reading)
    times = columns.watermark_ms
    return WindowMetrics(
        window=window,
        count=int(times.size),
        start_ms=int(times[0]) if times.size else None,
        end_ms=int(times[-1]) if times.size else None,
        truncated=columns.truncated,
        values=values,
        per_class=per_class,
        confusion=table,
    )


def positive_class(classes: Sequence[str], positive: str | None = None) -> str | None:
    """Name the positive class of a binary model: the configured one, else the greater of the first two names.

    Numbers compare as numbers ("10" is greater than "9"), other names as strings, as scikit-learn does. A third name
    that turns up later (a typing mistake in a label) changes nothing. None while fewer than two classes are known.
    """
    if positive is not None:
        return positive
    if len(classes) < 2:
        return None
    first, second = classes[0], classes[1]
    try:
        return second if float(second) > float(first) else first
    except ValueError:
        return max(first, second)


def _classification(
    values: Values,
    problem: ResolvedProblem,
    columns: WindowColumns,
    classes: Sequence[str],
    reading: ScoreReading,
) -> tuple[dict[str, Values], dict[str, dict[str, int]]]:
    """Fill `values`; give the metrics per class and the confusion matrix."""
    actual, predicted = columns.actual.astype(np.int64), columns.predicted.astype(np.int64)
    greatest = int(max(actual.max(), predicted.max()))
    if greatest >= len(classes) or min(actual.min(), predicted.min()) < 0:
        raise ValueError(f"expected class codes from 0 to {len(classes) - 1}, got up to {greatest}")
    counts = count_classes(actual, predicted, columns.weight, len(classes))
    values |= averaged_values(counts)
    shown = shown_classes(counts, classes)
    support = counts.labels.tolist()
    per_class: dict[str, Values] = {
        classes[code]: {**class_values(counts, code), "support": support[code]} for code in shown
    }
    if problem == "multiclass":
        ranks = _multiclass_scores(values, columns, actual, classes)
        for code in shown:
            auc, average_precision = ranks.get(code, (None, None))
            per_class[classes[code]] |= {"auc": auc, "average_precision": average_precision}
    else:
        name = None if reading.undecided else positive_class(classes, reading.positive)
        if name is not None:
            code = classes.index(name) if name in classes else -1
            values |= class_values(counts, code) if code >= 0 else {}
            score = positive_scores(columns.score, columns.predicted, reading, name, code)
            _binary_scores(values, columns, score, actual, code)
    return per_class, confusion(actual, predicted, shown, classes)


def _binary_scores(values: Values, columns: WindowColumns, score: Float, actual: Int, code: int) -> None:
    """Fill the metrics of the positive class's score, shape (n,), over the outcomes that carry one.

    Where an outcome has no score, its probability of the positive class is taken.
    """
    if columns.probabilities is not None and 0 <= code < columns.probabilities.shape[1]:
        score = np.where(np.isnan(score), columns.probabilities[:, code], score)
    scored = ~np.isnan(score)
    if not scored.any():
        return
    score, weight, is_positive = score[scored], columns.weight[scored], (actual == code)[scored]
    values["auc"], values["average_precision"] = rank_values(score, is_positive, weight)
    values |= binary_probability_values(is_positive, score, weight)


def _multiclass_scores(
    values: Values, columns: WindowColumns, actual: Int, classes: Sequence[str]
) -> dict[int, tuple[float | None, float | None]]:
    """Fill the metrics of class probabilities, over the outcomes that carry them; give (AUC, AP) per class code.

    One against the rest, macro: the mean over the classes that occur among the labels and are not the only one.
    """
    if columns.probabilities is None:
        return {}
    scored: Bool = ~np.isnan(columns.probabilities[:, 0])
    if not scored.any():
        return {}
    actual, weight = actual[scored], columns.weight[scored]
    probabilities: Float = columns.probabilities[scored]
    values |= multiclass_probability_values(actual, probabilities, weight, len(classes))
    absent = np.zeros(actual.size)  # the probability of a class beyond the last column
    by_class = np.ascontiguousarray(probabilities.T)
    ranks: dict[int, tuple[float | None, float | None]] = {}
    for code in np.flatnonzero(np.bincount(actual)).tolist():
        score = by_class[code] if code < by_class.shape[0] else absent
        ranks[code] = rank_values(score, actual == code, weight)
    values["auc"] = mean_of_defined(auc for auc, _ in ranks.values()) if sums_to_one(probabilities) else None
    values["average_precision"] = mean_of_defined(mean for _, mean in ranks.values())
    return ranks
