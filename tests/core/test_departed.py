"""Keys that have left are known exactly, up to a bound, and late labels are called what they are."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.codec import encode
from schemas.outputs import Alert, DeadLetter
from service.core.intake import Role
from service.core.join import departed
from service.core.join.departed import Departed
from service.core.settings import CoreSettings, JoinSettings
from tests.core.stream import START_MS, Driver, Source, label, prediction

BATCHES = st.lists(st.lists(st.tuples(st.integers(0, 40), st.booleans()), max_size=30), max_size=20)


@settings(max_examples=80, deadline=None)
@given(BATCHES, st.integers(0, 60))
def test_the_newest_keys_are_known_as_a_dict_knows_them(batches: list[list[tuple[int, bool]]], limit: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(departed, "BLOCK_ROWS", 8)
        memory, rows, made = Departed(limit), list[tuple[int, int, bool]](), 0
        for batch in batches:
            new = [(key, made + place, answered) for place, (key, answered) in enumerate(batch)]
            made += len(batch)
            columns = [np.array(column) for column in zip(*new, strict=True)] if new else [np.empty(0)] * 3
            memory.add(columns[0].astype(np.uint64), columns[1].astype(np.int64), columns[2].astype(np.bool_))
            memory.settle()
            rows += sorted(new, key=lambda row: row[0])
        known = memory.find(np.arange(41, dtype=np.uint64))
        kept = rows[max(len(rows) - limit, 0) // 8 * 8 :] if limit else []
        expected = {key: (time, answered) for key, time, answered in kept}
        found = {key: (int(known.made_ms[key]), bool(known.answered[key])) for key in range(41) if known.found[key]}
        assert found == expected
        assert sum(len(block) for block in memory.blocks.values()) <= limit + 2 * 8


HORIZON_MS, KEPT_MS = 10_000, 5_000
SETTINGS = CoreSettings(
    tick_ms=1_000,
    join=JoinSettings(label_horizon_ms=HORIZON_MS, correction_horizon_ms=KEPT_MS, orphan_horizon_ms=60_000),
)


def letters(labels: list[bytes], join: JoinSettings = SETTINGS.join, count: int = 400) -> dict[str, DeadLetter]:
    """Run predictions of 40 s beside the labels; give the dead letters by reason."""
    core = CoreSettings(tick_ms=1_000, join=join)
    outputs = Driver(Source([], [prediction(n, "a") for n in range(count)], labels), core).run()
    return {output.reason: output for output in outputs if isinstance(output, DeadLetter)}


def at(number: int, second: int, **fields: int) -> bytes:
    return label(number, "a", event_time_ms=START_MS + 1000 * second, **fields)


def test_a_repetition_a_correction_and_a_label_that_come_too_late_are_called_that_at_once() -> None:
    found = letters([at(0, 2), at(0, 20), at(0, 21, revision=1), at(1, 22), at(9_999, 23)])
    assert sorted(found) == ["correction_too_late", "label_too_late", "late_duplicate"]
    assert "has had its label, longer ago than core.join.correction_horizon_ms (5 s)" in found["late_duplicate"].message
    assert "had waited for core.join.label_horizon_ms (10 s)" in found["label_too_late"].message
    assert {letter.path for letter in found.values()} == {"$.prediction_id"}


def test_what_is_not_known_says_both_that_it_may_be() -> None:
    forgetful = JoinSettings(label_horizon_ms=1_000, orphan_horizon_ms=5_000, remembered_ids=0)
    (letter,) = letters([at(1, 20)], forgetful).values()
    assert letter.reason == "unknown_prediction"
    assert "there is none" in letter.message
    assert "forgotten (core.join.remembered_ids)" in letter.message


def test_labels_that_all_come_too_late_raise_an_alert_that_names_the_setting() -> None:
    labels = [label(n, "a", event_time_ms=START_MS + n * 100 + 15_000) for n in range(600)]
    outputs = Driver(Source([], [prediction(n, "a") for n in range(800)], labels), SETTINGS).run()
    told = [output for output in outputs if isinstance(output, Alert) and output.alertname == "ModelLabelsMissing"]
    (late,) = [alert for alert in told if "labels come too late" in alert.summary]
    assert "core.join.label_horizon_ms (10 s)" in late.summary
    assert re.search(r"up to 1[56](\.\d)? s after their predictions", late.summary)
    assert "Raise core.join.label_horizon_ms" in late.advice


@pytest.mark.parametrize("batch", [13, 160])
def test_cuts_and_restarts_change_no_late_letter(batch: int) -> None:
    labels = [at(0, 2), at(0, 20), at(0, 21, revision=1), at(1, 22), at(1, 22), at(9_999, 23), at(1, 24), at(390, 39)]
    source = Source([], [prediction(n % 390, "a", event_time_ms=START_MS + n * 100) for n in range(600)], labels)
    expected = [encode(output) for output in Driver(source, SETTINGS).run(batch=10_000)]
    driver, got, entries = Driver(source, SETTINGS), [], {}
    while sum([driver.offer(role, batch) for role in Role]):
        got += [encode(output) for output in driver.drain()]
        for name, entry in driver.task.changed_state().items():
            entries.pop(name, None)
            if entry is not None:
                entries[name] = entry
        driver = driver.restarted(dict(entries))
    assert got == expected
