"""One case a drift: the incidents of one model version that fire together are its parts.

Whoever is told of a drift wants one story: what moved, how bad it is, what to do. A case opens with the first incident
that fires, later ones join it while any of its parts fires, and it ends with the last of them. It has one severity (the
highest that was told), one advice (that of its leading part, in the company of the others; it is told again when it
changes), and a person is to be notified of it when it opens, gets worse, or ends, not of each of its parts.
"""

from collections.abc import Iterable
from typing import Final

import msgspec

from schemas.identity import derive_id
from schemas.outputs import CasePart, DriftKind, Severity
from service.core.alerting.incidents import Incident, IncidentState

LEADING: Final[tuple[DriftKind, ...]] = (
    "concept_drift",
    "performance",
    "data_quality",
    "data_drift",
    "label_drift",
    "prediction_drift",
)
"""Kinds that make cases. The first of them that fires leads: its advice is the case's."""
MAX_PARTS: Final = 32
"""Parts that an alert lists, firing ones first, then the newest. A model has six kinds and some embeddings."""


class Case(msgspec.Struct, kw_only=True):
    """The parts of one model version that fire together. Times are event time in milliseconds."""

    case_id: str
    model_version: str
    opened_ms: int
    told: Severity | None = None
    """The highest severity of which readers were notified; None: of nothing yet."""
    ended: list[CasePart] = []
    """Parts that have ended while others fire."""


class CaseBook:
    """The open cases of one model: at most one for each version with firing incidents."""

    def __init__(self) -> None:
        self.cases: dict[str, Case] = {}

    def of(self, incident: Incident) -> Case | None:
        """Give the case that an incident is a part of."""
        case = self.cases.get(incident.model_version)
        return case if case is not None and incident.case_id == case.case_id else None

    def join(self, incident: Incident) -> None:
        """Let an incident that fires be part of its version's case, which opens with it if there is none."""
        if incident.kind not in LEADING or self.of(incident) is not None:
            return
        case = self.cases.get(incident.model_version)
        if case is None:
            case_id = derive_id("case", incident.incident_id)
            opened_ms = incident.opened_ms if incident.fired_ms is None else incident.fired_ms
            case = Case(case_id=case_id, model_version=incident.model_version, opened_ms=opened_ms)
            self.cases[incident.model_version] = case
        incident.case_id = case.case_id

    def leave(self, incident: Incident, incidents: Iterable[Incident]) -> None:
        """Take note that an incident has ended; with its last part the case has ended too."""
        case = self.of(incident)
        if case is None:
            return
        if any(other.fires and self.of(other) is case for other in incidents if other is not incident):
            case.ended = [*case.ended, part_of(incident, "resolved")][-MAX_PARTS:]
        else:
            del self.cases[incident.model_version]

    def parts(self, case: Case, incidents: Iterable[Incident]) -> tuple[CasePart, ...]:
        """Give the parts of a case, those that fire first, in the order in which they joined."""
        firing = [part_of(one, "firing") for one in incidents if one.fires and self.of(one) is case]
        return tuple([*firing, *reversed(case.ended)][:MAX_PARTS])

    def lead(self, case: Case, incidents: Iterable[Incident]) -> Incident | None:
        """Give the part whose advice is the case's; None where none fires any more."""
        firing = [one for one in incidents if one.fires and self.of(one) is case]
        return min(firing, key=lambda one: LEADING.index(one.kind), default=None)


def is_news(case: Case, severity: Severity, *, update: bool) -> bool:
    """Whether a person is to be notified of a firing part: nothing was told of its case yet, or nothing as bad."""
    return update or case.told is None or (case.told == "warning" and severity == "critical")


def part_of(incident: Incident, state: str) -> CasePart:
    """Describe an incident as a part of its case."""
    return CasePart(
        kind=incident.kind,
        subject=incident.subject,
        incident_id=incident.incident_id,
        state="resolved" if state == "resolved" or incident.state is IncidentState.INACTIVE else "firing",
        severity=incident.severity,
        starts_at_ms=incident.opened_ms if incident.fired_ms is None else incident.fired_ms,
        change_time_ms=incident.change_time_ms,
    )
