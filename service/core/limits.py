"""Limits that were hit, told to people: one operational incident each. What is beyond a limit is counted elsewhere."""

from typing import Any, Final, TypedDict

from detectors.protocol import StateError
from schemas.outputs import Evidence
from service.core.advice import MEMORY_SUBJECT, MODELS_SUBJECT, PARKED_SUBJECT, UNPREDICTED_SUBJECT
from service.core.alerting import AlertPolicy, Transition
from service.core.effects import Caused
from service.core.findings import ALL, Finding, Level
from service.core.roster import Roster
from service.core.settings import CoreSettings

_VERSION: Final = 2

_WORDS: Final[dict[str, str]] = {
    "max_features": "feature names beyond feature_drift.max_features",
    "max_categories": "category values beyond feature_drift.max_categories, or longer than 256 characters,",
    "max_embeddings": "vectors of embeddings beyond embedding_drift.max_embeddings",
    "embedding_dimension": "vectors of another dimension than the reference's",
    "embedding_not_finite": "vectors with a number that is not finite",
    "max_classes": "predictions or labels with a class beyond performance.max_classes",
    "max_segment_values": "outcomes of segment values beyond max_segment_values",
    "probabilities_dropped": "vectors of probabilities longer than are kept",
    "max_join_entries": "waiting predictions beyond join.max_entries or join.max_bytes",
}


def limit_finding(name: str, hits: int, sequence: int, now_ms: int) -> Finding:
    """Say that a limit of a model version was hit so often."""
    what = _WORDS.get(name, f"values beyond {name}")
    return _finding(name, hits, 1, f"{hits:,} {what} so far: counted, not watched", sequence, now_ms)


class LimitsState(TypedDict):
    """The snapshot of TaskLimits. Incidents are checked by their policy."""

    version: int
    told: list[str]
    alerts: dict[str, Any]


class TaskLimits:
    """The limits that no model's own policy can tell of: how many models there are."""

    def __init__(self, settings: CoreSettings) -> None:
        self._max_models = settings.max_models
        self._max_unpredicted = settings.max_unpredicted_models
        self._max_monitor_bytes = settings.max_monitor_bytes
        self._max_parked_bytes = settings.max_parked_monitor_bytes
        self.alerts = AlertPolicy(ALL, settings.default.alerts)
        """The incidents about the whole task."""
        self._told: set[str] = set()

    def tick(self, now_ms: int, sequence: int, roster: Roster) -> list[Caused]:
        """Tell, once, that events were refused before the record with this number. Call it at each tick."""
        transitions = self.alerts.tick(now_ms)
        for subject, first_refused, limit, what in (
            (MODELS_SUBJECT, roster.first_refused, self._max_models, "models or versions are watched; events"),
            (
                UNPREDICTED_SUBJECT,
                roster.first_label_refused,
                self._max_unpredicted,
                "models have labels alone; labels",
            ),
        ):
            if subject not in self._told and first_refused is not None and first_refused < sequence:
                self._told.add(subject)
                summary = f"{limit:,} {what} of further ones are dead letters"
                finding = _finding(subject, limit, limit, summary, sequence, now_ms)
                transitions += self.alerts.advance(finding, ALL)
        return [Caused(sequence, transition.alert) for transition in transitions]

    def tell_memory(self, evicted: int, dropped: int, sequence: int, now_ms: int) -> list[Caused]:
        """Tell, once each, that versions were put by, and that some were forgotten. Call it behind `tick`."""
        transitions: list[Transition] = []
        for subject, hits, limit, what in (
            (MEMORY_SUBJECT, evicted, self._max_monitor_bytes, "put by until an event needs them"),
            (PARKED_SUBJECT, dropped, self._max_parked_bytes, "forgotten: they begin anew"),
        ):
            if hits and subject not in self._told:
                self._told.add(subject)
                summary = f"monitors of {hits:,} versions were {what} (core.{subject}: {limit:,})"
                transitions += self.alerts.advance(_finding(subject, hits, limit, summary, sequence, now_ms), ALL)
        return [Caused(sequence, transition.alert) for transition in transitions]

    def snapshot(self) -> LimitsState:
        """Give it as plain data."""
        return {"version": _VERSION, "told": sorted(self._told), "alerts": self.alerts.snapshot()}

    def restore(self, state: LimitsState) -> None:
        """Take over a snapshot."""
        if state["version"] > _VERSION:
            raise StateError(f"$.version: {state['version']} is newer than {_VERSION}, which this program reads")
        told = state["told"]
        if state["version"] == 1:  # knew one limit, and whether it was told
            told = [MODELS_SUBJECT] if told else []
        self._told = set(told)
        self.alerts.restore(state["alerts"])


def _finding(subject: str, hits: int, limit: int, summary: str, sequence: int, now_ms: int) -> Finding:
    evidence = Evidence(
        detector="limit", subject=subject, statistic=float(hits), threshold=float(limit), sample_count=hits
    )
    return Finding(
        sequence=sequence,
        time_ms=now_ms,
        kind="operational",
        subject=subject,
        level=Level.DRIFT,
        evidence=(evidence,),
        summary=summary,
    )
