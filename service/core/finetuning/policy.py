"""From incidents to fine-tune triggers, one open at a time per model, each followed to its end.

Pure, as the alert policy: it moves on incidents, status events, outcomes and the watermark. Timers have the event time
of their deadline.
"""

from typing import Any

import msgspec

from schemas.events import FineTuneRequest, FineTuneStatus
from schemas.outputs import FineTuneTrigger, TriggerState
from service.core.alerting import Transition
from service.core.alerting.book import Counts
from service.core.findings import Level
from service.core.finetuning.causes import Cause, Causes
from service.core.finetuning.course import Course, OpenTrigger
from service.core.finetuning.lifecycle import (
    Decision,
    Effect,
    LabelTarget,
    Moment,
    Phase,
    Refusal,
    Signal,
    TrainingWindow,
    VerificationTarget,
)
from service.core.finetuning.triggers import (
    Order,
    exhausted_finding,
    heard_finding,
    new_trigger,
    order_for,
    relieved_finding,
    unanswered_finding,
)
from service.core.finetuning.verdict import LossSample, judge
from service.core.plain import from_plain, to_plain
from service.core.settings import FineTuneSettings

VERSION = 1


class _Saved(msgspec.Struct):
    """The snapshot's layout."""

    version: int
    course: Course
    causes: Causes
    counts: dict[str, int]
    answered: bool = True
    """Whether a training pipeline has ever reported on a trigger; taken for granted in older state."""
    unanswered_told: bool = False


class FineTunePolicy:
    """The fine-tuning of one model, all its versions.

    Every method takes the moment of the record that it is called for, first lets deadlines up to its watermark take
    effect, and gives a Decision. After each call the caller looks at `label_target`,
    `verification_target` and `next_deadline_ms`, and cuts its records there.
    """

    def __init__(self, model_id: str, settings: FineTuneSettings) -> None:
        self._model_id = model_id
        self._settings = settings
        self._course = Course()
        self._causes = Causes()
        self._counts = Counts()
        self._answered = self._unanswered_told = False

    @property
    def phase(self) -> Phase:
        """Where the model's fine-tuning stands."""
        return self._course.phase

    @property
    def counts(self) -> dict[str, int]:
        """Transitions by state, and what was ignored or refused, since the beginning."""
        return dict(self._counts)

    @property
    def open_trigger(self) -> FineTuneTrigger | None:
        """The last transition of the trigger that is open."""
        return self._course.trigger.shown if self._course.trigger is not None else None

    # What the caller cuts its records at

    def next_deadline_ms(self) -> int | None:
        """Say at which watermark something happens by itself; None: nothing will."""
        return self._course.deadline_ms

    def label_target(self) -> LabelTarget | None:
        """Say which outcome is waited for before a trigger is sent; None: none is."""
        cause = self._waiting_cause()
        if cause is None:
            return None
        return LabelTarget(
            incident_id=cause.incident_id,
            model_version=cause.model_version,
            change_outcome=cause.change_outcome,
            outcome_number=cause.change_outcome + self._settings.min_labels,
        )

    def verification_target(self) -> VerificationTarget | None:
        """Say which outcome of the new version is waited for before it is judged; None: none is."""
        shown = self.open_trigger
        if shown is None or shown.new_model_version is None or self._course.phase is not Phase.VERIFYING:
            return None
        return VerificationTarget(model_version=shown.new_model_version, outcome_number=self._settings.verify_outcomes)

    def targets(self) -> tuple[LabelTarget | None, VerificationTarget | None]:
        """Give both: what of other versions may change with what one of them tells."""
        return self.label_target(), self.verification_target()

    # What moves it on

    def tick(self, at: Moment) -> Decision:
        """Let every deadline up to the watermark take effect."""
        out = Decision()
        while (due_ms := self._course.deadline_ms) is not None and due_ms <= at.time_ms:
            waited_for = "acknowledged" if self._course.phase is Phase.REQUESTED else "completed"
            effect = self._course.move(Signal.DUE)
            if self._course.rest(effect):
                continue
            if effect is Effect.EXPIRE:
                self._end("timed_out", at._replace(time_ms=due_ms), out, f"not {waited_for} in time")
            else:
                why = "verification is undecided: too few outcomes in time"
                self._end("completed", at._replace(time_ms=due_ms), out, why)
        return out

    def incident(self, at: Moment, transition: Transition, outcomes: int) -> Decision:
        """Take a transition of an incident, published or muted.

        `outcomes`: how many outcomes the incident's model version has had. The training window begins there where the
        incident names no change point.
        """
        out = self.tick(at)
        alert = transition.alert
        if alert.state == "resolved":
            self._tell_relieved(self._causes.remove(alert.incident_id), at, out)
            self._withdraw_if_answered(at, alert.resolution, out)
        elif self._settings.enabled and alert.kind in self._settings.on and transition.level == Level.DRIFT:
            change = outcomes if transition.change_outcome is None else transition.change_outcome
            if not self._causes.take(alert, change):
                self._counts.add("causes_beyond_limit")
        return out

    def labels_reached(self, at: Moment, window: TrainingWindow) -> Decision:
        """Send the trigger that `label_target` spoke of. Raises ValueError when it speaks of none."""
        out = self.tick(at)
        cause = self._waiting_cause()
        if cause is None:
            raise ValueError("no outcomes are waited for: look at label_target before each call")
        effort = self._causes.efforts[cause.model_version]
        order = order_for(self._settings, cause, effort, window)
        self._send(at.time_ms, cause.model_version, order, out, cause=cause, window=window)
        return out

    def request(self, at: Moment, command: FineTuneRequest, version: str, window: TrainingWindow) -> Decision:
        """Send a trigger because a person asks for it: at once, however many labels there are, cooldown or not.

        `version`: the one that serves. The request answers an open incident of that version, if there is one.
        """
        out = self.tick(at)
        trigger = self._course.trigger
        if command.model_id != self._model_id:
            self._refuse_model(command.model_id, out)
        elif trigger is not None:
            message = f"$: trigger {trigger.shown.trigger_id} is open; there is one at a time"
            self._refuse(Refusal(reason="trigger_open", message=message, path="$"), out)
        else:
            order = Order(version, command.mode, "the operator chose it", command.reason, by_operator=True)
            cause = self._causes.of_version(version)
            self._send(at.time_ms, version, order, out, cause=cause, window=window)
        return out

    def knows(self, trigger_id: str) -> bool:
        """Whether a trigger is, or lately was, this model's."""
        trigger = self._course.trigger
        return (trigger is not None and trigger.shown.trigger_id == trigger_id) or trigger_id in self._course.ended

    def status(self, at: Moment, event: FineTuneStatus) -> Decision:
        """Take what the training pipeline says. Repeated, late and overtaken reports change nothing and are counted."""
        out = self.tick(at)
        trigger = self._course.trigger
        if event.model_id != self._model_id:
            self._refuse_model(event.model_id, out)
        elif trigger is not None and event.trigger_id == trigger.shown.trigger_id:
            self._hear(trigger.cause_version, at, out)
            self._follow(at, event, trigger, out)
        elif event.trigger_id in self._course.ended:
            self._counts.add("late_statuses")
        else:
            message = f"$.trigger_id: model {self._model_id} has had no trigger {event.trigger_id}"
            self._refuse(Refusal(reason="unknown_trigger", message=message, path="$.trigger_id"), out)
        return out

    def deployed(self, at: Moment, version: str) -> Decision:
        """Take notice that a version serves now, however it came about: what was wrong with others is history.

        Not so where the version may be what the open trigger, or the last attempt, has made: whether the incident is
        over then is for the verification to say.
        """
        out = self.tick(at)
        shown, phase = self.open_trigger, self._course.phase
        if shown is not None and phase in (Phase.ACKNOWLEDGED, Phase.RUNNING):
            self._course.move(Signal.DEPLOYED)
            self._course.deployed_meanwhile = version
        elif shown is None or version == (shown.new_model_version or shown.model_version):
            self._serve(at, version, out)
        else:
            self._serve(at, version, out)
            reason = f"version {version} was deployed meanwhile"
            if self._course.move(Signal.DEPLOYED) is Effect.CANCEL:
                self._end("cancelled", at, out, reason)
            else:
                self._end("completed", at, out, f"verification is undecided: {reason}")
        return out

    def verification(self, at: Moment, after: LossSample) -> Decision:
        """Judge the new version by its first outcomes. Raises ValueError when none is being verified."""
        out = self.tick(at)
        trigger, target = self._course.trigger, self.verification_target()
        if trigger is None or target is None:
            raise ValueError("no version is being verified: look at verification_target before each call")
        verdict = judge(trigger.during, after)
        if verdict.better:
            self._supersede(at, target.model_version, out)
        elif verdict.better is False and trigger.shown.mode == "stateful":
            self._causes.note(trigger.cause_version, stateful_failure=verdict.reason)
        self._course.move(Signal.VERIFIED)
        trigger.shown = msgspec.structs.replace(
            trigger.shown, loss_after=float(after.mean), verified_better=verdict.better
        )
        self._end("completed", at, out, verdict.reason)
        return out

    def snapshot(self) -> dict[str, Any]:
        """Give everything that is needed to go on elsewhere, as plain data."""
        saved = _Saved(VERSION, self._course, self._causes, self._counts, self._answered, self._unanswered_told)
        return to_plain(saved)

    def restore(self, state: dict[str, Any]) -> None:
        """Take over a snapshot. Raises NewerStateError or CorruptStateError, and then nothing has changed."""
        saved = from_plain(state, _Saved, VERSION, f"fine-tuning of {self._model_id}")
        self._course = saved.course
        self._causes = saved.causes
        self._counts = Counts(saved.counts)
        self._answered, self._unanswered_told = saved.answered, saved.unanswered_told

    # How it moves

    def _hear(self, version: str, at: Moment, out: Decision) -> None:
        """Take note that somebody answers triggers."""
        if self._unanswered_told and not self._answered:
            out.findings.append((version, heard_finding(*at)))
        self._answered = True

    def _waiting_cause(self) -> Cause | None:
        idle = self._course.phase is Phase.IDLE
        return self._causes.next_eligible(self._settings.max_attempts) if idle else None

    def _send(
        self,
        time_ms: int,
        cause_version: str,
        order: Order,
        out: Decision,
        *,
        cause: Cause | None,
        window: TrainingWindow,
    ) -> None:
        self._course.move(Signal.SEND)
        # As it will read back from a snapshot: 3 where 3.0 is declared would change bytes after a restore.
        window = msgspec.convert(msgspec.to_builtins(window), TrainingWindow)
        attempt = self._causes.count_attempt(cause) if cause is not None else 1
        number = self._course.sent
        self._course.sent += 1
        shown = new_trigger(
            self._model_id, number=number, attempt=attempt, cause=cause, order=order, window=window, time_ms=time_ms
        )
        trigger = OpenTrigger(
            shown=shown, cause_version=cause_version, by_operator=order.by_operator, during=window.during
        )
        self._show(trigger, "requested", time_ms, self._settings.acknowledge_within_ms, out)

    def _follow(self, at: Moment, event: FineTuneStatus, trigger: OpenTrigger, out: Decision) -> None:
        """Move on with a status event of the open trigger."""
        effect = self._course.move(Signal(event.status))
        if effect is Effect.EXTEND:
            self._course.extend(at.time_ms + self._settings.complete_within_ms)
            self._counts.add("acknowledged")
        elif effect is Effect.RUN:
            self._show(trigger, "running", at.time_ms, self._settings.complete_within_ms, out)
        elif effect is Effect.FAIL:
            self._end("failed", at, out, event.reason or "the pipeline gave no reason")
        elif effect is Effect.VERIFY:
            self._verify(at, event.model_version or trigger.shown.model_version, trigger, out)
        else:
            self._counts.add("repeated_statuses")

    def _verify(self, at: Moment, new_version: str, trigger: OpenTrigger, out: Decision) -> None:
        """Start to verify the version that training made, if its outcomes can be told from others'."""
        old_versions = (trigger.shown.model_version, trigger.cause_version)
        trigger.shown = msgspec.structs.replace(trigger.shown, new_model_version=new_version)
        self._causes.note(trigger.cause_version, continue_from=new_version)
        self._course.deployed_meanwhile = None
        self._show(trigger, "verifying", at.time_ms, self._settings.verify_within_ms, out)
        if new_version in old_versions:
            self._course.move(Signal.DUE)
            why = f"outcomes of the new version {new_version} cannot be told from those of the old"
            self._end("completed", at, out, f"verification is undecided: {why}")

    def _serve(self, at: Moment, version: str, out: Decision) -> None:
        """Close the causes of other versions, unless this one was made because of them."""
        if not self._causes.made(version):
            self._supersede(at, version, out)
            self._causes.note(version, continue_from=version)

    def _supersede(self, at: Moment, version: str, out: Decision) -> None:
        out.superseded_by = version
        self._tell_relieved(self._causes.keep_only(version), at, out)

    def _withdraw_if_answered(self, at: Moment, why: str | None, out: Decision) -> None:
        """Cancel a trigger that nobody has acknowledged when the last of its incidents is over."""
        trigger = self._course.trigger
        if trigger is None or trigger.by_operator or self._causes.of_version(trigger.cause_version) is not None:
            return
        if self._course.move(Signal.WITHDRAWN) is Effect.CANCEL:
            self._end("cancelled", at, out, f"the incident was resolved: {why or 'the cause is gone'}")

    # What others are told

    def _show(self, trigger: OpenTrigger, state: TriggerState, time_ms: int, within_ms: int, out: Decision) -> None:
        self._counts.add(state)
        out.triggers.append(self._course.show(trigger, state, time_ms, time_ms + within_ms))

    def _end(self, state: TriggerState, at: Moment, out: Decision, reason: str) -> None:
        trigger = self._course.trigger
        if trigger is None:
            return
        if self._course.deployed_meanwhile is not None:
            self._serve(at, self._course.deployed_meanwhile, out)
            self._course.deployed_meanwhile = None
        self._counts.add(state)
        shown = self._course.end(trigger, state, at.time_ms, self._settings.cooldown_ms, reason)
        out.triggers.append(shown)
        for version in self._causes.newly_exhausted(self._settings.max_attempts):
            if self._answered:  # nobody has given up who never began
                out.findings.append((version, exhausted_finding(self._settings.max_attempts, shown, *at)))
        if state == "timed_out" and not self._answered and not self._unanswered_told:
            self._unanswered_told = True
            out.findings.append((trigger.cause_version, unanswered_finding(shown, *at)))

    def _tell_relieved(self, versions: list[str], at: Moment, out: Decision) -> None:
        out.findings.extend((version, relieved_finding(*at)) for version in versions)

    def _refuse_model(self, model_id: str, out: Decision) -> None:
        message = f"$.model_id: expected {self._model_id}, got {model_id}"
        self._refuse(Refusal(reason="wrong_model", message=message, path="$.model_id"), out)

    def _refuse(self, refusal: Refusal, out: Decision) -> None:
        self._counts.add("refused")
        out.refusal = refusal
