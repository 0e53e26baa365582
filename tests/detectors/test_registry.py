"""Detectors by name, and river's behind the adapter."""

import subprocess
import sys

import msgspec
import numpy as np
import pytest

from detectors.protocol import Detector, Level, StateError
from detectors.registry import DETECTORS, make, names, parameters, restore
from tests.detectors.strategies import bernoulli, feed, packed


def test_every_name_is_its_detectors_own():
    for name in names():
        detector: Detector = make(name)
        assert detector.name == name == DETECTORS[name].name
        assert detector.domain in {"bernoulli", "unit", "real"}


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("adwin", {"delta": 2}, r"$.delta: expected a number in (0, 1), got 2"),
        ("adwin", {"delta": "much"}, r"$.delta: expected a number in (0, 1), got 'much'"),
        ("adwin", {"delta": float("nan")}, r"$.delta: expected a number in (0, 1), got nan"),
        ("adwin", {"clock": 1.5}, r"$.clock: expected an integer in [1, 1024], got 1.5"),
        ("adwin", {"clock": True}, r"$.clock: expected an integer in [1, 1024], got True"),
        ("adwin", {"compat": "moa"}, r"$.compat: expected one of 'river' or null, got 'moa'"),
        ("hddm_a", {"two_sided": 1}, r"$.two_sided: expected true or false, got 1"),
        ("eddm", {"alpha": 0.5}, r"$.alpha: expected a number of at least beta, 0.9, got 0.5"),
        ("fhddm", {"window": 9}, r"$.window: unknown parameter, expected one of confidence, window_size"),
        ("river:PageHinkley", {"lambda": 9}, r"$.lambda: unknown parameter, expected one of alpha, delta, "),
        ("river:PageHinkley", {"mode": []}, r"$.mode: expected a number, a string, true, false or null, got a list"),
        ("river:PageHinkley", {"mode": "sideways"}, r"$: river:PageHinkley refuses"),
        ("river:Nothing", {}, r"unknown river detector 'Nothing', expected one of ADWIN, DDM, "),
        ("nothing", {}, r"unknown detector 'nothing', expected one of adwin, "),
    ],
)
def test_a_wrong_parameter_or_name_is_refused_by_its_path(name, given, message):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the whole message is compared
        make(name, **given)
    assert str(caught.value).startswith(message)


def test_the_parameters_of_a_detector_are_its_signature():
    adwin = parameters("adwin")
    assert adwin["delta"].default == 0.002
    assert adwin["delta"].expected == "a number in (0, 1)"
    assert parameters("river:ADWIN")["delta"].default == 0.002


def test_a_whole_number_does_for_a_real_parameter():
    assert packed(make("page_hinkley", run_length=1000)) == packed(make("page_hinkley", run_length=1000.0))


def test_a_river_detector_is_found_by_its_class_name_too():
    values = bernoulli(1, (0.1, 600), (0.7, 300))
    found = [feed(make(name), values) for name in ("river:DDM", "river:binary.DDM", "DDM")]
    assert found[0]
    assert found[0] == found[1] == found[2]


def test_rivers_level_is_said_in_our_words():
    detector = make("river:DDM")
    seen = set()
    for value in bernoulli(1, (0.1, 1_000), (0.3, 1_000)).tolist():
        level = detector.update(value)
        seen.add(level)
        assert detector.verdict().statistic == {Level.STABLE: 0.0, Level.WARNING: 0.5, Level.DRIFT: 1.0}[level]
    assert seen == set(Level)


def test_river_is_not_imported_before_it_is_needed():
    program = (
        "import sys; from detectors.registry import make, names; [make(n) for n in names()];"
        "assert 'river' not in sys.modules; make('river:DDM'); assert 'river' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_a_river_snapshot_with_a_wrong_byte_never_reaches_rust():
    detector = make("river:ADWIN")
    feed(detector, np.ones(100))
    state = detector.snapshot()
    helper = state["body"]["attributes"]["_helper"]
    helper["bytes"] = helper["bytes"][:-1]
    with pytest.raises(StateError, match="_helper"):
        restore(state)


def test_a_snapshot_of_another_release_of_river_is_refused():
    state = make("river:ADWIN").snapshot()
    with pytest.raises(StateError, match=r"\$\.river"):
        restore({**state, "river": "0.1.0"})


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"detector": 7, "parameters": {}},
        {"detector": "adwin"},
        {"detector": "adwin", "parameters": {"delta": 2}, "version": 1, "body": {}},
        {"detector": "adwin", "parameters": {1: 2}, "version": 1, "body": {}},
        {"detector": "river:Nothing", "parameters": {}, "version": 1},
    ],
)
def test_what_is_no_snapshot_is_refused(state):
    with pytest.raises(StateError):
        restore(state)


def test_a_damaged_window_of_adwin_is_refused():
    detector = make("adwin")
    feed(detector, np.ones(100))
    state = msgspec.msgpack.decode(packed(detector))
    state["body"]["totals"][0].append(1.0)
    with pytest.raises(StateError, match="differ in shape"):
        restore(state)
    state["body"]["spreads"][0].append(1.0)
    with pytest.raises(StateError, match="add up"):
        restore(state)
