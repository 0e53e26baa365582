"""The loss monitor: what its detectors know of the reference, and what they know after a restart."""

import msgspec
import numpy as np
import pytest

from detectors.protocol import StateError
from service.core.columns import Outcomes
from service.core.findings import Finding
from service.core.loss import LossMonitor
from service.core.metrics.window import OutcomeWindow
from service.core.settings import ConceptDriftSettings, DetectorSettings

ESR = DetectorSettings(name="e_sr")
CUSUM = DetectorSettings(name="cusum", params={"reference_size": 200})


def outcomes(losses: np.ndarray, first: int) -> Outcomes:
    count = len(losses)
    numbers = np.arange(first, first + count)
    zeros = np.zeros(count)
    return Outcomes(
        sequence=numbers,
        watermark_ms=numbers * 1_000,
        prediction_time_ms=numbers * 1_000,
        label_time_ms=numbers * 1_000,
        prediction_offset=numbers,
        label_offset=numbers,
        predicted=losses,
        actual=zeros,
        score=np.full(count, np.nan),
        weight=np.ones(count),
        segments=np.zeros(count, dtype=np.int64),
        probabilities=[None] * count,
    )


class Watched:
    """A monitor with its window, fed with losses of 0 and 1."""

    def __init__(self, *detectors: DetectorSettings, reference_outcomes: int = 500) -> None:
        settings = ConceptDriftSettings(detectors=detectors, alert_on="any", reference_outcomes=reference_outcomes)
        self.monitor = LossMonitor(settings, 500, bernoulli=True)
        self.window = OutcomeWindow("multiclass", 10_000)

    def feed(self, losses: np.ndarray) -> list[Finding]:
        feed = self.monitor.feed(outcomes(losses, self.window.total), losses, self.window)
        found = []
        while (finding := feed.advance(feed.end)) is not None:
            found.append(finding)
        return found

    def restarted(self, *detectors: DetectorSettings) -> "Watched":
        other = Watched(*detectors)
        other.window = self.window
        plain = msgspec.msgpack.decode(msgspec.msgpack.encode(self.monitor.snapshot()))
        other.monitor.restore(plain, self.window.total)
        return other


def errors(seed: int, *stretches: tuple[float, int]) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.concatenate([(rng.random(count) < rate).astype(np.float64) for rate, count in stretches])


def clustered(seed: int, count: int) -> np.ndarray:
    """Errors in clusters of ten, a tenth of all."""
    return np.repeat(errors(seed, (0.1, count // 10)), 10)


def change_point(finding: Finding) -> int:
    point = finding.evidence[0].change_point
    assert point is not None
    return point.sample_index


def test_a_detector_that_goes_on_behind_a_drift_knows_how_dependent_the_reference_was() -> None:
    for losses, most in ((clustered(1, 500), 100.0), (errors(1, (0.1, 500)), 1.0)):
        watched = Watched(ESR)
        watched.feed(losses)
        (finding,) = watched.feed(np.ones(200))
        assert finding.kind == "concept_drift"
        inflation = watched.monitor.bank.detectors[0].snapshot()["body"]["inflation"]
        assert inflation <= most
        assert (inflation > 3.0) == (most > 1.0)
        reference = watched.monitor.reference()
        assert reference is not None
        assert reference["dependence"] == inflation


def test_a_detector_that_is_new_after_a_restart_puts_the_change_where_it_was() -> None:
    watched = Watched(ESR)
    assert watched.feed(errors(2, (0.1, 3_000))) == []
    both = watched.restarted(ESR, CUSUM)
    found = both.feed(errors(3, (0.1, 1_000), (0.5, 300)))
    assert abs(change_point(found[0]) - 4_000) < 40
    alone = watched.restarted(CUSUM)
    (of_cusum, *_) = alone.feed(errors(3, (0.1, 1_000), (0.5, 300)))
    assert abs(change_point(of_cusum) - alone.window.total + 300) < 40


def test_a_detector_that_is_new_within_the_reference_is_given_all_of_it() -> None:
    watched = Watched(ESR)
    watched.feed(errors(4, (0.1, 300)))
    both = watched.restarted(CUSUM)
    both.feed(errors(5, (0.1, 700)))
    assert both.monitor.verdicts()["cusum"]["sample_count"] == 1_000
    (finding, *_) = both.feed(errors(6, (0.5, 200)))
    assert abs(change_point(finding) - 1_000) < 40


def test_a_reference_that_was_closed_early_is_as_long_after_a_restart() -> None:
    watched = Watched(ESR)
    watched.feed(errors(7, (0.1, 120)))
    watched.monitor.close_reference(120)
    assert watched.restarted(ESR).monitor.reference() == watched.monitor.reference()
    reference = watched.monitor.reference()
    assert reference is not None
    assert reference["count"] == 120


def test_a_snapshot_of_a_newer_program_is_refused() -> None:
    watched = Watched(ESR)
    with pytest.raises(StateError):
        watched.monitor.restore({**watched.monitor.snapshot(), "version": 2}, 0)
