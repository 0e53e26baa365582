"""The course of one model's fine-tuning: the phase, the open trigger and its deadline."""

import msgspec

from schemas.outputs import FineTuneTrigger, TriggerState
from service.core.finetuning.lifecycle import MAX_ENDED, TRANSITIONS, Effect, Phase, Signal
from service.core.finetuning.verdict import LossSample


class OpenTrigger(msgspec.Struct, kw_only=True):
    """The trigger that is open, and what its readers do not see."""

    shown: FineTuneTrigger
    """Its last transition."""
    cause_version: str
    """Whose loss during the drift the new version is compared with."""
    by_operator: bool
    during: LossSample | None


class Course(msgspec.Struct):
    """Plain state; `trigger` is set exactly while the phase is one of requested to verifying."""

    phase: Phase = Phase.IDLE
    deadline_ms: int | None = None
    trigger: OpenTrigger | None = None
    ended: list[str] = []
    """trigger_ids, oldest first; at most MAX_ENDED, then the oldest is forgotten."""
    sent: int = 0
    """Triggers so far."""
    deployed_meanwhile: str | None = None
    """Deployed while training ran: what training made, as its report will tell, or a reason to forget the incident."""

    def move(self, signal: Signal) -> Effect:
        """Take one row of the table."""
        self.phase, effect = TRANSITIONS[self.phase, signal]
        return effect

    def extend(self, until_ms: int) -> None:
        """Give the open trigger until another time, without telling anybody."""
        if self.trigger is not None:
            self.deadline_ms = until_ms
            self.trigger.shown = msgspec.structs.replace(self.trigger.shown, expires_at_ms=until_ms)

    def show(self, trigger: OpenTrigger, state: TriggerState, time_ms: int, until_ms: int) -> FineTuneTrigger:
        """Write a new state of the open trigger, which ends by itself at `until_ms`."""
        trigger.shown = msgspec.structs.replace(
            trigger.shown, state=state, event_time_ms=time_ms, expires_at_ms=until_ms
        )
        self.trigger = trigger
        self.deadline_ms = until_ms
        return trigger.shown

    def end(
        self, trigger: OpenTrigger, state: TriggerState, time_ms: int, cooldown_ms: int, reason: str
    ) -> FineTuneTrigger:
        """Write the last state of the open trigger, and rest."""
        until_ms = time_ms + cooldown_ms
        self.trigger = None
        self.ended = [*self.ended, trigger.shown.trigger_id][-MAX_ENDED:]
        self.deadline_ms = until_ms
        if cooldown_ms == 0:
            self.rest(self.move(Signal.DUE))
        return msgspec.structs.replace(
            trigger.shown,
            state=state,
            event_time_ms=time_ms,
            reason=reason,
            expires_at_ms=None,
            cooldown_until_ms=until_ms,
        )

    def rest(self, effect: Effect) -> bool:
        """Stop the clock if the cooldown is over; say whether it is."""
        if effect is Effect.REST:
            self.deadline_ms = None
        return effect is Effect.REST
