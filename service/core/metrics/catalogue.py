"""Every metric by name: for which problems it exists and which way is better. Formulas: docs/metrics.md."""

from types import MappingProxyType
from typing import Literal

import msgspec

ResolvedProblem = Literal["binary", "multiclass", "regression"]
"""A problem once `auto` has been decided."""

Orientation = Literal["higher", "lower", "zero"]
"""Which way is better. `zero`: the nearer to zero."""


class MetricInfo(msgspec.Struct, frozen=True):
    """What a rule that names a metric must know of it."""

    problems: tuple[ResolvedProblem, ...]
    orientation: Orientation
    estimated: bool = False
    """From the confidence of predictions, without labels."""


_BINARY: tuple[ResolvedProblem, ...] = ("binary",)
_CLASSES: tuple[ResolvedProblem, ...] = ("binary", "multiclass")
_NUMBERS: tuple[ResolvedProblem, ...] = ("regression",)

METRICS: MappingProxyType[str, MetricInfo] = MappingProxyType(
    {
        "accuracy": MetricInfo(_CLASSES, "higher"),
        "balanced_accuracy": MetricInfo(_CLASSES, "higher"),
        "precision": MetricInfo(_BINARY, "higher"),
        "recall": MetricInfo(_BINARY, "higher"),
        "f1": MetricInfo(_BINARY, "higher"),
        "precision_macro": MetricInfo(_CLASSES, "higher"),
        "recall_macro": MetricInfo(_CLASSES, "higher"),
        "f1_macro": MetricInfo(_CLASSES, "higher"),
        "precision_weighted": MetricInfo(_CLASSES, "higher"),
        "recall_weighted": MetricInfo(_CLASSES, "higher"),
        "f1_weighted": MetricInfo(_CLASSES, "higher"),
        "auc": MetricInfo(_CLASSES, "higher"),
        "average_precision": MetricInfo(_CLASSES, "higher"),
        "log_loss": MetricInfo(_CLASSES, "lower"),
        "brier": MetricInfo(_CLASSES, "lower"),
        "estimated_accuracy": MetricInfo(_CLASSES, "higher", estimated=True),
        "estimated_precision": MetricInfo(_BINARY, "higher", estimated=True),
        "estimated_recall": MetricInfo(_BINARY, "higher", estimated=True),
        "estimated_f1": MetricInfo(_BINARY, "higher", estimated=True),
        "mae": MetricInfo(_NUMBERS, "lower"),
        "mse": MetricInfo(_NUMBERS, "lower"),
        "rmse": MetricInfo(_NUMBERS, "lower"),
        "mape": MetricInfo(_NUMBERS, "lower"),
        "r2": MetricInfo(_NUMBERS, "higher"),
        "bias": MetricInfo(_NUMBERS, "zero"),
    }
)
"""Metric name, as users of scikit-learn know it, to its description. Insertion order is reading order."""


def metric_names(problem: ResolvedProblem) -> list[str]:
    """Give the names of the metrics on outcomes that exist for a problem, in reading order."""
    return [name for name, info in METRICS.items() if problem in info.problems and not info.estimated]


def estimate_names(problem: ResolvedProblem) -> list[str]:
    """Give the names of the estimates that exist for a problem, in reading order."""
    return [name for name, info in METRICS.items() if problem in info.problems and info.estimated]
