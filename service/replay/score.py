"""How good the alerts were: delay, missed, false, beside policies that look at nothing.

Reported as the literature asks: an F1 with a tolerance rewards a detector that always fires, so delay and false alarms
stand each for itself, next to always-fire, never-fire and a fixed schedule (docs/replay-and-backtest.md).
"""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import msgspec
import numpy as np

from schemas.outputs import Alert, DriftKind
from service.core.settings import CoreSettings
from service.replay.cost import Cost, Policy, cost_of, fine_tunes_of, policies
from service.replay.digest import Digest
from service.replay.timeline import Timeline
from service.replay.trained import Triggered, triggered
from service.replay.truth import Truth, Window, windows_of

DAY_MS: Final = 86_400_000

UNSCORED: Final[frozenset[DriftKind]] = frozenset({"operational"})
"""Kinds that speak of the monitor itself, not of the model."""


class Alarm(NamedTuple):
    """A moment at which people are told something new: an incident fires, or one that fires names further features."""

    event: int
    time_ms: int
    kind: DriftKind
    incident_id: str


class Detection(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one happening."""

    name: str
    event: int
    time_ms: int
    detected: bool
    delay_events: int | None = None
    delay_ms: int | None = None
    kind: DriftKind | None = None
    incidents: int = 0
    """All that fired in its window."""


class Tally(msgspec.Struct, frozen=True, kw_only=True):
    """One policy's alarms against the truth. `false_alarms` and what follows are null where no truth is known."""

    policy: str
    alarms: int
    detected: int | None = None
    missed: int | None = None
    false_alarms: int | None = None
    false_per_10k_events: float | None = None
    false_per_day: float | None = None
    mean_delay_events: float | None = None
    cost: Cost


class ModelScore(msgspec.Struct, frozen=True, kw_only=True):
    """One model's score."""

    model_id: str
    events: int
    outcomes: int
    first_ms: int
    last_ms: int
    incidents: dict[str, int]
    """By kind."""
    false_by_kind: dict[str, int] | None
    detections: tuple[Detection, ...]
    tallies: tuple[Tally, ...]
    """The monitor's own first, then the baselines."""
    triggers: tuple[Triggered, ...]


def score(
    digest: Digest, timelines: Mapping[str, Timeline], truth: Truth | None, core: CoreSettings
) -> list[ModelScore]:
    """Score every model, in the order of their names."""
    return [
        _score(digest, name, timelines[name], truth, core.profile(name).fine_tune.min_labels)
        for name in sorted(timelines)
    ]


def _score(digest: Digest, model_id: str, timeline: Timeline, truth: Truth | None, min_labels: int) -> ModelScore:
    windows = [] if truth is None else windows_of(truth, model_id, timeline)
    alarms = alarms_of([alert for alert in digest.alerts if alert.model_id == model_id], timeline)
    triggers = triggered([item for item in digest.triggers if item.model_id == model_id], timeline)
    known = truth is not None
    tunes = fine_tunes_of(triggers, [window.start_ms for window in windows] if known else None)
    tallies = [_own(alarms, timeline, windows, cost_of(tunes, timeline.losses, min_labels), known=known)]
    baselines = policies(tunes, timeline, min_labels, len(alarms))
    tallies += [_blind(policy, timeline, windows, known=known) for policy in baselines]
    return ModelScore(
        model_id=model_id,
        events=timeline.events,
        outcomes=timeline.outcomes,
        first_ms=timeline.first_ms or 0,
        last_ms=timeline.last_ms,
        incidents=_by_kind(alarms),
        false_by_kind=_by_kind(_false(alarms, windows)) if known else None,
        detections=tuple(_detection(window, alarms) for window in windows),
        tallies=tuple(tallies),
        triggers=tuple(triggers),
    )


def alarms_of(alerts: Sequence[Alert], timeline: Timeline) -> list[Alarm]:
    """Give the first firing of each incident, and each later one that tells of something new.

    An incident of inputs may stay open for good; that other features drift too is news all the same. So is a further
    change of the loss while its incident is open: of such an alert a person is notified.
    """
    named: dict[str, set[str]] = {}
    alarms = []
    for alert in alerts:
        if alert.state != "firing" or alert.kind in UNSCORED:
            continue
        features = {feature.feature for piece in alert.evidence for feature in piece.features}
        moved_again = alert.kind == "concept_drift" and alert.notify
        if alert.incident_id in named and features <= named[alert.incident_id] and not moved_again:
            continue
        named.setdefault(alert.incident_id, set()).update(features)
        # Finding times are watermarks: the alert came with the last event whose watermark is not later.
        event = max(timeline.event_at(alert.event_time_ms) - 1, 0)
        alarms.append(Alarm(event, alert.event_time_ms, alert.kind, alert.incident_id))
    return sorted(alarms, key=lambda alarm: (alarm.event, alarm.incident_id))


def _detection(window: Window, alarms: Sequence[Alarm]) -> Detection:
    inside = [alarm for alarm in alarms if window.detects(alarm.event, alarm.kind)]
    if not inside:
        return Detection(name=window.name, event=window.start, time_ms=window.start_ms, detected=False)
    first = inside[0]
    return Detection(
        name=window.name,
        event=window.start,
        time_ms=window.start_ms,
        detected=True,
        delay_events=first.event - window.start,
        delay_ms=max(first.time_ms - window.start_ms, 0),
        kind=first.kind,
        incidents=len({alarm.incident_id for alarm in inside}),
    )


def _false(alarms: Sequence[Alarm], windows: Sequence[Window]) -> list[Alarm]:
    return [alarm for alarm in alarms if not any(window.detects(alarm.event, alarm.kind) for window in windows)]


def _own(alarms: Sequence[Alarm], timeline: Timeline, windows: Sequence[Window], cost: Cost, *, known: bool) -> Tally:
    delays = [_detection(window, alarms).delay_events for window in windows]
    return _tally("monitor", len(alarms), len(_false(alarms, windows)), delays, timeline, cost, known=known)


def _blind(policy: Policy, timeline: Timeline, windows: Sequence[Window], *, known: bool) -> Tally:
    """Judge a policy that looks at nothing; its alarms are of any kind, which only flatters it."""
    delays: list[int | None] = []
    inside = 0
    covered = 0
    for window in windows:
        first, last = policy.span(max(window.start, covered), window.end)
        inside += last - first
        at = policy.span(window.start, window.end)[0]
        delays.append(policy.event(at) - window.start if policy.span(window.start, window.end)[1] > at else None)
        covered = max(covered, window.end)
    return _tally(policy.name, policy.alarms, policy.alarms - inside, delays, timeline, policy.cost, known=known)


def _tally(
    policy: str, alarms: int, false: int, delays: Sequence[int | None], timeline: Timeline, cost: Cost, *, known: bool
) -> Tally:
    if not known:
        return Tally(policy=policy, alarms=alarms, cost=cost)
    told = [delay for delay in delays if delay is not None]
    days = max(timeline.last_ms - (timeline.first_ms or 0), 1) / DAY_MS
    return Tally(
        policy=policy,
        alarms=alarms,
        detected=len(told),
        missed=len(delays) - len(told),
        false_alarms=false,
        false_per_10k_events=false / timeline.events * 10_000 if timeline.events else 0.0,
        false_per_day=false / days,
        mean_delay_events=float(np.mean(told)) if told else None,
        cost=cost,
    )


def _by_kind(alarms: Sequence[Alarm]) -> dict[str, int]:
    """Count incidents."""
    incidents = {alarm.incident_id: alarm.kind for alarm in alarms}
    return {kind: sum(found == kind for found in incidents.values()) for kind in sorted(set(incidents.values()))}
