"""The proof of exactly-once: a service under seeded faults, against what must have come out.

More than these seeds: `python -m tests.simulation --seeds 5000`.
"""

import pytest

from tests.simulation.mutants import MUTANTS, first_to_catch
from tests.simulation.run import Judgement, judge
from tests.simulation.scenario import draw

FAST_SEEDS = range(5)
SLOW_SEEDS = [range(start, start + 20) for start in range(5, 205, 20)]


def violations(seeds: range) -> list[Judgement]:
    return [verdict for verdict in map(judge, seeds) if verdict.violation is not None]


def test_whatever_happens_the_committed_outputs_are_those_of_the_undisturbed_run() -> None:
    verdicts = [judge(seed) for seed in FAST_SEEDS]
    assert [str(verdict) for verdict in verdicts if verdict.violation is not None] == []
    # A run in which nothing happened would prove nothing.
    assert sum(verdict.outputs for verdict in verdicts) > 100
    assert all(sum(verdict.faults[kind] for verdict in verdicts) for kind in ("crash", "leave", "zombie"))


def test_whatever_the_core_raises_at_other_models_do_not_notice_and_replay_decides_the_same() -> None:
    sick = [seed for seed in range(30) if draw(seed).sickness]
    verdicts = [judge(seed) for seed in sick]
    assert [str(verdict) for verdict in verdicts if verdict.violation is not None] == []
    assert sum(verdict.faults["verdict"] for verdict in verdicts) > 10


@pytest.mark.slow
@pytest.mark.parametrize("seeds", SLOW_SEEDS, ids=str)
def test_whatever_happens_many_times_the_outputs_are_those_of_the_undisturbed_run(seeds: range) -> None:
    assert [str(verdict) for verdict in violations(seeds)] == []


def test_a_seed_repeats_its_run_to_the_byte() -> None:
    assert judge(5) == judge(5)


@pytest.mark.slow
@pytest.mark.parametrize("name", MUTANTS)
def test_a_service_that_is_broken_on_purpose_is_found_out(name: str) -> None:
    assert first_to_catch(name, range(120)) is not None
