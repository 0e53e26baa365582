"""Misplaced records: each is judged by itself, told once, counted, and used all the same."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.codec import encode
from schemas.outputs import Alert, MetricSnapshot, Output
from service.core.decode import decode_block
from service.core.intake import Positions, Role
from service.core.partitioning import crc32_partition, fnv1a_partition, partition_for
from service.core.placement import Placement
from service.core.settings import HOUR_MS, CoreSettings
from service.core.task import Task
from tests.core.stream import ALL_IDLE, START_MS, TOPICS, event_times, label, prediction

PARTITIONS = 6
SETTINGS = CoreSettings()
Keyed = Sequence[tuple[bytes | None, bytes]]


def model_in(partition: int, rule: Any = partition_for) -> str:
    """Give a model that a rule puts into a partition, and that murmur2 puts elsewhere if the rule is another."""
    names = (f"model-{number}" for number in range(1000))
    return next(
        name
        for name in names
        if rule(name.encode(), PARTITIONS) == partition
        and (rule is partition_for or partition_for(name.encode(), PARTITIONS) != partition)
    )


HOME = model_in(0)
GUEST = model_in(0, crc32_partition)


def feed(task: Task, predictions: Keyed, labels: Keyed, batch: int, placement: Placement | None = None) -> list[Output]:
    """Give a task keyed records in batches, as the runtime does."""
    placement = placement or Placement(0, PARTITIONS)
    out: list[Output] = []
    for start in range(0, max(len(predictions), len(labels)), batch):
        for role, records in ((Role.PREDICTIONS, predictions), (Role.LABELS, labels)):
            part = records[start : start + batch]
            keys, values = [key for key, _ in part], [value for _, value in part]
            position = task.intake.position(role)
            offsets, stamps = np.arange(position, position + len(part)), np.array(event_times(values))
            end = position + len(part)
            if part:
                task.intake.offer(role, decode_block(role, offsets, stamps, values, end, SETTINGS, keys, placement))
        while (result := task.step(ALL_IDLE, 10_000)) is not None:
            out += result.outputs
    return out


def new_task() -> Task:
    return Task(SETTINGS, TOPICS, Positions(0, 0, 0))


def keyed(values: Sequence[bytes], key: bytes | None) -> list[tuple[bytes | None, bytes]]:
    return [(key, value) for value in values]


def alerts(outputs: Sequence[Output]) -> list[Alert]:
    return [output for output in outputs if isinstance(output, Alert) and output.kind == "operational"]


def predictions_of(model: str, count: int) -> list[bytes]:
    return [prediction(number, number % 2 == 0, model=model) for number in range(count)]


def labels_of(model: str, count: int) -> list[bytes]:
    return [label(number, number % 2 == 0, model=model) for number in range(count)]


def test_what_lies_in_its_place_is_not_told_of():
    key = HOME.encode()
    outputs = feed(new_task(), keyed(predictions_of(HOME, 50), key), keyed(labels_of(HOME, 50), key), 10)
    assert alerts(outputs) == []


@pytest.mark.parametrize(
    ("model", "key", "subject", "words"),
    [
        (GUEST, GUEST.encode(), "other_partition_of_labels", "as CRC32 does, the default of librdkafka"),
        (HOME, b"customer 7", "other_key_of_labels", "are keyed by 'customer 7' instead of the model_id"),
        (HOME, None, "no_key_of_labels", "have no key"),
    ],
)
def test_a_misplaced_record_is_told_at_once_counted_and_used(model, key, subject, words):
    task = new_task()
    outputs = feed(task, keyed(predictions_of(model, 40), model.encode()), keyed(labels_of(model, 40), key), 10)
    told = [alert for alert in alerts(outputs) if alert.evidence[0].subject == subject]
    assert [(alert.state, alert.severity, alert.alertname, alert.model_id) for alert in told] == [
        ("firing", "critical", "ModelRecordsMisplaced", model)
    ]
    assert words in told[0].summary
    assert ("partitioner=murmur2_random" if subject.startswith("other_partition") else "model_id") in told[0].advice
    assert told[0].evidence[0].sample_count == 1
    assert task.strays.counts[model, Role.LABELS] == 40
    assert sum(version.window.total for version in task.models[model].versions.values()) == 40


def test_the_mend_names_the_setting_of_the_client():
    outputs = feed(new_task(), keyed(predictions_of(GUEST, 1), GUEST.encode()), [], 1)
    (told,) = alerts(outputs)
    assert "lie in partition 0 of 6, as CRC32 does" in told.summary
    assert f"murmur2 of the key says {partition_for(GUEST.encode(), PARTITIONS)}" in told.summary
    assert "partitioner=murmur2_random" in told.advice


@pytest.mark.parametrize(
    ("rule", "partitions", "model"),
    [("crc32", PARTITIONS, GUEST), ("murmur2", 1, GUEST), (None, PARTITIONS, GUEST)],
)
def test_where_another_rule_is_agreed_or_there_is_one_partition_nothing_is_misplaced(rule, partitions, model):
    key = model.encode()
    outputs = feed(new_task(), keyed(predictions_of(model, 5), key), [], 5, Placement(0, partitions, rule))
    assert alerts(outputs) == []


def test_fnv1a_is_what_sarama_computes():
    # FNV-1a of "foobar" is 0xbf9cf968 (the authors' test vector); Sarama takes it as a signed number, without sign.
    assert fnv1a_partition(b"foobar", 1000) == (2**32 - 0xBF9CF968) % 1000


def test_the_incident_ends_when_nothing_was_misplaced_for_an_hour():
    task = new_task()
    strayed = keyed(predictions_of(GUEST, 3), GUEST.encode())
    times = [START_MS + 200 + HOUR_MS - 1] * 9 + [START_MS + 20_200 + HOUR_MS] * 9  # nine move the log's clock
    later = [prediction(10 + n, True, model=HOME, event_time_ms=time) for n, time in enumerate(times)]
    outputs = feed(task, [*strayed, *keyed(later, HOME.encode())], [], 100)
    states = [(alert.state, alert.resolution) for alert in alerts(outputs)]
    assert states == [("firing", None), ("resolved", "no such record for an hour of event time")]
    again = feed(task, keyed([prediction(40, True, model=GUEST, event_time_ms=START_MS + 2 * HOUR_MS)], b"x"), [], 1)
    assert [alert.state for alert in alerts(again)] == ["firing"]


def test_models_beyond_the_bound_are_counted_together(monkeypatch):
    monkeypatch.setattr("service.core.strays.MAX_MODELS", 2)
    task = new_task()
    records = [(None, prediction(number, True, model=f"m{number}")) for number in range(5)]
    assert len(alerts(feed(task, records, [], 5))) == 2
    assert task.strays.counts["(all)", Role.PREDICTIONS] == 3


@st.composite
def sources(draw: st.DrawFn) -> list[tuple[bytes | None, bytes]]:
    records = []
    for number in range(draw(st.integers(1, 40))):
        model = draw(st.sampled_from([HOME, GUEST, "other"]))
        key = draw(st.sampled_from([model.encode(), model.encode(), None, b"customer", b"another"]))
        time_ms = START_MS + number * draw(st.sampled_from([100, 60_000, HOUR_MS]))
        value = prediction(number, True, model=model, event_time_ms=time_ms)
        records.append((key, draw(st.sampled_from([value, value, value[:-1]]))))
    return records


@settings(deadline=None, max_examples=40)
@given(records=sources(), batch=st.integers(1, 12), cut=st.integers(0, 40))
def test_cuts_and_restarts_change_no_byte(records, batch, cut):
    whole = feed(new_task(), records, [], 100)
    task = new_task()
    parts = feed(task, records[:cut], [], batch)
    entries = {name: entry for name, entry in task.changed_state().items() if entry is not None}
    heir = Task.restore(SETTINGS, TOPICS, task.intake.taken, entries)
    parts += feed(heir, records[cut:], [], batch)

    def told(outputs: list[Output]) -> list[bytes]:
        return [encode(output) for output in outputs if not isinstance(output, MetricSnapshot)]

    assert told(whole) == told(parts)
    assert [encode(output) for output in whole] == [encode(output) for output in parts]
