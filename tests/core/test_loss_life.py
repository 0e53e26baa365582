"""The life of the loss after its alarm: ends on evidence, and each further change is told once."""

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.aftermath import BLOCK, Aftermath, AftermathState, Limits
from detectors.level import LevelSums
from detectors.level_interval import estimate_level
from service.core.findings import Level
from tests.core.test_loss import ESR, Watched, errors


def sums(count: int, mean: float) -> LevelSums:
    return LevelSums(count, count * mean, count * mean)


def turns(rates: list[tuple[float, int]], *, seed: int, reference: float = 0.1) -> list[tuple[int, str]]:
    aftermath = Aftermath.begin(sums(10_000, reference), 1.0, Limits())
    losses = errors(seed, *rates)
    found = []
    for start in range(0, len(losses) - BLOCK + 1, BLOCK):
        turn = aftermath.take(losses[start : start + BLOCK])
        if turn is not None:
            found.append((start + BLOCK, turn.kind))
            if turn.kind == "back":
                break
    return found


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("reference", "damaged"), [(0.02, 0.05), (0.1, 0.13), (0.1, 0.2), (0.2, 0.3)])
def test_lasting_damage_is_never_called_over(reference: float, damaged: float, seed: int) -> None:
    assert [kind for _, kind in turns([(damaged, 20_000)], seed=seed, reference=reference) if kind == "back"] == []


@pytest.mark.parametrize(("damaged", "within"), [(0.15, 4_000), (0.2, 2_000), (0.5, 1_000)])
def test_a_true_return_is_found(damaged: float, within: int) -> None:
    found = turns([(damaged, 5_000), (0.1, 20_000)], seed=4)
    assert [kind for _, kind in found] == ["back"]
    assert 5_000 < found[0][0] <= 5_000 + within


@pytest.mark.parametrize("seed", range(5))
def test_a_loss_that_falls_to_something_between_is_better_and_not_back(seed: int) -> None:
    found = turns([(0.5, 3_000), (0.2, 20_000)], seed=seed)
    assert [kind for _, kind in found] == ["better"]


def test_each_further_change_is_told_once() -> None:
    found = turns([(0.2, 3_000), (0.4, 3_000), (0.9, 3_000), (0.6, 3_000)], seed=1)
    assert [kind for _, kind in found] == ["worse", "worse", "better"]
    assert [number // 3_000 for number, _ in found] == [1, 2, 3]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 40), st.integers(0, 1_000))
def test_it_goes_on_from_its_state_as_if_nothing_had_happened(cut: int, seed: int) -> None:

    losses = errors(seed, (0.3, 1_000), (0.6, 1_000), (0.1, 1_000))
    blocks = losses.reshape(-1, BLOCK)
    whole = Aftermath.begin(sums(500, 0.1), 1.0, Limits())
    found = [whole.take(block) for block in blocks[:cut]]
    if any(turn is not None and turn.kind == "back" for turn in found):
        return
    plain = msgspec.json.decode(msgspec.json.encode(whole.state), type=AftermathState)
    other = Aftermath(plain, Limits())
    for block in blocks[cut:]:
        one = whole.take(block)
        assert one == other.take(block)
        assert msgspec.json.encode(whole.state) == msgspec.json.encode(other.state)
        if one is not None and one.kind == "back":
            return


def test_what_was_learnt_as_normal_stays_known_behind_a_drift() -> None:
    watched = Watched(ESR)
    watched.feed(errors(2, (0.1, 8_000)))
    detector = watched.monitor.bank.detectors[0]
    null = detector.null_mean
    (first, *_) = watched.feed(errors(3, (0.3, 400)))
    assert first.level is Level.DRIFT
    assert watched.monitor.bank.detectors[0].null_mean == null < 0.12
    assert first.evidence[0].reference_count > 7_000


def test_the_level_told_at_an_alarm_is_not_the_mean_of_what_looked_worst() -> None:
    plain, told = [], []
    for seed in range(30):
        watched = Watched(ESR)
        found = watched.feed(errors(seed, (0.02, 3_000), (0.05, 5_000)))
        if not found:
            continue
        evidence = found[0].evidence[0]
        losses = errors(seed, (0.02, 3_000), (0.05, 5_000))
        assert evidence.change_point is not None
        stop = next(row for row, _ in enumerate(losses, 1) if row >= found[0].sequence + 1)
        plain.append(losses[evidence.change_point.sample_index : stop].mean() - 0.05)
        told.append(float(evidence.after) - 0.05)
        assert evidence.after_low <= evidence.after <= evidence.after_high
    assert abs(np.mean(told)) < abs(np.mean(plain)) / 1.5


def test_an_estimated_level_covers_a_clear_one() -> None:
    estimate = estimate_level(errors(1, (0.1, 1_000), (0.4, 500)), 0.1)
    assert estimate.low < 0.4 < estimate.high
    assert abs(estimate.change - 1_000) < 60
    assert estimate.change_low <= estimate.change <= estimate.change_high
