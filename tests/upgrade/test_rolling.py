"""The comparison behind `make upgrade-test`: what is lost, doubled, changed or out of order is seen."""

import json
from pathlib import Path

import pytest

from tests.upgrade.rolling import Outcome, compare

SAID = {"begin": {"0": [["a", "1"], ["m", "x"], ["a", "2"]]}, "restore": {"0": [["a", "3"], ["m", "y"]]}}
PUBLISHED = {("a", 0): ["1", "2", "3"], ("m", 0): ["x", "y"]}


def compared(directory: Path, published: dict[tuple[str, int], list[str]]) -> Outcome:
    for mode, said in SAID.items():
        (directory / f"{mode}.json").write_text(json.dumps(said))
    return compare(directory, {where: [(None, value.encode()) for value in got] for where, got in published.items()})


def test_what_both_programs_should_have_said_is_no_difference(tmp_path: Path) -> None:
    outcome = compared(tmp_path, PUBLISHED)
    assert (outcome.by_old, outcome.by_new, outcome.differences) == (3, 2, [])


@pytest.mark.parametrize("got", [["1", "3"], ["1", "2", "2", "3"], ["1", "2", "4"], ["1", "3", "2"], []])
def test_what_is_lost_doubled_changed_or_out_of_order_is_named(tmp_path: Path, got: list[str]) -> None:
    [told] = compared(tmp_path, PUBLISHED | {("a", 0): got}).differences
    assert told.startswith(f"a[0]: {len(got)} published, 3 expected; the first other one is ")
