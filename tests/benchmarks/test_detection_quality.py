"""The tables of the detection-quality benchmark, at sizes that take a second: what they count, and that they count."""

import json
import math

import numpy as np
import pytest

from benchmarks.detection_quality import table_a, table_b, table_e, table_f
from benchmarks.detection_quality.__main__ import document, main
from benchmarks.detection_quality.conformance import DEFECTS
from benchmarks.detection_quality.contenders import RIVER, Contender, ours, tunable
from benchmarks.detection_quality.datasets import Labelled
from benchmarks.detection_quality.deployed import Detection, Schedule, run_deployed
from benchmarks.detection_quality.kdd_trials import Episode, episodes
from benchmarks.detection_quality.prequential import DetectorWatcher, EveryWatcher, run, scored
from benchmarks.detection_quality.running import alarms, run_length
from benchmarks.detection_quality.streams import STABLE, errors, shifting, stable_streams
from benchmarks.detection_quality.table_d import scored as scored_as_published
from benchmarks.detection_quality.tuning import tuned
from detectors.registry import names


def small_stream():
    """Two thousand rows whose class is whether x0 is above 1/2, and below from the middle on."""
    rng = np.random.default_rng(1)
    rows = [{"x0": float(x), "x1": float(y)} for x, y in rng.random((2_000, 2))]
    classes = [int((row["x0"] > 0.5) != (i >= 1_000)) for i, row in enumerate(rows)]
    return Labelled("small", rows, classes, (1_000,), 300)


def test_every_registered_detector_takes_part():
    assert [contender.name for contender in ours()] == names()


@pytest.mark.parametrize("kind", STABLE, ids=lambda kind: kind.label)
def test_the_first_streams_are_the_same_however_many_are_drawn(kind):
    few, many = stable_streams(kind, 1, 500, 3), stable_streams(kind, 2, 500, 3)
    assert np.array_equal(few[0], many[0])
    assert many[0].min() >= 0.0
    assert many[0].max() <= 1.0


def test_dependent_errors_keep_their_rate():
    kind = next(kind for kind in STABLE if kind.label == "AR(1) .9 errors, p0 .1")
    values = stable_streams(kind, 1, 60_000, 4)[0]
    assert values.mean() == pytest.approx(0.1, abs=0.01)
    assert np.corrcoef(values[:-1], values[1:])[0, 1] > 0.4


def test_alarms_are_counted_and_the_detector_goes_on_behind_each():
    stream = np.concatenate([np.zeros(1_000), np.ones(1_000), np.zeros(1_000)])
    found = alarms(Contender("ours", "adwin", "real"), stream)
    assert [round(place, -2) for place in found] == [1_000, 2_000]
    assert alarms(Contender("ours", "adwin", "real"), stream, at_most=1) == found[:1]


def test_a_run_length_is_events_for_each_alarm_and_its_bound_is_poissons():
    streams = stable_streams(STABLE[2], 5, 2_000, 5)
    length = run_length(next(c for c in RIVER if c.name == "EDDM"), streams)
    assert length.events == 10_000
    assert length.mean == length.events / length.alarms
    assert length.upper > length.mean
    assert math.isinf(run_length(Contender("ours", "adwin", "real"), streams).upper)


def test_tuning_brings_a_detector_to_the_run_length_that_is_asked_for():
    streams = shifting(0.1, 0.1, 5_000, 0, 20, 6)
    one = next(one for one in tunable() if one.contender.name == "ewma")
    found = tuned(one, streams, 2_000.0)
    assert 1_200.0 < found.run_length < 3_500.0
    assert run_length(found.contender, streams).mean == found.run_length


def test_a_model_that_is_begun_anew_on_alarm_is_better_than_one_that_is_not():
    stream = small_stream()
    watched = run(stream, DetectorWatcher(Contender("ours", "cusum", "real", (("reference_size", 300),))))
    left_alone = run(stream, EveryWatcher(None))
    assert left_alone.alarms == []
    assert watched.accuracy > left_alone.accuracy + 0.1
    assert scored(watched.alarms, stream.drifts, stream.tolerance).true == 1
    assert run(stream, EveryWatcher(500)).alarms == [499, 999, 1_499, 1_999]


def test_an_alarm_is_true_once_for_each_drift_and_every_other_is_false():
    score = scored([50, 100, 120, 300, 900], [100, 500], 100)
    assert (score.true, score.false, score.missed, score.delays) == (1, 4, 1, [0])


def test_the_published_score_counts_every_alarm_within_the_delay_as_true():
    one = Episode(np.zeros(1), np.zeros(1, dtype=np.int64), onset=10_000)
    score = scored_as_published([one, one], [[9_000, 10_100, 12_500], []])
    # 2 true, 1 false, 1 missed: precision 2/3, recall 2/3.
    assert score["f1"] == pytest.approx(2 / 3)
    assert score["delay"] == 100
    assert score["episodes"] == 1


def test_a_trial_of_the_published_benchmark_shares_what_comes_before_its_onset():
    trial = episodes(small_stream(), 3)
    onset = trial["y_swaps", "ABRUPT"].onset
    assert 1_000 <= onset <= 1_600
    before = [one.errors[one.rows < onset] for one in trial.values()]
    assert all(np.array_equal(part, before[0]) for part in before)
    assert trial["y_prior_skip", "ABRUPT"].rows.size < trial["x_permutations", "ABRUPT"].rows.size
    assert trial["x_permutations", "ABRUPT"].rows[0] == 501


def test_ours_is_free_of_each_defect_that_can_be_run_here_in_a_second():
    slow = ("river KSWIN", "frouros", "MOA")
    for defect in DEFECTS:
        if defect.library.startswith(slow) or "never forgets" in defect.what:
            continue
        assert not defect.ours().defective, defect
        if defect.theirs is not None:
            assert defect.theirs().defective, defect


def test_a_promise_is_broken_only_where_chance_does_not_explain_it():
    row = {"detector": "one", "guaranteed": True, "nominal": 1_000.0}
    cells = {kind.label: {"events": 10_000, "alarms": 10, "upper": 2_000.0} for kind in STABLE}
    assert table_a.broken_promises({"rows": [{**row, "cells": cells}]}) == []
    cells["p0 0.1"] = {"events": 10_000, "alarms": 40, "upper": 350.0}
    assert table_a.broken_promises({"rows": [{**row, "cells": cells}]}) == ["one on p0 0.1: 250 of 1,000"]


def test_only_detectors_at_the_run_length_are_compared():
    def row(family, run, mean):
        cell = {"mean": mean, "error": 5.0}
        return {"detector": family, "family": family, "setting 0.1": {"run_length": run}, "cells": {"0.1 to 0.2": cell}}

    table = {"rows": [row("ours", 9_000, 100.0), row("river", 2_000, 20.0), row("river", 11_000, 95.0)]}
    found = table_b.standing(table, "0.1 to 0.2")
    assert (found["ours"]["mean"], found["theirs"]["mean"], found["holds"]) == (100.0, 95.0, True)
    table["rows"].append(row("river", 11_000, 80.0))
    assert not table_b.standing(table, "0.1 to 0.2")["holds"]


def test_a_shift_of_a_whole_deviation_is_named_and_correlated_features_are_drawn():
    way = table_f.WAYS[0]
    delay = table_f._delay(way, 5, 1.0, 2)
    assert delay <= 600
    values = table_f._drawn(np.random.default_rng(1), 4_000, 3)
    assert np.corrcoef(values.T)[0, 1] == pytest.approx(0.3, abs=0.06)


def test_a_table_is_kept_as_json_and_the_page_is_written_from_it(tmp_path, monkeypatch):
    some = [defect for defect in DEFECTS if defect.library == "river DDM"][:1]
    monkeypatch.setattr(table_e, "DEFECTS", some)
    page = tmp_path / "page.md"
    main(["--table", "E", "--quick", "--json", str(tmp_path), "--markdown", str(page)])
    stored = json.loads((tmp_path / "table-E.json").read_text())
    assert stored["rows"][0]["shown"]
    assert stored["rows"][0]["ours_free"]
    assert page.read_text() == document({"E": stored})
    assert "one error after 4,000" in page.read_text()


def test_errors_come_at_their_rate():
    assert errors(0.2)(np.random.default_rng(2), 20_000).mean() == pytest.approx(0.2, abs=0.01)


def test_a_deployed_model_is_replaced_behind_its_drift_and_the_detector_begins_anew():
    rng = np.random.default_rng(5)
    values = rng.random((12_000, 2))
    turned = np.arange(12_000) >= 6_000
    rows = [{"x0": float(x), "x1": float(y)} for x, y in values]
    classes = ((values[:, 0] > 0.5) != turned).astype(int).tolist()
    stream = Labelled("turned", rows, classes, (6_000,), 300)
    course = run_deployed(stream, Detection(Contender("ours", "e_sr", "unit")))
    score = scored(course.alarms, stream.drifts, stream.tolerance)
    assert (score.true, score.false, score.missed) == (1, 0, 0)
    # 10,000 rows are scored; all but the 2,000 that the next model needs are right.
    assert course.accuracy == pytest.approx(0.8, abs=0.01)
    assert run_deployed(stream, Schedule(None)).alarms == []
    fired = run_deployed(stream, Schedule(1_000)).alarms
    assert fired == [2_999, 3_999, 4_999, 5_999, 6_999, 7_999, 8_999, 9_999, 10_999, 11_999]


def test_what_comes_before_the_first_alarm_is_the_same_for_every_watcher():
    stream = small_stream()
    never = run(stream, EveryWatcher(None))
    late = run(stream, EveryWatcher(1_999))
    assert late.alarms == [1_998]
    assert late.accuracy == pytest.approx(never.accuracy, abs=1 / 2_000)
