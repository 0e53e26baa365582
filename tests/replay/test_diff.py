"""What changed between two runs' alerts."""

from pathlib import Path

import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.codec import encode
from service.replay.diff import Incident, diff, read_incidents
from service.replay.session import RunError
from tests.replay.test_score import alert


def incident(start: int, end: int | None, cause: str = "c", **fields: object) -> Incident:
    common = {"model_id": "m", "model_version": "1", "segment": None, "kind": "concept_drift", "severity": "warning"}
    return Incident(
        incident_id=f"{cause}-{start}",
        fingerprint=cause,
        starts_at_ms=start,
        ends_at_ms=end,
        **(common | {"transitions": 1, "detectors": ("ddm",), "summary": ""} | fields),
    )


@st.composite
def runs(draw: st.DrawFn) -> list[Incident]:
    """Incidents as a run has them: of one cause one at a time."""
    found = []
    for cause in "ab":
        edges = sorted(draw(st.lists(st.integers(0, 60), max_size=8, unique=True)))
        found += [incident(start, end, cause) for start, end in zip(edges[::2], edges[1::2], strict=False)]
        if len(edges) % 2:
            found.append(incident(edges[-1], None, cause))
    return sorted(found, key=lambda one: (one.starts_at_ms, one.incident_id))


@given(runs(), runs(), st.integers(0, 10))
def test_every_incident_is_gone_new_changed_or_the_same_and_the_way_back_mirrors(
    before: list[Incident], after: list[Incident], tolerance: int
) -> None:
    there, back = diff(before, after, tolerance), diff(after, before, tolerance)
    assert len(before) == len(there.gone) + len(there.changed) + there.same
    assert len(after) == len(there.new) + len(there.changed) + there.same
    assert (len(back.gone), len(back.new), len(back.changed), back.same) == (
        len(there.new),
        len(there.gone),
        len(there.changed),
        there.same,
    )


@given(runs())
def test_a_run_does_not_differ_from_itself(run: list[Incident]) -> None:
    found = diff(run, run, 0)
    assert not found.differs
    assert found.same == len(run)


def test_what_changed_is_named() -> None:
    before = [incident(0, 10), incident(20, 30), incident(5, None, "d")]
    after = [incident(4, 10, severity="critical"), incident(50, None, "d"), incident(40, 45)]
    found = diff(before, after, 0)
    assert [(one.fields, one.starts_later_ms) for one in found.changed] == [
        (("severity", "starts_at_ms"), 4),
        (("starts_at_ms",), 45),
    ]
    assert [one.starts_at_ms for one in found.gone] == [20]
    assert [one.starts_at_ms for one in found.new] == [40]


def test_incidents_are_read_from_binary_and_structured_events(tmp_path: Path) -> None:
    first, last = alert(10), msgspec.structs.replace(alert(10, state="resolved"), ends_at_ms=99, severity="critical")
    pending = alert(5, number=5, state="pending")
    whole = orjson.dumps({"specversion": "1.0", "data": orjson.Fragment(encode(last))})
    (tmp_path / "alerts.jsonl").write_bytes(b"\n".join([encode(pending), encode(first), whole]) + b"\n")
    (found,) = read_incidents(tmp_path)
    assert (found.starts_at_ms, found.ends_at_ms, found.severity, found.transitions) == (10_000, 99, "critical", 2)


def test_a_line_that_is_no_alert_is_named(tmp_path: Path) -> None:
    file = tmp_path / "alerts.jsonl"
    file.write_bytes(encode(alert(10)) + b"\n{}\n")
    with pytest.raises(RunError, match=r"alerts\.jsonl:2: "):
        read_incidents(file)
    with pytest.raises(RunError, match="No such file"):
        read_incidents(tmp_path / "absent")
