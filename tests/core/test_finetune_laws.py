"""What holds for every history of a fine-tune policy."""

from collections import Counter

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from detectors.protocol import Level
from schemas.events import FineTuneRequest, FineTuneStatus
from service.core.alerting import AlertPolicy
from service.core.findings import Finding
from service.core.finetuning import FineTunePolicy, LossSample, Moment, TrainingWindow
from service.core.settings import AlertSettings, FineTuneSettings

TERMINAL = {"completed", "failed", "timed_out", "cancelled"}
ORDER = ["requested", "running", "verifying"]
KINDS = ("concept_drift", "performance", "data_drift")
VERSIONS = ("1", "2", "3")
LOSSES = [LossSample(count=n, mean=m, variance=0.1) for n in (3, 50) for m in (0, 0.1, 0.5)]
WINDOW = TrainingWindow(ranges=(), start_ms=1, end_ms=2, labels=5, before=LOSSES[3], during=LOSSES[5])

actions = st.one_of(
    st.tuples(
        st.just("find"), st.sampled_from(KINDS), st.sampled_from(VERSIONS), st.sampled_from([Level.DRIFT, Level.STABLE])
    ),
    st.just(("labels",)),
    st.just(("labels",)),
    st.tuples(
        st.just("status"),
        st.sampled_from(["open", "ended", "unknown"]),
        st.sampled_from(["acknowledged", "running", "completed", "failed"]),
        st.sampled_from([*VERSIONS, "4", "5"]),
    ),
    st.tuples(st.just("verify"), st.sampled_from(LOSSES)),
    st.tuples(st.just("deploy"), st.sampled_from([*VERSIONS, "4"])),
    st.just(("request",)),
)
histories = st.lists(st.tuples(st.integers(0, 12), actions), max_size=50)
settings_of = st.builds(
    FineTuneSettings,
    mode=st.sampled_from(["auto", "stateful", "stateless"]),
    acknowledge_within_ms=st.sampled_from([0, 10]),
    complete_within_ms=st.sampled_from([0, 30]),
    verify_within_ms=st.sampled_from([5, 30]),
    cooldown_ms=st.sampled_from([0, 15]),
    max_attempts=st.sampled_from([1, 3]),
)


class Player:
    """Plays a history through both policies and notes all that comes out."""

    def __init__(self, settings: FineTuneSettings) -> None:
        self.settings = settings
        self.alerts = AlertPolicy("m", AlertSettings(keep_firing_for_ms=0))
        self.policy = FineTunePolicy("m", settings)
        self.out: list = []
        self.triggers: list = []

    def see(self, at: Moment, decision) -> None:
        self.triggers += decision.triggers
        self.out += [*decision.triggers, *decision.findings, decision.refusal, decision.superseded_by]
        for version, finding in decision.findings:
            self.transitions(at, self.alerts.advance(finding, version))
        if decision.superseded_by is not None:
            self.transitions(at, self.alerts.supersede(decision.superseded_by, "newer", at.time_ms))

    def transitions(self, at: Moment, transitions) -> None:
        for transition in transitions:
            self.see(at, self.policy.incident(at, transition, outcomes=7))

    def act(self, at: Moment, what: tuple) -> None:
        match what:
            case ("find", kind, version, level):
                finding = Finding(sequence=at.sequence, time_ms=at.time_ms, kind=kind, subject="s", level=level)
                self.transitions(at, self.alerts.advance(finding, version))
            case ("labels",) if self.policy.label_target() is not None:
                self.see(at, self.policy.labels_reached(at, WINDOW))
            case ("verify", losses) if self.policy.verification_target() is not None:
                self.see(at, self.policy.verification(at, losses))
            case ("deploy", version):
                self.see(at, self.policy.deployed(at, version))
            case ("request",):
                command = FineTuneRequest(model_id="m", event_time_ms=at.time_ms)
                self.see(at, self.policy.request(at, command, "1", WINDOW))
            case ("status", which, status, version):
                self.see(at, self.policy.status(at, self.report(at, which, status, version)))

    def report(self, at: Moment, which: str, status: str, version: str) -> FineTuneStatus:
        shown = self.policy.open_trigger
        trigger_id = "unknown"
        if which == "open" and shown is not None:
            trigger_id = shown.trigger_id
        if which == "ended" and self.triggers:
            trigger_id = self.triggers[0].trigger_id
        return FineTuneStatus(
            trigger_id=trigger_id, model_id="m", event_time_ms=at.time_ms, status=status, model_version=version
        )

    def restart(self) -> None:
        saved = msgspec.msgpack.decode(msgspec.msgpack.encode(self.policy.snapshot()))
        self.policy = FineTunePolicy("m", self.settings)
        self.policy.restore(saved)
        assert self.policy.snapshot() == saved


def play(settings: FineTuneSettings, history: list, *, every_ms: bool = False, restart: bool = False) -> Player:
    player, now, sequence = Player(settings), 0, 0
    for sequence, (elapsed, what) in enumerate(history):
        # As the caller does, at the deadline itself; or late, at the next record. The targets that the caller looks
        # at are those after the tick, so a tick comes before the action in both.
        for later in range(now + 1, now + elapsed) if every_ms else ():
            player.see(Moment(sequence, later), player.policy.tick(Moment(sequence, later)))
        now += elapsed
        at = Moment(sequence, now)
        player.see(at, player.policy.tick(at))
        player.act(at, what)
        if restart:
            player.restart()
    end = Moment(sequence + 1, now + 10_000)
    player.see(end, player.policy.tick(end))
    return player


@given(settings_of, histories)
def test_at_most_one_trigger_is_open_and_each_ends_exactly_once(settings: FineTuneSettings, history: list) -> None:
    open_id, ended = None, set()
    for trigger in play(settings, history).triggers:
        if trigger.state == "requested":
            assert open_id is None
            assert trigger.trigger_id not in ended
            open_id = trigger.trigger_id
        assert trigger.trigger_id == open_id
        if trigger.state in TERMINAL:
            ended.add(trigger.trigger_id)
            open_id = None
    assert open_id is None  # the watermark has gone far enough


@given(settings_of, histories)
def test_a_trigger_passes_each_state_at_most_once_and_in_order(settings: FineTuneSettings, history: list) -> None:
    triggers = play(settings, history).triggers
    assert all(count == 1 for count in Counter((t.trigger_id, t.state) for t in triggers).values())
    by_id: dict[str, list[str]] = {}
    for trigger in triggers:
        by_id.setdefault(trigger.trigger_id, []).append(trigger.state)
    for states in by_id.values():
        assert states[0] == "requested"
        assert states[-1] in TERMINAL
        assert states[:-1] == [state for state in ORDER if state in states]


@given(settings_of, histories)
def test_a_snapshot_and_restore_at_every_point_changes_no_byte(settings: FineTuneSettings, history: list) -> None:
    encode = msgspec.json.encode
    assert encode(play(settings, history, restart=True).out) == encode(play(settings, history).out)


@given(settings_of, histories)
def test_when_timers_are_looked_at_changes_no_trigger(settings: FineTuneSettings, history: list) -> None:
    assert play(settings, history, every_ms=True).triggers == play(settings, history).triggers


@given(settings_of, histories)
def test_no_version_gets_more_attempts_for_its_incidents_than_allowed_unless_an_operator_asks(
    settings: FineTuneSettings, history: list
) -> None:
    without_operator = [(elapsed, what) for elapsed, what in history if what[0] != "request"]
    requested = [t for t in play(settings, without_operator).triggers if t.state == "requested"]
    assert all(1 <= trigger.attempt <= settings.max_attempts for trigger in requested)
    per_incident = Counter(trigger.incident_id for trigger in requested)
    assert all(count <= settings.max_attempts for count in per_incident.values())


@given(settings_of, histories)
def test_an_open_trigger_always_has_a_deadline(settings: FineTuneSettings, history: list) -> None:
    player = Player(settings)
    now = 0
    for sequence, (elapsed, what) in enumerate(history):
        now += elapsed
        at = Moment(sequence, now)
        player.see(at, player.policy.tick(at))
        player.act(at, what)
        deadline = player.policy.next_deadline_ms()
        if player.policy.open_trigger is not None:
            assert deadline is not None
            assert player.policy.open_trigger.expires_at_ms == deadline
