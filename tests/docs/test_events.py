"""The examples of docs/events.md are what the running service writes."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from schemas.cloudevents import from_message
from schemas.outputs import Alert, FineTuneTrigger
from tests.docs import scenario
from tests.docs.regions import as_golden, golden
from tests.docs.scenario import Published

# Logarithms are numpy's: on another kind of processor their last digit may differ.
CLOSE = 1e-9


@pytest.fixture(scope="module")
def published() -> list[Published]:
    return asyncio.run(scenario.run())


def test_the_examples_are_what_the_service_writes(published: list[Published]) -> None:
    found, kept = as_golden(published), golden()
    assert found.keys() == kept.keys()
    for name, record in found.items():
        assert record["key"] == kept[name]["key"]
        assert headers(record) == headers(kept[name])
        numbers, others = flat(record["value"])
        kept_numbers, kept_others = flat(kept[name]["value"])
        assert others == kept_others, name
        assert numbers == pytest.approx(kept_numbers, rel=CLOSE), name


def headers(record: dict[str, Any]) -> dict[str, str]:
    """All headers, but the identifier that is a hash of a trigger's whole content, last digits included."""
    left_out = {"ce_id"} if "trigger" in record["topic"] else set()
    return {name: text for name, text in record["headers"].items() if name not in left_out}


def flat(value: Any) -> tuple[dict[str, float], dict[str, Any]]:
    """Path to leaf: the numbers, and everything else."""
    leaves = dict(walk(value, "$"))
    numbers = {path: leaf for path, leaf in leaves.items() if isinstance(leaf, float)}
    return numbers, {path: leaf for path, leaf in leaves.items() if path not in numbers}


def walk(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    inner: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        inner = list(value.items())
    elif isinstance(value, list):
        inner = list(enumerate(value))
    if not inner:
        yield path, value
    for name, item in inner:
        yield from walk(item, f"{path}.{name}")


def test_every_record_is_a_cloud_event_of_its_own(published: list[Published]) -> None:
    identities = [(record.headers["ce_source"], record.headers["ce_id"]) for record in published]
    assert len(set(identities)) == len(identities)
    for record in published:
        assert from_message([(name, text.encode()) for name, text in record.headers.items()], record.value)


def test_the_story_ends_with_a_better_version_and_no_open_incident(published: list[Published]) -> None:
    alerts = [record.event for record in published if isinstance(record.event, Alert)]
    last = {alert.incident_id: alert for alert in alerts}
    assert {alert.kind for alert in last.values()} >= {"concept_drift", "data_drift"}
    assert {alert.state for alert in last.values()} == {"resolved"}
    triggers = [record.event for record in published if isinstance(record.event, FineTuneTrigger)]
    assert [trigger.state for trigger in triggers] == ["requested", "running", "verifying", "completed"]
    assert triggers[-1].verified_better
    assert triggers[-1].new_model_version == "8"


def test_the_training_window_begins_where_the_stream_changed(published: list[Published]) -> None:
    trigger = next(record.event for record in published if isinstance(record.event, FineTuneTrigger))
    assert all(abs(part.start_offset - scenario.CHANGE) < 50 for part in trigger.window)
