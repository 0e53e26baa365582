"""One model: its versions' monitors, and the two policies that turn findings into alerts and fine-tune triggers."""

from collections import deque
from typing import ClassVar

from schemas.events import AcceptReference, FineTuneRequest, FineTuneStatus, MuteAlert, ResetMonitor, VersionDeployed
from service.core.alerting import AlertPolicy, Transition
from service.core.columns import Int
from service.core.courses import Course, finish, in_order, next_stop
from service.core.effects import Caused
from service.core.findings import ALL, Finding
from service.core.finetuning import Decision, FineTunePolicy, Refusal, sample_of
from service.core.finetuning.lifecycle import Moment
from service.core.held import Released
from service.core.inputs.versions import require_version
from service.core.label_flow import Unmet
from service.core.layout import inside
from service.core.loss_feed import NEVER, LossFeed
from service.core.prepare import ControlRow, TaskTopics
from service.core.refused import refused
from service.core.repeated_ids import Repeated
from service.core.roster import Model
from service.core.serving import Serving
from service.core.shelf import Shelf
from service.core.supply import Supply
from service.core.training import training_window
from service.core.version import VersionMonitor
from service.core.version_batch import VersionBatch, cut_at
from service.core.version_state import ModelState

_VERSION = 1


class ModelMonitor:
    """Watches one model. Every method gives its outputs with the number of the record that caused them."""

    PARKS: ClassVar[bool] = True
    """Whether its versions may be put by."""

    def __init__(self, model: Model, topics: TaskTopics) -> None:
        self._model = model
        self._topics = topics
        self._interval_ms = model.profile.snapshot_interval_ms
        self.versions = Shelf(self._watch)
        self.alerts = AlertPolicy(model.model_id, model.profile.alerts)
        self.fine_tune = FineTunePolicy(model.model_id, model.profile.fine_tune)
        self.supply = Supply(model.profile.labels, model.label_horizon_ms)
        self._snapshot_due_ms: int | None = None
        self._active: set[str] = set()
        """Versions with events since the last metric snapshot."""
        self._serving = Serving()
        self._since = NEVER
        """Number of its first prediction; -1: of an earlier step."""
        self._joint: list[Course] | None = None
        self._out: list[Caused] = []

    def version(self, model_version: str, sequence: int = -1) -> VersionMonitor:
        """Find a version's monitor, or begin to watch it, at the record with this number."""
        monitor = self.versions.get(model_version)
        if monitor is None:
            self._since = min(self._since, sequence)
            monitor = self.versions[model_version] = self._watch(model_version)
            if model_version not in self.versions.forgotten:  # else it is not the newest
                self._serving.begin(model_version, sequence)
        return monitor

    def _watch(self, model_version: str) -> VersionMonitor:
        """Make a version's monitor. A sweep has its own here."""
        return VersionMonitor(self._model, model_version)

    # ------------------------------------------------------------------------------------------ observe

    def observe(self, model_version: str, batch: VersionBatch) -> list[Caused]:
        """Take a stretch of one version's records in order."""
        version = self.versions.get(model_version) or self.version(model_version, batch.first_sequence)
        self._wake(model_version, batch)
        if batch.predictions is not None:
            self.supply.note_predictions(batch.predictions, batch.first_id)
        if batch.outcomes is not None:
            self.supply.note_outcomes(batch.outcomes)
        out: list[Caused] = []
        if self._joint is None:
            finish(self._course(version, batch, out))
        else:
            self._joint.append(self._course(version, batch, self._out))
        return out

    def together(self) -> None:
        """Let `observe` hold back several versions of a stretch, until `part` tells of them in the records' order."""
        self._joint, self._out = [], []

    def part(self) -> list[Caused]:
        """End what `together` began; give the outputs."""
        courses, self._joint = self._joint or [], None
        in_order(courses, self.fine_tune.targets)
        return self._out

    def _course(self, version: VersionMonitor, batch: VersionBatch, out: list[Caused]) -> Course:
        decided_at = self._model.decided_at
        if decided_at <= batch.first_sequence:
            yield from self._observe(version, batch, out)
        elif decided_at > batch.last_sequence:
            yield from self._set_aside(version, batch, out)
        else:
            before, after = batch.cut(decided_at)
            yield from self._set_aside(version, before, out)
            yield from self._observe(version, after, out)

    def _set_aside(self, version: VersionMonitor, batch: VersionBatch, out: list[Caused]) -> Course:
        """Take records of a model that may still be a classification or a regression."""
        findings = [] if batch.predictions is None else version.observe_predictions(batch.predictions, None)
        if batch.predictions is not None:
            version.held.add_answers(batch.predictions)
        if batch.outcomes is not None:
            version.delays.add(batch.outcomes)
            version.held.add_outcomes(batch.outcomes)
        if batch.corrections is not None:
            version.held.correct(batch.corrections)
        yield from self._tell_of(version, deque(findings), out)

    def _observe(self, version: VersionMonitor, batch: VersionBatch, out: list[Caused]) -> Course:
        """Take records of a model of which it is known what it is, and before them what was set aside."""
        if self._model.coded is not None:
            batch = batch.read_by(self._model.coded)
        if batch.outcomes is not None:
            version.delays.add(batch.outcomes)
        released = Released(batch.predictions, batch.outcomes)
        if version.held:
            released = version.held.release(batch.first_sequence, self._model.coded).before(released)
        yield from self._take(version, released, batch, out)

    def release_held(self, sequence: int, out: list[Caused]) -> None:
        """Take what was set aside, at a timer or a command, if it is known what it is."""
        if self._model.decided_at < sequence:
            for version in self.versions.holding():
                released = version.held.release(sequence, self._model.coded)
                finish(self._take(version, released, VersionBatch(), out))

    def _take(self, version: VersionMonitor, released: Released, batch: VersionBatch, out: list[Caused]) -> Course:
        (answers, outcomes), findings = released, list[Finding]()
        if outcomes is not None:
            version.note_outcomes(outcomes)
        if batch.predictions is not None:
            findings += version.observe_predictions(batch.predictions, answers)
        elif answers is not None:
            findings += version.observe_answers(answers)
        if outcomes is not None:
            findings += version.observe_labels(outcomes)
        findings.sort(key=lambda finding: finding.sequence)
        waiting = deque(findings)
        for part, correction in cut_at(outcomes, batch.corrections):
            if part is not None:
                yield from self._run(version, version.feed(part), waiting, out)
            if correction is not None:
                version.correct(correction)
        yield from self._tell_of(version, waiting, out)

    def _tell_of(self, version: VersionMonitor, waiting: deque[Finding], out: list[Caused]) -> Course:
        while waiting:
            yield lambda: waiting[0].sequence
            self._advance(version, waiting.popleft(), out)

    def _wake(self, model_version: str, batch: VersionBatch) -> None:
        self._active.add(model_version)
        due_ms = (batch.first_watermark_ms // self._interval_ms + 1) * self._interval_ms
        # The first event counts, of whichever version: those of a stretch come version by version.
        self._snapshot_due_ms = min(due_ms, due_ms if self._snapshot_due_ms is None else self._snapshot_due_ms)

    def _run(self, version: VersionMonitor, feed: LossFeed, waiting: deque[Finding], out: list[Caused]) -> Course:
        """Let outcomes in, stopping where something is to be decided, so that it is on exactly what came before."""
        while True:
            yield lambda: next_stop(feed, waiting, version.window.total, self._target_of(version.model_version))
            target, before = self._target_of(version.model_version), version.window.total
            others = feed.count_through(waiting[0].sequence) if waiting else NEVER
            if target <= before < feed.end:  # by what another version did
                self._reached(version, Moment(*feed.next_moment()), out)
                continue
            finding = feed.advance(min(target, others, feed.next_stop()))
            total = version.window.total
            if finding is not None:
                self._advance(version, finding, out)
            elif before < target <= total:
                self._reached(version, Moment(*feed.moment()), out)
            elif total >= others:
                self._advance(version, waiting.popleft(), out)
            elif total >= feed.end:
                return

    def _advance(self, version: VersionMonitor, finding: Finding, out: list[Caused]) -> None:
        at = Moment(finding.sequence, finding.time_ms)
        self._publish(self.alerts.advance(finding, version.model_version), at, out)
        if version.window.total >= self._target_of(version.model_version):
            self._reached(version, at, out)

    def count_duplicate_labels(self, sequence: Int) -> None:
        """Count labels that told nothing new, by the numbers of their records in order.

        Labels name no version; they are put down to the one that served then.
        """
        for name in self._serving.at(sequence):
            if name in self.versions:
                self.versions.counts(name).add("labels_duplicate", 1)

    def note_repeated(self, repeated: Repeated) -> None:
        """Take predictions that were dropped because their identifier is known."""
        self.supply.repeated.note_repeated(repeated)

    def note_gone(self, predictions: int) -> None:
        """Take the number of predictions that have left the join without a label."""
        self.supply.labels.note_gone(predictions)

    def note_unmatched(self, labels: Unmet) -> None:
        """Take labels for which there is no prediction, so far."""
        self.supply.labels.note_unmatched(labels.behind(self._since))

    def note_late(self, labels: Unmet, made_ms: Int, repeated: int) -> None:
        """Take labels noted as unmatched before, of predictions that had waited in vain, and so many repetitions."""
        self.supply.labels.note_late(labels, made_ms, repeated)

    # ----------------------------------------------------------------------------------------- policies

    def _publish(self, transitions: list[Transition], at: Moment, out: list[Caused]) -> None:
        """Send alerts, and tell the fine-tune policy of each."""
        for transition in transitions:
            if not transition.alert.muted:
                out.append(Caused(at.sequence, transition.alert))
            version = self.versions.get(transition.alert.model_version)
            outcomes = 0 if version is None else version.window.total
            self._decided(self.fine_tune.incident(at, transition, outcomes), at, out)

    def _decided(self, decision: Decision, at: Moment, out: list[Caused]) -> None:
        """Send triggers, and tell the alert policy what the fine-tune policy found."""
        out.extend(Caused(at.sequence, trigger) for trigger in decision.triggers)
        for model_version, finding in decision.findings:
            self._publish(self.alerts.advance(finding, model_version), at, out)
        if decision.superseded_by is not None:
            why = f"version {decision.superseded_by} has taken over"
            self._publish(self.alerts.supersede(decision.superseded_by, why, at.time_ms), at, out)

    def _target_of(self, model_version: str) -> int:
        """Say at which outcome of this version the fine-tune policy wants to be asked."""
        for target in self.fine_tune.targets():
            if target is not None and target.model_version == model_version:
                return target.outcome_number
        return NEVER

    def _reached(self, version: VersionMonitor, at: Moment, out: list[Caused]) -> None:
        labels, verification = self.fine_tune.targets()
        if labels is not None:
            window = training_window(version, labels.change_outcome, at, self._topics)
            self._decided(self.fine_tune.labels_reached(at, window), at, out)
        elif verification is not None:
            first = version.window.losses(0, verification.outcome_number)
            # A version may have had more outcomes than are kept before anybody said that it is the new one.
            after = sample_of(first if len(first) else version.window.losses(0, version.window.total))
            self._decided(self.fine_tune.verification(at, after), at, out)

    # ------------------------------------------------------------------------------------------- timers

    def next_deadline_ms(self) -> int:
        """Say at which watermark something is due."""
        due = (self._snapshot_due_ms, self.alerts.next_deadline_ms(), self.fine_tune.next_deadline_ms())
        return min(self.supply.due_ms(), *(deadline for deadline in due if deadline is not None), NEVER)

    def tick(self, now_ms: int, sequence: int) -> list[Caused]:
        """Let everything that is due take effect."""
        out: list[Caused] = []
        at = Moment(sequence, now_ms)
        self.release_held(sequence, out)
        self._publish(self.alerts.tick(now_ms), at, out)
        self._decided(self.fine_tune.tick(at), at, out)
        for finding in self.supply.check(now_ms, sequence):
            self._publish(self.alerts.advance(finding, ALL), at, out)
        self._ask_all(at, out)
        if self._snapshot_due_ms is not None and self._snapshot_due_ms <= now_ms:
            self._tell_active(now_ms // self._interval_ms * self._interval_ms, at, out)
        return out

    def finish(self, end_ms: int, sequence: int) -> list[Caused]:
        """Tell what no snapshot has told yet, at a moment behind all records: no more will come."""
        out: list[Caused] = []
        self._tell_active(end_ms, Moment(sequence, end_ms), out)
        return out

    def _tell_active(self, at_ms: int, at: Moment, out: list[Caused]) -> None:
        self._snapshot_due_ms = None
        for model_version in sorted(self._active & self.versions.keys()):
            self._tell(self.versions[model_version], at_ms, at, out)
        self._active.clear()

    def _ask_all(self, at: Moment, out: list[Caused]) -> None:
        """Ask for every version: a cool-down that ended may leave a cause whose labels have long been there."""
        for name in list(self.versions):
            # Only whom the policy asks for is looked at, so that nobody else has to be in memory.
            if (target := self._target_of(name)) != NEVER and self.versions[name].window.total >= target:
                self._reached(self.versions[name], at, out)

    def _tell(self, version: VersionMonitor, at_ms: int, at: Moment, out: list[Caused]) -> None:
        snapshot = version.tell(at_ms, at.sequence)
        out.append(Caused(at.sequence, snapshot))
        out.extend(Caused(at.sequence, segment) for segment in version.tell_segments(at_ms, at.sequence))
        for finding in version.judge_rules(snapshot.windows, at.sequence, at.time_ms):
            self._advance(version, finding, out)
        for finding in version.judge_limits(snapshot.limits, at.sequence, at.time_ms):
            self._advance(version, finding, out)
        for finding in version.judge_meaning(at.sequence, at.time_ms):
            self._advance(version, finding, out)

    # ----------------------------------------------------------------------------------------- commands

    def command(self, row: ControlRow) -> list[Caused]:
        """Take a status report or a command."""
        out: list[Caused] = []
        event, at = row.event, Moment(row.sequence, row.watermark_ms)
        self.release_held(row.sequence, out)
        if isinstance(event, FineTuneStatus):
            decision = self.fine_tune.status(at, event)
            self._decided(decision, at, out)
            self._refuse(decision.refusal, row, out)
        elif isinstance(event, FineTuneRequest):
            self._request(event, row, at, out)
        elif isinstance(event, MuteAlert):
            self._publish(self.alerts.mute(event, at.time_ms), at, out)
        elif isinstance(event, VersionDeployed):
            self._deploy(event, at, out)
        elif isinstance(event, AcceptReference):
            self._accept(event, at, out)
        else:
            self._reset(event, at, out)
        self._ask_all(at, out)
        return out

    def _deploy(self, event: VersionDeployed, at: Moment, out: list[Caused]) -> None:
        # Which incidents that ends is for the fine-tune policy to say: a version on trial has not answered them yet.
        self._serving.begin(event.model_version, at.sequence)
        self._decided(self.fine_tune.deployed(at, event.model_version), at, out)

    def _request(self, event: FineTuneRequest, row: ControlRow, at: Moment, out: list[Caused]) -> None:
        serving = self.versions.get(self._serving.version or "")
        if serving is None:
            message = "$.model_id: no version of it has been seen"
            self._refuse(Refusal(reason="wrong_model", message=message, path="$.model_id"), row, out)
            return
        target = self.fine_tune.label_target()
        change = 0 if target is None else target.change_outcome
        window = training_window(serving, change, at, self._topics)
        decision = self.fine_tune.request(at, event, serving.model_version, window)
        self._decided(decision, at, out)
        self._refuse(decision.refusal, row, out)

    def _reset(self, event: ResetMonitor, at: Moment, out: list[Caused]) -> None:
        for name in self.versions:
            if event.model_version in (None, name):
                self.versions[name].reset()
        if event.model_version is None:
            self.supply.reset()
        self._publish(self.alerts.withdraw(event.model_version, "the monitors were reset", at.time_ms), at, out)

    def _accept(self, event: AcceptReference, at: Moment, out: list[Caused]) -> None:
        for version in self.versions.values():
            if event.model_version in (None, version.model_version):
                version.accept()
        self._publish(self.alerts.accept(event.model_version, at.time_ms), at, out)

    def _refuse(self, refusal: Refusal | None, row: ControlRow, out: list[Caused]) -> None:
        if refusal is not None:
            out.append(Caused(row.sequence, refused(refusal, row, self._topics)))

    # -------------------------------------------------------------------------------------------- state

    def snapshot(self) -> ModelState:
        """Give the policies and timers; the versions give their own."""
        return {
            "version": _VERSION,
            "alerts": self.alerts.snapshot(),
            "fine_tune": self.fine_tune.snapshot(),
            "snapshot_due_ms": self._snapshot_due_ms,
            "active": sorted(self._active),
            "serving": self._serving.version,
            "versions": list(self.versions),
            "supply": self.supply.snapshot(),
            "forgotten": sorted(self.versions.forgotten),
        }

    def restore(self, state: ModelState) -> None:
        """Take over a snapshot, when all versions have taken over theirs."""
        require_version(state, _VERSION, "model monitor")
        self.versions.forgotten = set(state["forgotten"])
        with inside("alerts"):
            self.alerts.restore(state["alerts"])
        with inside("fine_tune"):
            self.fine_tune.restore(state["fine_tune"])
        if state["supply"] is not None:
            with inside("supply"):
                self.supply.restore(state["supply"])
        self._snapshot_due_ms = state["snapshot_due_ms"]
        self._active = set(state["active"])
        self._serving = Serving(state["serving"])
        # Versions that are put by, or forgotten, have not come through `version`.
        self._since = -1 if state["versions"] or state["forgotten"] else NEVER
