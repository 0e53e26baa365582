"""Predictions that come with identifiers of earlier ones: a few are retries, many are a producer's mistake."""

from typing import Final, NamedTuple, TypedDict

from schemas.outputs import Evidence
from service.core.advice import REPEATED_SUBJECT, figure
from service.core.findings import Finding, Level
from service.core.inputs.versions import require_version
from service.core.loss_feed import NEVER

MANY: Final = 20
"""Repetitions that are judged together."""
SHARE: Final = 0.05
"""Share of repetitions from which it is told: MANY among at most MANY / SHARE = 400 predictions in a row."""
_VERSION: Final = 1


_NONE: Final = (NEVER, "")


class Repeated(NamedTuple):
    """Predictions of a stretch that were dropped because their identifier is known."""

    predictions: int
    sequence: int
    """Number of the first of them."""
    prediction_id: str
    """Its identifier."""
    last_ms: int
    """Watermark at the last of them."""


class RepeatedIdsState(TypedDict):
    """The snapshot of a RepeatedIds."""

    version: int
    predictions: int
    repeated: int
    example: tuple[int, str]
    told: bool
    due_ms: int


class RepeatedIds:
    """Counts, for one model, predictions that were dropped because their identifier was known."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Become as new."""
        self._predictions = 0
        """New and repeated ones since the last judgement."""
        self._repeated = 0
        self._example = _NONE
        """Number of the first of them, and its identifier."""
        self._told = False
        self._due_ms = NEVER

    def note_new(self, count: int, last_ms: int) -> None:
        """Take predictions whose identifier is new; `last_ms`: the watermark at the last of them."""
        self._predictions += count
        self._look(last_ms)

    def note_repeated(self, repeated: Repeated) -> None:
        """Take predictions that were dropped. The versions' shares of a stretch may come in any order."""
        self._example = min(self._example, (repeated.sequence, repeated.prediction_id))
        self._predictions += repeated.predictions
        self._repeated += repeated.predictions
        self._look(repeated.last_ms)

    def _look(self, last_ms: int) -> None:
        if self._repeated >= MANY or (self._told and self._predictions >= MANY / SHARE):
            self._due_ms = min(self._due_ms, last_ms)

    def due_ms(self) -> int:
        """Say at which watermark there is something to decide."""
        return self._due_ms

    def check(self, now_ms: int, sequence: int) -> list[Finding]:
        """Judge what came since the last judgement; give what is new."""
        if now_ms < self._due_ms:
            return []
        repeats = self._repeated >= MANY and self._repeated >= SHARE * self._predictions
        findings = [self._finding(repeats=repeats, now_ms=now_ms, sequence=sequence)] if repeats != self._told else []
        self._told = repeats
        self._predictions = self._repeated = 0
        self._example = _NONE
        self._due_ms = NEVER
        return findings

    def _finding(self, *, repeats: bool, now_ms: int, sequence: int) -> Finding:
        share = self._repeated / max(self._predictions, 1)
        evidence = Evidence(
            detector="repeated_ids",
            subject=REPEATED_SUBJECT,
            statistic=share,
            threshold=SHARE,
            sample_count=self._predictions,
            after=share,
        )
        told = (
            f"{self._repeated:,} of {self._predictions:,} predictions ({share:.0%}) came with the identifier of an "
            f'earlier one, as "{figure(self._example[1])}", and were dropped'
        )
        return Finding(
            sequence=sequence,
            time_ms=now_ms,
            kind="operational",
            subject=REPEATED_SUBJECT,
            level=Level.DRIFT if repeats else Level.STABLE,
            evidence=(evidence,) if repeats else (),
            summary=told if repeats else "",
            resolution=None if repeats else f"{self._repeated:,} of the last {self._predictions:,} predictions",
        )

    def snapshot(self) -> RepeatedIdsState:
        """Give everything that is needed to go on elsewhere."""
        return {
            "version": _VERSION,
            "predictions": self._predictions,
            "repeated": self._repeated,
            "example": self._example,
            "told": self._told,
            "due_ms": self._due_ms,
        }

    def restore(self, state: RepeatedIdsState) -> None:
        """Take over a snapshot. Raises StateError when it is newer than this code."""
        require_version(state, _VERSION, "watch of repeated identifiers")
        self._predictions, self._repeated = state["predictions"], state["repeated"]
        self._example, self._told, self._due_ms = state["example"], state["told"], state["due_ms"]
