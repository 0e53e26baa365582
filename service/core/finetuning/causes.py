"""Why a model is to be fine-tuned: the open incidents that ask for it, and what was tried for them so far."""

import msgspec

from schemas.outputs import Alert, Evidence, Severity

MAX_CAUSES = 1000
"""Incidents that may ask for fine-tuning at a time. Further ones are counted and ask for nothing."""


class Cause(msgspec.Struct, kw_only=True):
    """An incident that asks for fine-tuning."""

    incident_id: str
    model_version: str
    severity: Severity
    summary: str
    evidence: tuple[Evidence, ...]
    change_outcome: int
    """Outcomes of the version before the change."""


class Effort(msgspec.Struct, kw_only=True):
    """What was tried for one model version since its oldest open cause. One trigger answers all its causes.

    Were attempts counted per cause, concept drift and the fallen metric that comes with it would double them.
    """

    attempts: int = 0
    continue_from: str
    """The version that the next attempt begins with: the incidents' own, or the one that the last attempt made."""
    stateful_failure: str | None = None
    """How the last stateful attempt was verified not to be better."""
    exhausted_told: bool = False
    """Readers know that there will be no further attempt."""


class Causes(msgspec.Struct):
    """The open causes, oldest first, and the effort for each of their versions."""

    causes: list[Cause] = []
    efforts: dict[str, Effort] = {}

    def take(self, alert: Alert, change_outcome: int) -> bool:
        """Add the incident of an alert, or take its newer evidence; say whether there was room."""
        for cause in self.causes:
            if cause.incident_id == alert.incident_id:
                # The change point stays: a training window that began later than promised would lose labels.
                cause.severity, cause.summary, cause.evidence = alert.severity, alert.summary, alert.evidence
                return True
        if len(self.causes) >= MAX_CAUSES:
            return False
        new = Cause(
            incident_id=alert.incident_id,
            model_version=alert.model_version,
            severity=alert.severity,
            summary=alert.summary,
            evidence=alert.evidence,
            change_outcome=change_outcome,
        )
        self.causes.append(new)
        self.efforts.setdefault(alert.model_version, Effort(continue_from=alert.model_version))
        return True

    def remove(self, incident_id: str) -> list[str]:
        """Forget an incident; give the versions whose exhaustion is over with it."""
        self.causes = [cause for cause in self.causes if cause.incident_id != incident_id]
        return self._forget_efforts()

    def keep_only(self, version: str) -> list[str]:
        """Forget the incidents of all other versions; give the versions whose exhaustion is over with them."""
        self.causes = [cause for cause in self.causes if cause.model_version == version]
        return self._forget_efforts()

    def next_eligible(self, max_attempts: int) -> Cause | None:
        """Give the oldest cause for which there is an attempt left."""
        return next((cause for cause in self.causes if self.efforts[cause.model_version].attempts < max_attempts), None)

    def count_attempt(self, cause: Cause) -> int:
        """Count a trigger that answers a cause, and with it all causes of that version; give its number."""
        effort = self.efforts[cause.model_version]
        effort.attempts += 1
        return effort.attempts

    def note(self, version: str, *, continue_from: str | None = None, stateful_failure: str | None = None) -> None:
        """Remember how an attempt went, if anything of that version is still open."""
        effort = self.efforts.get(version)
        if effort is not None:
            effort.continue_from = continue_from or effort.continue_from
            effort.stateful_failure = stateful_failure or effort.stateful_failure

    def of_version(self, version: str) -> Cause | None:
        """Give the oldest cause of a version."""
        return next((cause for cause in self.causes if cause.model_version == version), None)

    def made(self, version: str) -> bool:
        """Say whether an attempt for another version's open causes has made this one."""
        return any(effort.continue_from == version for old, effort in self.efforts.items() if old != version)

    def newly_exhausted(self, max_attempts: int) -> list[str]:
        """Give the versions that have had their last attempt, each once."""
        spent = [
            version
            for version, effort in self.efforts.items()
            if effort.attempts >= max_attempts and not effort.exhausted_told
        ]
        for version in spent:
            self.efforts[version].exhausted_told = True
        return spent

    def _forget_efforts(self) -> list[str]:
        open_versions = {cause.model_version for cause in self.causes}
        gone = [version for version in self.efforts if version not in open_versions]
        return [version for version in gone if self.efforts.pop(version).exhausted_told]
