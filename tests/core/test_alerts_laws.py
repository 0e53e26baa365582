"""What holds for every history of an alert policy."""

from collections import Counter

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from detectors.protocol import Level
from schemas.events import MuteAlert
from schemas.outputs import Evidence, FeatureContribution
from service.core.alerting import AlertPolicy, published
from service.core.findings import Finding
from service.core.settings import AlertSettings

KINDS = ("concept_drift", "data_drift", "performance", "data_quality")
VERSIONS = ("1", "2")


def evidence(count: int) -> tuple[Evidence, ...]:
    features = tuple(FeatureContribution(feature=f"f{i}", statistic=1, threshold=0.5) for i in range(count))
    return (Evidence(detector="e", subject="s", statistic=2, threshold=1, sample_count=3, before=1, features=features),)


findings = st.tuples(
    st.just("find"),
    st.sampled_from(KINDS),
    st.sampled_from(VERSIONS),
    st.sampled_from(list(Level)),
    st.integers(0, 3),
)
mutes = st.tuples(st.just("mute"), st.sampled_from(KINDS), st.sampled_from(VERSIONS), st.sampled_from([0, 5, 30]))
closings = st.tuples(st.sampled_from(["supersede", "withdraw"]), st.sampled_from(VERSIONS))
# (milliseconds since the last one, what)
histories = st.lists(st.tuples(st.integers(0, 12), findings | findings | findings | mutes | closings), max_size=40)
settings_of = st.builds(
    AlertSettings,
    pending_for_ms=st.sampled_from([0, 3, 10]),
    keep_firing_for_ms=st.sampled_from([0, 4, 20]),
    alert_on_warning=st.booleans(),
    max_incidents=st.sampled_from([1, 2, 100]),
)


def do(policy: AlertPolicy, number: int, now: int, what: tuple) -> list:
    match what:
        case ("find", kind, version, level, features):
            finding = Finding(
                sequence=number, time_ms=now, kind=kind, subject="s", level=level, evidence=evidence(features)
            )
            return policy.advance(finding, version)
        case ("mute", kind, version, length):
            cause = Finding(sequence=0, time_ms=0, kind=kind, subject="s", level=Level.DRIFT)
            fingerprint = policy.fingerprint(version, cause)
            command = MuteAlert(model_id="m", event_time_ms=now, fingerprint=fingerprint, mute_for_ms=length)
            return policy.mute(command, now)
        case ("supersede", version):
            return policy.supersede(version, "newer", now)
        case (_, version):
            return policy.withdraw(version, "reset", now)


def play(settings: AlertSettings, history: list, *, ticks: bool = False, restart: bool = False) -> list:
    """Run a history. `ticks`: as the caller does; otherwise all timers run late, in the next call."""
    policy, out, now = AlertPolicy("m", settings), [], 0
    for number, (elapsed, what) in enumerate(history):
        for at in range(now + 1, now + elapsed + 1) if ticks else ():
            out += policy.tick(at)
        now += elapsed
        out += do(policy, number, now, what)
        if restart:
            saved = msgspec.msgpack.decode(msgspec.msgpack.encode(policy.snapshot()))
            policy = AlertPolicy("m", settings)
            policy.restore(saved)
            assert policy.snapshot() == saved
    return out + policy.tick(now + 10_000)


@given(settings_of, histories)
def test_when_timers_are_looked_at_changes_no_alert(settings: AlertSettings, history: list) -> None:
    assert play(settings, history, ticks=True) == play(settings, history)


@given(settings_of, histories)
def test_a_snapshot_and_restore_at_every_point_changes_no_byte(settings: AlertSettings, history: list) -> None:
    encode = msgspec.json.encode
    assert encode(play(settings, history, restart=True)) == encode(play(settings, history))


@given(settings_of, histories)
def test_every_incident_fires_before_it_is_resolved_once_and_identifiers_are_unique(
    settings: AlertSettings, history: list
) -> None:
    transitions = play(settings, history)
    ids = Counter(transition.alert.alert_id for transition in transitions)
    assert all(count == 1 for count in ids.values())
    told: dict[str, list[str]] = {}
    for alert in published(transitions):
        told.setdefault(alert.incident_id, []).append(alert.state)
    for states in told.values():
        assert states[0] == "firing"
        assert states.count("resolved") <= 1
        assert "resolved" not in states[:-1]


@given(settings_of, histories)
def test_severity_never_falls_and_harm_is_never_taken_back(settings: AlertSettings, history: list) -> None:
    last: dict[str, tuple[str, bool]] = {}
    for alert in published(play(settings, history)):
        severity, harmless = last.get(alert.incident_id, ("warning", True))
        assert not (severity == "critical" and alert.severity == "warning")
        assert not (not harmless and alert.harmless_so_far)
        last[alert.incident_id] = alert.severity, alert.harmless_so_far
        assert (alert.kind == "data_drift") or not alert.harmless_so_far
        if "harmless" in alert.advice and alert.state == "firing":
            assert alert.harmless_so_far or alert.kind != "data_drift"


@given(settings_of, histories)
def test_a_case_has_one_advice_and_its_parts_and_a_person_is_notified_of_it_and_not_of_each_part(
    settings: AlertSettings, history: list
) -> None:
    told: dict[str, list] = {}
    for transition in play(settings, history):
        alert = transition.alert
        assert (alert.case_id is None) == (alert.kind in ("latency", "operational")) or alert.state == "resolved"
        if alert.case_id is None:
            continue
        firing = [part for part in alert.parts if part.state == "firing"]
        assert (alert.incident_id in {part.incident_id for part in firing}) == (alert.state == "firing")
        if firing:
            worst = "critical" if any(part.severity == "critical" for part in firing) else "warning"
            assert alert.case_severity == worst
        if not alert.muted:
            told.setdefault(alert.case_id, []).append(alert)
    for alerts in told.values():
        news = [alert for alert in alerts if alert.notify and alert.state == "firing"]
        # It opens and may become critical; no finding here is a further change of what fires.
        assert len(news) <= 2
        assert len({alert.severity for alert in news}) == len(news)
        ends = [alert for alert in alerts if alert.notify and alert.state == "resolved"]
        assert ends == [] or ends == alerts[-1:]


@given(settings_of, histories)
def test_nothing_of_a_muted_cause_is_published(settings: AlertSettings, history: list) -> None:
    policy, now = AlertPolicy("m", settings), 0
    until: dict[str, int] = {}
    for number, (elapsed, what) in enumerate(history):
        now += elapsed
        transitions = do(policy, number, now, what)
        muted = None
        if what[0] == "mute":
            cause = Finding(sequence=0, time_ms=0, kind=what[1], subject="s", level=Level.DRIFT)
            muted = policy.fingerprint(what[2], cause)
            if what[3] == 0:
                until[muted] = min(until.get(muted, 0), now)
        for alert in published(transitions):
            assert alert.event_time_ms >= until.get(alert.fingerprint, 0)
        if muted is not None:
            until[muted] = now + what[3]


@given(settings_of, histories)
def test_open_incidents_are_bounded(settings: AlertSettings, history: list) -> None:
    policy, now = AlertPolicy("m", settings), 0
    for number, (elapsed, what) in enumerate(history):
        now += elapsed
        do(policy, number, now, what)
        open_ = policy.open_incidents()
        assert len(open_) <= settings.max_incidents + 1
        assert sum(alert.kind == "operational" for alert in open_) <= 1


def one_cause_millisecond_by_millisecond(settings: AlertSettings, levels: dict[int, Level], end: int) -> list:
    """Say when one cause fires and resolves, by the words of Prometheus' manual, without a timer."""
    out, since, gone_since, firing = [], None, None, False
    for now in range(end):
        level = levels.get(now)
        if firing and gone_since is not None and now - gone_since >= settings.keep_firing_for_ms:
            out.append((now, "resolved"))
            firing, since, gone_since = False, None, None
        if not firing and since is not None and now - since >= settings.pending_for_ms:
            out.append((now, "firing"))
            firing = True
        if level == Level.DRIFT:
            since, gone_since = (now if since is None else since), None
        elif level == Level.STABLE and firing:
            gone_since = now if gone_since is None else gone_since
        elif level == Level.STABLE:
            since = None
        if not firing and since is not None and settings.pending_for_ms == 0:
            out.append((now, "firing"))
            firing = True
        if firing and gone_since is not None and settings.keep_firing_for_ms == 0:
            out.append((now, "resolved"))
            firing, since, gone_since = False, None, None
    return out


@given(
    st.sampled_from([0, 1, 3, 10]),
    st.sampled_from([0, 1, 4, 20]),
    st.dictionaries(st.integers(0, 80), st.sampled_from([Level.STABLE, Level.DRIFT]), max_size=30),
)
def test_one_cause_fires_and_resolves_when_a_clock_that_looks_every_millisecond_says_so(
    pending_for: int, keep_firing_for: int, levels: dict[int, Level]
) -> None:
    settings = AlertSettings(pending_for_ms=pending_for, keep_firing_for_ms=keep_firing_for)
    policy, out = AlertPolicy("m", settings), []
    for now in sorted(levels):
        finding = Finding(sequence=now, time_ms=now, kind="latency", subject="latency", level=levels[now])
        out += policy.advance(finding, "1")
    out += policy.tick(200)
    expected = one_cause_millisecond_by_millisecond(settings, levels, 200)
    assert [(transition.alert.event_time_ms, transition.alert.state) for transition in out] == expected
