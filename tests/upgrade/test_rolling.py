"""The comparison behind `make upgrade-test`: what is lost, doubled, changed or out of order is seen."""

import json
from pathlib import Path

import pytest

from tests.upgrade.rolling import Outcome, compare, likeness

SAID = {
    "begin": {"0": [["a", "{}"], ["m", "{}"], ["a", "{ }"]]},
    "restore": {"0": [["a", '{"event_time_ms":3}'], ["m", '{"event_time_ms":4,"new":1}']]},
    "alone": {"0": [["a", '{"event_time_ms":3,"gone":2}'], ["m", '{"event_time_ms":5}']]},
}
PUBLISHED = {
    ("a", 0): ["{}", "{ }", '{"event_time_ms":3}'],
    ("m", 0): ["{}", '{"event_time_ms":4,"new":1}'],
}
ONE, TWO, THREE = PUBLISHED["a", 0]


def compared(directory: Path, published: dict[tuple[str, int], list[str]]) -> Outcome:
    for mode, said in SAID.items():
        (directory / f"{mode}.json").write_text(json.dumps(said))
    return compare(directory, {where: [(None, value.encode()) for value in got] for where, got in published.items()})


def test_what_both_programs_should_have_said_is_no_difference(tmp_path: Path) -> None:
    outcome = compared(tmp_path, PUBLISHED)
    assert (outcome.by_old, outcome.by_new, outcome.differences) == (3, 2, [])
    assert (outcome.both, dict(outcome.changed)) == (1, {})


@pytest.mark.parametrize("got", [[ONE, THREE], [ONE, TWO, TWO, THREE], [ONE, TWO, "4"], [ONE, THREE, TWO], []])
def test_what_is_lost_doubled_changed_or_out_of_order_is_named(tmp_path: Path, got: list[str]) -> None:
    [told] = compared(tmp_path, PUBLISHED | {("a", 0): got}).differences
    assert told.startswith(f"a[0]: {len(got)} published, 3 expected; the first other one is ")


def test_what_both_say_is_compared_in_the_fields_that_both_have() -> None:
    mine = [("m", '{"model_id":"x","values":{"a":1,"new":2},"list":[{"b":1}]}'), ("m", '{"model_id":"y","n":1}')]
    theirs = [("m", '{"model_id":"x","values":{"a":1},"list":[{"b":1,"c":3}]}'), ("m", '{"model_id":"y","n":2}')]
    assert likeness(mine, theirs) == (2, {"n": 1})
