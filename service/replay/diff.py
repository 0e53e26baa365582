"""What changed between the alerts of two runs: incidents that are new, gone, or the same with other particulars."""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from schemas.outputs import Alert
from service.replay.session import RunError


class Incident(msgspec.Struct, frozen=True, kw_only=True):
    """One incident, from its first firing on."""

    incident_id: str
    fingerprint: str
    model_id: str
    model_version: str
    segment: str | None
    kind: str
    severity: str
    starts_at_ms: int
    ends_at_ms: int | None
    transitions: int
    detectors: tuple[str, ...]
    summary: str


class Changed(msgspec.Struct, frozen=True, kw_only=True):
    """An incident that both runs have, and what differs."""

    before: Incident
    after: Incident
    fields: tuple[str, ...]
    starts_later_ms: int


class AlertDiff(NamedTuple):
    """What changed from the first run to the second."""

    gone: list[Incident]
    new: list[Incident]
    changed: list[Changed]
    same: int

    @property
    def differs(self) -> bool:
        """Whether anything changed."""
        return bool(self.gone or self.new or self.changed)

    def as_plain(self) -> dict[str, Any]:
        """Give it as plain data."""
        plain: dict[str, Any] = msgspec.to_builtins(self._asdict())
        return plain


def read_incidents(path: Path) -> list[Incident]:
    """Read the incidents of a run's directory, or of a file of alerts. Raises RunError that names the line."""
    file = path / "alerts.jsonl" if path.is_dir() else path
    found: dict[str, Incident] = {}
    for alert in _alerts(file):
        if alert.state == "pending":
            continue
        known = found.get(alert.incident_id)
        found[alert.incident_id] = _incident(alert, known)
    return sorted(found.values(), key=lambda incident: (incident.starts_at_ms, incident.incident_id))


class _Envelope(msgspec.Struct):
    data: msgspec.Raw = msgspec.Raw()


def _alerts(file: Path) -> Iterator[Alert]:
    decoder, envelope = msgspec.json.Decoder(Alert), msgspec.json.Decoder(_Envelope)
    try:
        with file.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                try:
                    # A structured CloudEvent has the alert in its data; no alert has a field of that name.
                    inner = envelope.decode(line).data
                    yield decoder.decode(inner if bytes(inner) else line)
                except msgspec.DecodeError as error:
                    raise RunError(f"{file}:{number}: {error}") from error
    except OSError as error:
        raise RunError(f"{file}: {error.strerror or error}") from error


def _incident(alert: Alert, known: Incident | None) -> Incident:
    return Incident(
        incident_id=alert.incident_id,
        fingerprint=alert.fingerprint,
        model_id=alert.model_id,
        model_version=alert.model_version,
        segment=alert.segment,
        kind=alert.kind,
        severity=alert.severity,
        starts_at_ms=alert.starts_at_ms,
        ends_at_ms=alert.ends_at_ms,
        transitions=1 if known is None else known.transitions + 1,
        detectors=tuple(sorted({piece.detector for piece in alert.evidence})),
        summary=alert.summary if known is None else known.summary,
    )


COMPARED = ("severity", "starts_at_ms", "ends_at_ms", "transitions", "detectors", "summary")


def diff(before: Sequence[Incident], after: Sequence[Incident], tolerance_ms: int) -> AlertDiff:
    """Compare incidents. Two are the same one if their cause is, and they overlap or begin within the tolerance.

    Each is paired at most once, with the one that begins nearest: those that begin at the same moment first.
    """
    pairs = sorted(_candidates(before, after, tolerance_ms))
    partner: dict[int, int] = {}
    taken: set[int] = set()
    for _, first, second in pairs:
        if first not in partner and second not in taken:
            partner[first] = second
            taken.add(second)
    changed = [found for first, second in sorted(partner.items()) if (found := _compare(before[first], after[second]))]
    return AlertDiff(
        gone=[incident for number, incident in enumerate(before) if number not in partner],
        new=[incident for number, incident in enumerate(after) if number not in taken],
        changed=changed,
        same=len(partner) - len(changed),
    )


def _candidates(
    before: Sequence[Incident], after: Sequence[Incident], tolerance_ms: int
) -> Iterator[tuple[int, int, int]]:
    by_cause: dict[str, list[int]] = {}
    for number, incident in enumerate(after):
        by_cause.setdefault(incident.fingerprint, []).append(number)
    for number, incident in enumerate(before):
        others = by_cause.get(incident.fingerprint, [])
        # Of one cause a run has one incident at a time, so they are in order of their ends too.
        first = bisect_left(others, incident.starts_at_ms - tolerance_ms, key=lambda other: _end(after[other]))
        for other in others[first:]:
            if after[other].starts_at_ms > _end(incident) + tolerance_ms:
                break
            apart = abs(incident.starts_at_ms - after[other].starts_at_ms)
            if apart <= tolerance_ms or _overlap(incident, after[other]):
                yield apart, number, other


def _end(incident: Incident) -> int:
    return _NEVER if incident.ends_at_ms is None else incident.ends_at_ms


_NEVER = 1 << 62


def _overlap(one: Incident, other: Incident) -> bool:
    return one.starts_at_ms <= _end(other) and other.starts_at_ms <= _end(one)


def _compare(before: Incident, after: Incident) -> Changed | None:
    fields = tuple(name for name in COMPARED if getattr(before, name) != getattr(after, name))
    if not fields:
        return None
    later = after.starts_at_ms - before.starts_at_ms
    return Changed(before=before, after=after, fields=fields, starts_later_ms=later)
