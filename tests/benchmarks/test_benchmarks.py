"""The benchmarks measure what they say: the workload is what figures speak of, and every program runs to its end."""

import itertools
import json

import orjson
import pytest

from benchmarks import __main__ as program
from benchmarks import monitor, overhead, service
from benchmarks.events import FEATURES, LABEL_DELAY, Workload, slices


@pytest.mark.parametrize("categorical", [0, 2])
def test_predictions_have_850_bytes_and_20_features(categorical: int) -> None:
    part = next(slices(Workload(categorical=categorical), 500))
    assert 840 <= sum(map(len, part.predictions)) / 500 <= 890
    features = [orjson.loads(value)["features"] for value in part.predictions]
    assert {len(each) for each in features} == {FEATURES}
    assert {sum(isinstance(value, str) for value in each.values()) for each in features} == {categorical}


@pytest.mark.parametrize("size", [300, 1_000, 2_500])
def test_every_label_comes_1000_predictions_behind_its_own(size: int) -> None:
    predictions: list[str] = []
    labels: list[str] = []
    for part in itertools.islice(slices(Workload(models=3), size), 9):
        predictions += [orjson.loads(value)["prediction_id"] for value in part.predictions]
        labels += [orjson.loads(value)["prediction_id"] for value in part.labels]
        assert len(labels) == max(0, len(predictions) - LABEL_DELAY)
    assert labels == predictions[: len(labels)]


def test_the_measured_monitor_joins_every_label_and_watches_every_model() -> None:
    watching = monitor.Monitor(monitor.many_models(4), 500)
    for part in itertools.islice(slices(Workload(models=4), 1_000), 3):
        watching.take(part)
    versions = [version for model in watching.task.models.values() for version in model.versions.values()]
    assert [version.counts.values["predictions"] for version in versions] == [750] * 4
    assert [version.window.total for version in versions] == [500] * 4
    assert all(version.features.is_ready for version in versions)


def test_both_sides_of_the_monitor_s_ratio_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitor, "ROUNDS", 2)
    for case in monitor.cases(0.002):
        result = monitor.measure(case, 2_000)
        assert float(str(result["ratio"])) > 1.0  # the monitor parses too


@pytest.mark.slow
def test_the_service_is_compared_with_a_bare_loop_over_the_same_records() -> None:
    (result,) = service.run(0.005, kinds=("sqlite",))
    assert result["records"] == 1_000
    assert float(str(result["share_of_bare_loop"])) > 0.0
    assert int(str(result["commits"])) >= 1


@pytest.mark.slow
def test_the_overhead_of_commits_and_the_time_to_recover_are_measured() -> None:
    (result,) = overhead.run(0.005, kinds=("sqlite",))
    assert result["records"] == 3_000
    assert float(str(result["recover_s"])) > 0.0
    assert float(str(result["recover_after_kill_s"])) > 0.0
    assert int(str(result["repeated_records"])) > 0


@pytest.mark.slow
@pytest.mark.kafka
def test_the_service_is_measured_on_a_real_broker(kafka_bootstrap: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEGAUGE_TEST_BOOTSTRAP", kafka_bootstrap)
    (result,) = service.run(0.005, kinds=("kafka",))
    assert result["records"] == 1_000


def test_json_goes_to_standard_output_alone(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(monitor, "ROUNDS", 1)
    monkeypatch.setattr(program, "configure_logging", lambda _: None)  # it would outlive the captured stream
    program.main(["--only", "monitor", "--scale", "0.0005", "--json"])
    printed = json.loads(capsys.readouterr().out)
    assert [row["case"] for row in printed["results"]["monitor"]] == [case.name for case in monitor.cases(0.0005)]
