"""Performance rules: what is said where a rolling metric crosses its line."""

from schemas.outputs import Evidence, WindowMetrics
from service.core.findings import Finding, Level
from service.core.settings import PerformanceRule


def rule_finding(
    rule: PerformanceRule,
    subject: str,
    value: float,
    window: WindowMetrics,
    sequence: int,
    now_ms: int,
    *,
    breached: bool,
) -> Finding:
    """Say that a rolling metric crossed its line, or came back; `window` is the one that the value was computed on."""
    limit = rule.below if rule.below is not None else rule.above
    threshold = 0.0 if limit is None else limit
    evidence = Evidence(
        detector="rule", subject=subject, statistic=value, threshold=threshold, sample_count=window.count, after=value
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
