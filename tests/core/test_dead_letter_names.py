"""Dead letters of labels name the prediction, as far as it is known."""

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.codec import encode
from schemas.outputs import DeadLetter, Output
from service.core.intake import Role
from service.core.settings import CoreSettings, JoinSettings
from tests.core.stream import Driver, Source, label, prediction

SETTINGS = CoreSettings(join=JoinSettings(orphan_horizon_ms=60_000), tick_ms=1_000)


def letters(outputs: list[Output]) -> list[tuple[str, str | None]]:
    return [(output.reason, output.prediction_id) for output in outputs if isinstance(output, DeadLetter)]


def test_a_label_that_waited_in_vain_names_its_prediction():
    later = [prediction(900_000 + number, True) for number in range(9)]  # one record alone moves no clock
    source = Source([], [prediction(1, True), *later], [label(1, True), label(2, True), label(3, True)])
    assert letters(Driver(source, SETTINGS).run()) == [("unknown_prediction", "p2"), ("unknown_prediction", "p3")]


def test_a_label_of_the_wrong_type_names_its_prediction():
    source = Source([], [prediction(1, 0.5)], [label(1, "yes")])
    assert letters(Driver(source, SETTINGS).run()) == [("wrong_type", "p1")]


def test_a_label_that_cannot_be_decoded_names_its_prediction_where_that_is_cheap():
    bad = orjson.dumps({"prediction_id": 7, "model_id": "m", "label": [], "event_time_ms": 1})
    assert letters(Driver(Source([], [], [bad]), SETTINGS).run()) == [("wrong_type", "7")]


@settings(deadline=None, max_examples=100)
@given(
    order=st.lists(st.tuples(st.integers(0, 12), st.booleans(), st.integers(0, 2)), min_size=1, max_size=40),
    batch=st.integers(1, 9),
    cut=st.integers(0, 40),
    bound=st.integers(1, 4),
    apart_ms=st.sampled_from([10, 9_000]),  # many between two ticks, or many ticks between two
)
def test_neither_cuts_nor_restarts_nor_the_bound_change_what_is_named(order, batch, cut, bound, apart_ms):
    predictions, labels = [], []
    for place, (number, is_label, revision) in enumerate(order):
        time_ms = 1_790_000_000_000 + place * apart_ms
        made = (
            label(number, True, event_time_ms=time_ms, revision=revision)
            if is_label
            else prediction(number, True, event_time_ms=time_ms)
        )
        (labels if is_label else predictions).append(made)
    source = Source([], [*predictions, prediction(900_000, True)], labels)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("service.core.waiting_names.MAX_NAMES", bound)
        whole = [encode(output) for output in Driver(source, SETTINGS).run(batch=1_000)]
        first = Driver(source, SETTINGS)
        out: list[Output] = []
        for _ in range(cut):
            first.offer(Role.PREDICTIONS, batch)
            first.offer(Role.LABELS, batch)
            out += first.drain()
        entries = {name: entry for name, entry in first.task.changed_state().items() if entry is not None}
        out += first.restarted(entries).run(batch=batch)
    assert sorted(encode(output) for output in out) == sorted(whole)
