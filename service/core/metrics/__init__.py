"""Rolling metrics of one model version: the window of outcomes, the metrics over it, quantiles of latencies.

Everything is computed on demand from what the window holds, in order: no running sums, hence no drift of rounding
and no trace of where batches were cut.
"""

from service.core.metrics.catalogue import METRICS, MetricInfo, ResolvedProblem
from service.core.metrics.estimate import PerformanceEstimate
from service.core.metrics.losses import loss
from service.core.metrics.quantiles import QuantileHistogram
from service.core.metrics.report import positive_class, window_metrics
from service.core.metrics.scores import ANSWER, UNDECIDED, ScoreReading, shown_by_answers
from service.core.metrics.selection import Since, WindowColumns
from service.core.metrics.window import OutcomeWindow

__all__ = [
    "ANSWER",
    "METRICS",
    "UNDECIDED",
    "MetricInfo",
    "OutcomeWindow",
    "PerformanceEstimate",
    "QuantileHistogram",
    "ResolvedProblem",
    "ScoreReading",
    "Since",
    "WindowColumns",
    "loss",
    "positive_class",
    "shown_by_answers",
    "window_metrics",
]
