"""What is known of a model's labels, and the words in which people are told that they are missing."""

from enum import StrEnum
from typing import Any, Final

import msgspec

from schemas.outputs import Evidence
from service.core.advice import duration, figure, instant
from service.core.findings import Finding, Level
from service.core.plain import to_plain

DETECTOR: Final = "label_flow"
NO_EXAMPLE: Final = (1 << 62, "")


class Cause(StrEnum):
    """Why labels are missing, as far as can be told. The value is the subject of the incident."""

    ABSENT = "labels_absent"
    """None ever came."""
    STOPPED = "labels_stopped"
    """They came, and come no more."""
    FEWER = "labels_fewer"
    """They come for a much smaller share of predictions than usual."""
    UNMATCHED = "labels_unmatched"
    """They come, and none meets a prediction."""
    LATE = "labels_late"
    """They come when their predictions are not waited for any more."""


class LabelFacts(msgspec.Struct, kw_only=True):
    """What is known. Times are of the model's clock, milliseconds since 1970; the rest are counts and examples."""

    horizon_ms: int = 0
    predictions: int = 0
    labels: int = 0
    """Labels that met their prediction."""
    first_ms: int | None = None
    """When the first prediction came."""
    first_label_ms: int | None = None
    """When the first label came that met its prediction."""
    last_ms: int | None = None
    """When the last label came that met its prediction."""
    prediction_example: tuple[int, str] = NO_EXAMPLE
    """Number of its record, and id."""
    label_example: str = ""
    late_example: str = ""
    unmatched: int = 0
    """Labels without a prediction, since the last ones with one."""
    unmatched_first_ms: int | None = None
    late: int = 0
    """Labels of predictions that were not waited for any more, likewise."""
    late_first_ms: int | None = None
    late_age_ms: int = 0
    """Age of the oldest of these predictions when its label came."""
    gone: int = 0
    """Predictions that have left the join without a label, since the last label that met its prediction."""
    usual_delay_ms: int | None = None
    told_from_ms: int = 0
    """From when on the usual delay may be known."""
    usual_coverage: float | None = None
    run: int = 0
    """Due predictions without a label, since the last one with one."""
    fallen: tuple[int, int] = (0, 0)
    """Due predictions, and labelled ones, since coverage fell."""

    def forget_unmet(self) -> None:
        """Forget labels that met nothing: others have met their prediction since."""
        self.unmatched = self.late = self.late_age_ms = 0
        self.unmatched_first_ms = self.late_first_ms = None
        self.label_example = self.late_example = ""
        self.prediction_example = NO_EXAMPLE

    def snapshot(self) -> dict[str, Any]:
        """Give it as plain data."""
        return to_plain(self)


def missing(cause: Cause, facts: LabelFacts, statistic: float, threshold: float, now_ms: int, sequence: int) -> Finding:
    """Say that labels are missing."""
    evidence = Evidence(
        detector=DETECTOR,
        subject=cause.value,
        statistic=statistic,
        threshold=threshold,
        sample_count=max(facts.run, facts.fallen[0]),
        before=facts.usual_coverage,
        after=facts.fallen[1] / facts.fallen[0] if facts.fallen[0] else 0.0,
    )
    return Finding(
        sequence=sequence,
        time_ms=now_ms,
        kind="operational",
        subject=cause.value,
        level=Level.DRIFT,
        evidence=(evidence,),
        summary=_summary(cause, facts),
    )


def restored(cause: Cause, follows: Cause | None, facts: LabelFacts, now_ms: int, sequence: int) -> Finding:
    """Say that a cause is gone: labels come again, or another cause says more."""
    why = "labels come again" if follows is None else f"more is known now: {_summary(follows, facts)}"
    return Finding(
        sequence=sequence,
        time_ms=now_ms,
        kind="operational",
        subject=cause.value,
        level=Level.STABLE,
        resolution=why,
    )


def _summary(cause: Cause, facts: LabelFacts) -> str:
    horizon = f"core.join.label_horizon_ms ({duration(facts.horizon_ms)})"
    usual = "" if facts.usual_delay_ms is None else f"; 95 % usually come within {duration(facts.usual_delay_ms)}"
    due, labelled = facts.fallen
    match cause:
        case Cause.ABSENT:
            since = instant(facts.first_ms or 0)
            return (
                f"no label has come for any of {facts.predictions:,} predictions since {since}; predictions wait for "
                f"{horizon}{usual}"
            )
        case Cause.STOPPED:
            return (
                f"labels stopped: the last of {facts.labels:,} came at {instant(facts.last_ms or 0)}, and "
                f"{max(facts.run, due - labelled):,} predictions that should have one by now have none{usual}"
            )
        case Cause.FEWER:
            return (
                f"labels come for {labelled:,} of {due:,} predictions ({labelled / max(due, 1):.0%}) where "
                f"{facts.usual_coverage or 0.0:.0%} is usual{usual}; beside these, {facts.unmatched:,} labels found no "
                f"prediction and {facts.late:,} came behind {horizon}"
            )
        case Cause.UNMATCHED:
            return (
                f"labels come and none meets a prediction: {facts.unmatched:,} since "
                f'{instant(facts.unmatched_first_ms or 0)}, as of "{figure(facts.label_example)}", while predictions '
                f'wait, as "{figure(facts.prediction_example[1])}"'
            )
        case Cause.LATE:
            return (
                f"labels come too late: {facts.late:,} since {instant(facts.late_first_ms or 0)}, as of "
                f'"{figure(facts.late_example)}", up to {duration(facts.late_age_ms)} after their predictions, which '
                f"wait for {horizon}"
            )
