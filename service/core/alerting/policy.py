"""From findings to alerts: one incident per cause, with a life that people's tools know (Prometheus, Alertmanager).

Pure: it moves on findings, on commands and on the watermark, and says what it did. Timers have the event time of
their deadline, not of the record at which the watermark passed it, so an alert does not depend on how busy the
stream was.
"""

from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from schemas.events import MuteAlert
from schemas.outputs import Alert, AlertState, DriftKind, Severity
from service.core.advice import LIMIT_SUBJECT
from service.core.alerting.book import Counts, IncidentBook
from service.core.alerting.cases import Case
from service.core.alerting.incidents import (
    DRIFT_KINDS,
    TRANSITIONS,
    Effect,
    Incident,
    IncidentState,
    Signal,
    Transition,
    state_outside,
)
from service.core.findings import ALL, Finding, Level
from service.core.plain import from_plain, to_plain
from service.core.settings import AlertSettings

VERSION = 1
MAX_MUTES = 1000
"""Muted fingerprints per model. A further mute is refused and counted: its alerts go on being published."""


class _Saved(msgspec.Struct):
    """The snapshot's layout."""

    version: int
    opened: int
    incidents: list[Incident]
    unheard: list[Incident]
    mutes: dict[str, int]
    counts: dict[str, int]
    cases: dict[str, Case] = {}
    """Open cases by model version."""


class AlertPolicy:
    """The incidents of one model, all its versions and segments.

    The caller cuts its records at `next_deadline_ms` and calls `tick` at the first record whose watermark has
    reached it, before anything else of that record. Every method gives transitions in order; `published` picks those
    that readers are to see.
    """

    def __init__(self, model_id: str, settings: AlertSettings) -> None:
        self._settings = settings
        self._book = IncidentBook(model_id, settings.max_incidents)
        self._unheard: list[Incident] = []  # published as firing, ended while muted; at most max_incidents
        self._mutes: dict[str, int] = {}  # fingerprint to the event time at which the mute ends
        self._counts = Counts()

    @property
    def counts(self) -> dict[str, int]:
        """What was opened, published, muted, dropped or refused, since the beginning."""
        return dict(self._counts)

    def fingerprint(self, version: str, finding: Finding) -> str:
        """Identify a cause: the same for all its incidents."""
        return self._book.fingerprint(version, finding)

    def advance(self, finding: Finding, version: str) -> list[Transition]:
        """Take one finding about a model version."""
        out = self.tick(finding.time_ms)
        if finding.level == Level.WARNING and not self._settings.alert_on_warning:
            # Not enough to open an incident, and not the end of one: a cause is gone when it is STABLE.
            self._counts.add("warnings_ignored")
        else:
            self._apply(finding, version, out)
        return out

    def tick(self, watermark_ms: int) -> list[Transition]:
        """Let every deadline up to the watermark take effect, in order."""
        out: list[Transition] = []
        while (due := self._next_timer()) is not None and due[0] <= watermark_ms:
            due[1](due[0], out)
        return out

    def next_deadline_ms(self) -> int | None:
        """Say at which watermark something happens by itself; None: nothing will."""
        due = self._next_timer()
        return due[0] if due is not None else None

    def mute(self, command: MuteAlert, watermark_ms: int) -> list[Transition]:
        """Publish nothing of one cause until the mute ends, counted from the command's event time; 0 unmutes.

        An incident that still fires when the mute ends is published then, as is the end of an incident that had been
        published as firing and ended in between.
        """
        out = self.tick(watermark_ms)
        until = command.event_time_ms + command.mute_for_ms
        if until <= watermark_ms:
            self._unmute(command.fingerprint, watermark_ms, out)
        elif command.fingerprint in self._mutes or len(self._mutes) < MAX_MUTES:
            self._mutes[command.fingerprint] = until
        else:
            self._counts.add("mutes_refused")
        return out

    def supersede(self, version: str, reason: str, time_ms: int) -> list[Transition]:
        """Close the incidents of all other versions: this one was deployed, or verified to be better."""
        return self._close_where(lambda incident: incident.model_version not in (version, ALL), reason, time_ms)

    def withdraw(self, version: str | None, reason: str, time_ms: int) -> list[Transition]:
        """Close the incidents of one version, or of all: its monitors were reset and know nothing of them."""
        return self._close_where(lambda incident: version in (None, incident.model_version), reason, time_ms)

    def accept(self, version: str | None, time_ms: int) -> list[Transition]:
        """Close the incidents of drift of one version, or of all: what they tell of is normal from now on."""
        return self._close_where(
            lambda incident: incident.kind in DRIFT_KINDS and version in (None, incident.model_version),
            "a person has accepted the present as the reference",
            time_ms,
        )

    def open_incidents(self) -> list[Alert]:
        """Show what is open now, pending and muted incidents included, in the order in which they opened."""
        return [
            self._book.render(incident, state_outside(incident.state), incident.sent_ms, muted=self._is_muted(incident))
            for incident in self._book.incidents.values()
        ]

    def firing(self) -> Iterator[tuple[DriftKind, Severity]]:
        """Give kind and severity of each incident that fires now, muted ones included."""
        return ((incident.kind, incident.severity) for incident in self._book.incidents.values() if incident.fires)

    def snapshot(self) -> dict[str, Any]:
        """Give everything that is needed to go on elsewhere, as plain data."""
        incidents = list(self._book.incidents.values())
        cases = self._book.cases.cases
        return to_plain(_Saved(VERSION, self._book.opened, incidents, self._unheard, self._mutes, self._counts, cases))

    def restore(self, state: dict[str, Any]) -> None:
        """Take over a snapshot. Raises NewerStateError or CorruptStateError, and then nothing has changed."""
        saved = from_plain(state, _Saved, VERSION, f"alerts of {self._book.model_id}")
        self._book.opened = saved.opened
        self._book.incidents = {incident.fingerprint: incident for incident in saved.incidents}
        self._unheard = saved.unheard
        self._mutes = saved.mutes
        self._counts = Counts(saved.counts)
        self._book.cases.cases = saved.cases

    # What findings do

    def _apply(self, finding: Finding, version: str, out: list[Transition]) -> None:
        """Move the finding's cause one row of the table."""
        signal = Signal.GONE if finding.level == Level.STABLE else Signal.CAUSE
        fingerprint = self._book.fingerprint(version, finding)
        incident = self._book.incidents.get(fingerprint)
        state = incident.state if incident is not None else IncidentState.INACTIVE
        after, effect = TRANSITIONS[state, signal]
        if incident is None:
            if effect is Effect.OPEN:
                self._open(fingerprint, finding, version, out)
            return
        incident.state = after
        if effect is Effect.STRENGTHEN:
            self._strengthen(incident, finding, out)
        elif effect is Effect.DROP:
            self._drop(incident, finding.time_ms, out)
        elif effect is Effect.HOLD:
            incident.resolution = finding.resolution
            self._start_timer(incident, finding.time_ms, self._settings.keep_firing_for_ms, out)

    def _open(self, fingerprint: str, finding: Finding, version: str, out: list[Transition]) -> None:
        if finding.subject != LIMIT_SUBJECT and self._book.room() <= 0:
            self._counts.add("causes_beyond_limit")
            limit = self._book.limit_incident()
            word = self._book.limit_finding(sequence=finding.sequence, time_ms=finding.time_ms, reached=True)
            self._apply(word, version if limit is None else limit.model_version, out)
            return
        self._counts.add("opened")
        incident = self._book.add(fingerprint, finding, version, self._counts)
        self._start_timer(incident, finding.time_ms, self._settings.pending_for_ms, out)

    def _strengthen(self, incident: Incident, finding: Finding, out: list[Transition]) -> None:
        """Take newer evidence; tell readers of it if it is worse, or (not too often) if it names new features."""
        grew = self._book.take_evidence(incident, finding, self._counts)
        worse = self._book.raise_severity(incident, finding)
        if not incident.fires:
            return
        incident.deadline_ms = None
        incident.resolution = None
        worse |= self._book.judge_company(incident) or finding.further is not None
        incident.news |= finding.further == "worse"
        # A feature set that grows is worth an update, but drift that creeps through hundreds of features is not
        # worth hundreds of them.
        earliest = incident.sent_ms + self._settings.keep_firing_for_ms
        if worse or (grew and finding.time_ms >= earliest):
            self._announce(incident, finding.time_ms, out)
        elif grew:
            incident.update_due_ms = earliest
        self._announce_company(incident, finding.time_ms, out)

    # What timers and commands do

    def _start_timer(self, incident: Incident, time_ms: int, duration_ms: int, out: list[Transition]) -> None:
        incident.deadline_ms = time_ms + duration_ms
        if duration_ms == 0:
            self._expire(incident, time_ms, out)

    def _next_timer(self) -> tuple[int, Callable[[int, list[Transition]], None]] | None:
        """Give the earliest deadline and what it does. At equal times: deadlines, updates, mutes; oldest first."""
        best: tuple[int, Callable[[int, list[Transition]], None]] | None = None
        for incident in self._book.incidents.values():
            if incident.deadline_ms is not None and (best is None or incident.deadline_ms < best[0]):
                best = incident.deadline_ms, lambda at, out, due=incident: self._expire(due, at, out)
        for incident in self._book.incidents.values():
            if incident.update_due_ms is not None and (best is None or incident.update_due_ms < best[0]):
                best = incident.update_due_ms, lambda at, out, due=incident: self._announce(due, at, out)
        for fingerprint, until in self._mutes.items():
            if best is None or until < best[0]:
                best = until, lambda at, out, due=fingerprint: self._unmute(due, at, out)
        return best

    def _expire(self, incident: Incident, time_ms: int, out: list[Transition]) -> None:
        incident.state, effect = TRANSITIONS[incident.state, Signal.DUE]
        incident.deadline_ms = None
        if effect is Effect.FIRE:
            incident.fired_ms = time_ms
            self._counts.add("fired")
            self._book.judge_company(incident)
            self._announce(incident, time_ms, out)
            self._announce_company(incident, time_ms, out)
        else:
            self._resolve(incident, time_ms, incident.resolution or "the cause is gone", out)

    def _close_where(self, chosen: Callable[[Incident], bool], reason: str, time_ms: int) -> list[Transition]:
        out = self.tick(time_ms)
        for incident in [incident for incident in self._book.incidents.values() if chosen(incident)]:
            # Closing one may already have resolved the incident that says that the limit was reached.
            if incident.fingerprint not in self._book.incidents:
                continue
            incident.state, effect = TRANSITIONS[incident.state, Signal.CLOSED]
            if effect is Effect.DROP:
                self._drop(incident, time_ms, out)
            else:
                self._resolve(incident, time_ms, reason, out)
        return out

    def _unmute(self, fingerprint: str, time_ms: int, out: list[Transition]) -> None:
        self._mutes.pop(fingerprint, None)
        for ended in [ended for ended in self._unheard if ended.fingerprint == fingerprint]:
            self._unheard.remove(ended)
            self._step(ended, "resolved", time_ms, out)
        incident = self._book.incidents.get(fingerprint)
        if incident is not None and incident.fires and incident.owed:
            self._announce(incident, time_ms, out)

    def _is_muted(self, incident: Incident) -> bool:
        return incident.fingerprint in self._mutes

    # What happens to an incident

    def _announce(self, incident: Incident, time_ms: int, out: list[Transition]) -> None:
        """Make one firing transition."""
        incident.update_due_ms = None
        incident.sent_ms = time_ms
        incident.owed = self._is_muted(incident)
        incident.known |= not incident.owed
        self._book.cases.join(incident)
        self._step(incident, "firing", time_ms, out)

    def _announce_company(self, incident: Incident, time_ms: int, out: list[Transition]) -> None:
        """Tell readers of what moved before that it is not harmless any more, and of a case's advice that changed."""
        for other in self._book.no_longer_harmless(incident):
            self._announce(other, time_ms, out)
        self._revise(incident.model_version, time_ms, out)

    def _revise(self, model_version: str, time_ms: int, out: list[Transition]) -> None:
        """Tell the advice of a version's case anew where a part that came or went has changed it."""
        lead = self._book.outdated(model_version)
        if lead is not None:
            self._announce(lead, time_ms, out)

    def _resolve(self, incident: Incident, time_ms: int, resolution: str, out: list[Transition]) -> None:
        incident.ended_ms = time_ms
        incident.resolution = resolution
        self._counts.add("resolved")
        self._step(incident, "resolved", time_ms, out)
        if incident.known and self._is_muted(incident):
            self._unheard.append(incident)
            if len(self._unheard) > self._settings.max_incidents:
                self._unheard.pop(0)
                self._counts.add("resolutions_lost")
        self._remove(incident, time_ms, out)

    def _drop(self, incident: Incident, time_ms: int, out: list[Transition]) -> None:
        self._counts.add("pending_dropped")
        self._remove(incident, time_ms, out)

    def _remove(self, incident: Incident, time_ms: int, out: list[Transition]) -> None:
        del self._book.incidents[incident.fingerprint]
        self._book.cases.leave(incident, self._book.incidents.values())
        self._revise(incident.model_version, time_ms, out)
        limit = self._book.limit_incident()
        if limit is not None and self._book.room() > 0:
            # STABLE opens nothing, so no identifier comes of the sequence.
            word = self._book.limit_finding(sequence=0, time_ms=time_ms, reached=False)
            self._apply(word, limit.model_version, out)

    def _step(self, incident: Incident, state: AlertState, time_ms: int, out: list[Transition]) -> None:
        incident.transition += 1
        alert = self._book.render(incident, state, time_ms, muted=self._is_muted(incident))
        self._counts.add("muted" if alert.muted else "published")
        self._book.note_told(incident, alert)
        transition = Transition(
            alert=alert,
            level=Level(incident.level),
            change_outcome=incident.change_outcome,
            change_time_ms=incident.change_time_ms,
        )
        out.append(transition)
