"""Performance rules: limits that a person set for rolling metrics."""

from collections.abc import Iterator, Sequence

from schemas.outputs import Evidence, WindowMetrics
from service.core.findings import Finding, Level
from service.core.metrics import METRICS
from service.core.settings import PerformanceRule


def judge_rules(
    rules: Sequence[PerformanceRule], windows: Sequence[WindowMetrics], breached: set[str], sequence: int, now_ms: int
) -> Iterator[Finding]:
    """Hold rolling metrics against rules; give what changed, and keep in `breached` which rules are."""
    by_name = {window.window: window for window in windows}
    for rule in rules:
        window = by_name.get(rule.window)
        value = None if window is None else window.values.get(rule.metric)
        if window is None or value is None or _count(window, rule) < rule.min_count:
            continue
        subject = f"{rule.metric}@{rule.window}"
        is_breached = value < rule.below if rule.below is not None else value > (rule.above or 0.0)
        if is_breached != (subject in breached):
            (breached.add if is_breached else breached.discard)(subject)
            yield _finding(rule, value, window, sequence, now_ms, breached=is_breached)


def _count(window: WindowMetrics, rule: PerformanceRule) -> int:
    """Say of how many outcomes, or predictions, a rule's metric is made."""
    return window.predictions if METRICS[rule.metric].estimated else window.count


def _finding(
    rule: PerformanceRule, value: float, window: WindowMetrics, sequence: int, now_ms: int, *, breached: bool
) -> Finding:
    subject, limit = f"{rule.metric}@{rule.window}", rule.below if rule.below is not None else rule.above
    evidence = Evidence(
        detector="rule",
        subject=subject,
        statistic=value,
        threshold=0.0 if limit is None else limit,
        sample_count=_count(window, rule),
        after=value,
    )
    return Finding(
        sequence=sequence,
        time_ms=now_ms,
        kind="performance",
        subject=subject,
        level=Level.DRIFT if breached else Level.STABLE,
        severity=rule.severity,
        evidence=(evidence,),
        resolution=None if breached else f"{rule.metric} over {rule.window} is {value:.4g} again",
    )
