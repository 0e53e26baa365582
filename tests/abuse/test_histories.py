"""Hard times cost no label and stop no metric, and where labels are missing it is said why."""

from itertools import pairwise

import pytest

from tests.abuse.histories import (
    CAUGHT_UP,
    DAY_MS,
    DELAY_MS,
    FILLED_FROM_MS,
    FILLED_IN,
    FILLED_STEP_MS,
    FIRST,
    HOUR_AGO_MS,
    LABELLED,
    LENGTH,
    LIVE,
    MINUTE_MS,
    NEIGHBOURS,
    RENAMED,
    STEP_MS,
    STOPPED,
    UNTOUCHED,
)
from tests.abuse.run import Seen

pytestmark = pytest.mark.kafka

CLOCK_RECORDS = 4
"""How many records a model's clock follows behind."""


def moments(seen: Seen, model_id: str) -> list[int]:
    return [snapshot.event_time_ms for snapshot in seen.snapshots(model_id)]


def test_a_model_that_is_filled_in_after_another_has_all_its_labels_and_metrics(seen: Seen) -> None:
    for model_id in (FIRST, FILLED_IN):
        assert (seen.predictions[model_id], seen.outcomes[model_id]) == (LENGTH, LENGTH)
        assert seen.letters(model_id) == seen.alerts(model_id) == []
    told = moments(seen, FILLED_IN)
    assert len(told) >= LENGTH - 2 * CLOCK_RECORDS  # its records lie hours apart: one each time
    assert told[0] <= FILLED_FROM_MS + (CLOCK_RECORDS + 1) * FILLED_STEP_MS
    assert told[-1] <= FILLED_FROM_MS + 31 * DAY_MS
    assert seen.snapshots(FILLED_IN)[-1].outcomes_total > 0


@pytest.mark.parametrize("model_id", [LIVE, CAUGHT_UP])
def test_a_record_58_minutes_ahead_loses_no_label_and_stops_no_metric(seen: Seen, model_id: str) -> None:
    for name in (model_id, NEIGHBOURS[model_id]):
        assert (seen.predictions[name], seen.outcomes[name]) == (LENGTH, LENGTH)
        assert seen.letters(name) == seen.alerts(name) == []
        told = moments(seen, name)
        while_records_come = [at for at in told if at <= HOUR_AGO_MS + (LENGTH - CLOCK_RECORDS - 1) * STEP_MS]
        assert len(while_records_come) >= (LENGTH - 2 * CLOCK_RECORDS) * STEP_MS // MINUTE_MS - 1
        assert {after - before for before, after in pairwise(while_records_come)} == {MINUTE_MS}


def test_a_record_ahead_changes_nothing_for_the_model_beside_it(seen: Seen) -> None:
    until_ms = HOUR_AGO_MS + (LENGTH - 2 * CLOCK_RECORDS) * STEP_MS
    beside, apart = (
        {
            told.event_time_ms: (told.predictions_total, told.outcomes_total, told.label_delay_ms, told.windows)
            for told in seen.snapshots(model_id)
            if told.event_time_ms <= until_ms
        }
        for model_id in (NEIGHBOURS[LIVE], NEIGHBOURS[UNTOUCHED])
    )
    assert beside == apart
    assert len(beside) >= (LENGTH - 2 * CLOCK_RECORDS) * STEP_MS // MINUTE_MS - 1


def test_labels_that_stop_are_told_with_when_and_what_is_usual(seen: Seen) -> None:
    assert (seen.predictions[STOPPED], seen.outcomes[STOPPED]) == (LENGTH, LABELLED)
    (alert,) = seen.alerts(STOPPED)
    assert (alert.alertname, alert.state, alert.severity) == ("ModelLabelsMissing", "firing", "warning")
    assert alert.evidence[0].subject == "labels_stopped"
    assert f"labels stopped: the last of {LABELLED} came at" in alert.summary
    assert "95 % usually come within 20.1 s" in alert.summary
    assert "Look at the producer of labels" in alert.advice
    stopped_ms = HOUR_AGO_MS + LABELLED * STEP_MS + DELAY_MS
    assert 0 < alert.starts_at_ms - stopped_ms < 6 * MINUTE_MS  # 19 predictions without a label, and the clock's four
    assert seen.letters(STOPPED) == []


def test_labels_by_another_scheme_of_identifiers_are_told_with_one_of_each(seen: Seen) -> None:
    assert (seen.predictions[RENAMED], seen.outcomes[RENAMED]) == (LENGTH, 0)
    (alert,) = seen.alerts(RENAMED)
    assert (alert.alertname, alert.state, alert.severity) == ("ModelLabelsMissing", "firing", "warning")
    assert alert.evidence[0].subject == "labels_unmatched"
    assert 'as of "order-0", while predictions wait, as "p0"' in alert.summary
    assert "Compare the two identifiers" in alert.advice
    assert seen.letters(RENAMED) == []  # they wait as long as predictions do
