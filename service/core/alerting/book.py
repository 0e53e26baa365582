"""The open incidents of one model, and what they say together."""

from typing import Any

from schemas.identity import derive_id
from schemas.outputs import Alert, AlertState, Severity
from service.core.advice import LIMIT_SUBJECT, NOVELTIES, Situation, advise, alertname, change_time, summarise
from service.core.alerting.cases import Case, CaseBook, is_news
from service.core.alerting.incidents import (
    MOVED_KINDS,
    Incident,
    IncidentState,
    merge_evidence,
    new_features,
    plain_evidence,
    severity_of,
)
from service.core.findings import Finding, Level


class Counts(dict[str, int]):
    """Named counters that begin at zero."""

    def add(self, name: str, number: int = 1) -> None:
        """Count. Zero leaves no trace, so that a name in the counters always means that it happened."""
        if number:
            self[name] = self.get(name, 0) + number


class IncidentBook:
    """Open incidents by fingerprint, in the order in which they opened; at most `max_incidents` and one more.

    The one more is the incident that says that the bound was reached.
    """

    def __init__(self, model_id: str, max_incidents: int) -> None:
        self.model_id = model_id
        self.max_incidents = max_incidents
        self.incidents: dict[str, Incident] = {}
        self.cases = CaseBook()
        self.opened = 0
        """Incidents opened so far. It tells incidents of one cause apart that open at the same record."""

    def fingerprint(self, version: str, finding: Finding) -> str:
        """Identify a cause: the same for all its incidents."""
        segment = () if finding.segment is None else (finding.segment,)
        return derive_id("alert", self.model_id, version, finding.kind, finding.subject, *segment)

    def add(self, fingerprint: str, finding: Finding, version: str, counts: Counts) -> Incident:
        """Open a pending incident without a deadline."""
        self.opened += 1
        incident = Incident(
            incident_id=derive_id("incident", fingerprint, finding.sequence, self.opened),
            fingerprint=fingerprint,
            model_version=version,
            kind=finding.kind,
            subject=finding.subject,
            segment=finding.segment,
            state=IncidentState.PENDING,
            level=int(finding.level),
            severity=severity_of(finding),
            harmless=finding.kind in MOVED_KINDS,
            opened_ms=finding.time_ms,
            sent_ms=finding.time_ms,
            summary="",
        )
        self.incidents[fingerprint] = incident
        self.take_evidence(incident, finding, counts)
        return incident

    def take_evidence(self, incident: Incident, finding: Finding, counts: Counts) -> bool:
        """Let newer evidence replace older; say whether it names features that the incident did not know.

        The estimated change stays what it was when first named: later estimates drift away from the cause.
        """
        incident.summary = summarise(self.model_id, incident.model_version, finding)
        if incident.change_outcome is None:
            incident.change_outcome = finding.change_outcome
        if incident.change_time_ms is None:
            incident.change_time_ms = change_time(finding)
        new = plain_evidence(finding)
        incident.evidence, lost = merge_evidence(incident.evidence, new)
        counts.add("evidence_dropped", lost)
        fresh, unknown = new_features(incident, new)
        incident.features.extend(fresh)
        counts.add("features_beyond_limit", unknown)
        return bool(fresh)

    def raise_severity(self, incident: Incident, finding: Finding) -> bool:
        """Raise level and severity to the finding's; say whether one rose. Neither ever falls in one incident."""
        rose = int(finding.level) > incident.level
        incident.level = max(incident.level, int(finding.level))
        if incident.severity == "warning" and severity_of(finding) == "critical":
            incident.severity = "critical"
            rose = True
        return rose

    def judge_company(self, incident: Incident) -> bool:
        """Make what moved critical once the model of that version got worse; say whether it became so."""
        if incident.kind not in MOVED_KINDS or not incident.harmless or not self._harmed(incident.model_version):
            return False
        incident.harmless = False
        incident.severity = "critical"
        return True

    def no_longer_harmless(self, incident: Incident) -> list[Incident]:
        """Give the firing incidents that this one, which says that the model got worse, makes critical."""
        if not incident.harms:
            return []
        same = [other for other in self.incidents.values() if other.model_version == incident.model_version]
        return [other for other in same if other.state is IncidentState.FIRING and self.judge_company(other)]

    def room(self) -> int:
        """Say how many more incidents may open."""
        taken = sum(1 for incident in self.incidents.values() if incident.subject != LIMIT_SUBJECT)
        return self.max_incidents - taken

    def limit_incident(self) -> Incident | None:
        """Give the incident that says that the bound was reached."""
        return next((open_ for open_ in self.incidents.values() if open_.subject == LIMIT_SUBJECT), None)

    def limit_finding(self, *, sequence: int, time_ms: int, reached: bool) -> Finding:
        """Say that the bound was reached, or that there is room again."""
        words: dict[str, Any] = (
            {
                "level": Level.DRIFT,
                "summary": f"{self.max_incidents} incidents are open, further causes are only counted",
            }
            if reached
            else {"level": Level.STABLE, "resolution": "fewer incidents are open than the limit"}
        )
        return Finding(sequence=sequence, time_ms=time_ms, kind="operational", subject=LIMIT_SUBJECT, **words)

    def render(self, incident: Incident, state: AlertState, time_ms: int, *, muted: bool) -> Alert:
        """Write an incident as readers see it, in the company of its case."""
        case = self.cases.of(incident)
        lead = incident if case is None else self.cases.lead(case, self.incidents.values()) or incident
        firing = [
            one for one in self.incidents.values() if one.fires and case is not None and self.cases.of(one) is case
        ]
        worst: Severity = "critical" if any(one.severity == "critical" for one in firing) else "warning"
        return Alert(
            alert_id=derive_id("transition", incident.incident_id, state, incident.transition),
            incident_id=incident.incident_id,
            fingerprint=incident.fingerprint,
            alertname=alertname(incident.kind, incident.subject),
            model_id=self.model_id,
            model_version=incident.model_version,
            segment=incident.segment,
            kind=incident.kind,
            state=state,
            severity=incident.severity,
            starts_at_ms=incident.opened_ms if incident.fired_ms is None else incident.fired_ms,
            ends_at_ms=incident.ended_ms,
            event_time_ms=time_ms,
            summary=incident.summary,
            advice=self.advice(lead),
            harmless_so_far=incident.harmless,
            muted=muted,
            resolution=incident.resolution if state == "resolved" else None,
            evidence=incident.evidence,
            case_id=None if case is None else case.case_id,
            case_severity=None if case is None else (worst if firing else incident.severity),
            parts=() if case is None else self.cases.parts(case, self.incidents.values()),
            notify=self._is_news(incident, case, state, alone=not [one for one in firing if one is not incident]),
        )

    def advice(self, incident: Incident) -> str:
        """Say what to do about an incident, in the company in which it is now."""
        return advise(incident.kind, incident.subject, self._situation(incident))

    def outdated(self, model_version: str) -> Incident | None:
        """Give the leading part of a version's case where readers know another advice than what is right now."""
        case = self.cases.cases.get(model_version)
        lead = None if case is None else self.cases.lead(case, self.incidents.values())
        if lead is None or not lead.advice or lead.advice == self.advice(lead):
            return None
        return lead

    def note_told(self, incident: Incident, alert: Alert) -> None:
        """Take note of what readers know now."""
        if alert.muted:
            return
        incident.advice, incident.news = alert.advice, False
        case = self.cases.of(incident)
        if case is not None and alert.state == "firing" and alert.notify:
            case.told = "critical" if "critical" in (case.told, incident.severity) else "warning"

    def _is_news(self, incident: Incident, case: Case | None, state: AlertState, *, alone: bool) -> bool:
        if state == "resolved":
            return case is None or alone
        if case is None:
            return incident.transition <= 1 or incident.news
        return is_news(case, incident.severity, update=incident.news)

    def _harmed(self, version: str) -> bool:
        return any(other.harms and other.model_version == version for other in self.incidents.values())

    def _situation(self, incident: Incident) -> Situation:
        company = [
            other
            for other in self.incidents.values()
            if other.model_version == incident.model_version and other.fires and other is not incident
        ]
        harmed = incident.kind in MOVED_KINDS and not incident.harmless
        return Situation(
            inputs_moved=any(other.kind == "data_drift" or _is_novel(other) for other in company),
            # Harm stays: where the loss has come back meanwhile, advice must not say that it never moved.
            loss_moved=harmed or any(other.harms for other in company),
            inputs_broken=any(other.kind == "data_quality" and not _is_novel(other) for other in company),
            novel=_is_novel(incident),
        )


def _is_novel(incident: Incident) -> bool:
    """Say whether a data quality incident is of new categories or features alone, which may well be genuine."""
    found = {piece.detector for piece in incident.evidence}
    return incident.kind == "data_quality" and bool(found) and found <= NOVELTIES
