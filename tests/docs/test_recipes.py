"""The programs on the pages do what the pages say."""

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

import orjson
import pytest
import yaml

from tests.docs.pages import ROOT, function_of
from tests.docs.regions import golden
from tests.docs.test_pages import rejections_of

Recipe = Callable[..., Any]


def recipe(page: str, name: str) -> Recipe:
    found = function_of(page, name)[name]
    assert callable(found)
    return found


def assert_usable(events: list[dict[str, Any]]) -> None:
    for event in events:
        assert rejections_of(orjson.dumps(event)) == []


def test_kserve_logs_become_predictions() -> None:
    headers = {
        "ce-id": "defb5816-35f7-4947-a2b1-b9e5d7764ad2",
        "ce-time": "2021-04-10T01:22:16.498917288Z",
        "ce-inferenceservicename": "sklearn-iris",
        "ce-namespace": "default",
    }
    request = {"instances": [[6.8, 2.8, 4.8, 1.4], [6.0, 3.4, 4.5, 1.6]]}
    events = recipe("docs/connect.md", "from_kserve")(headers, request, {"predictions": [1, 1]}, "abcd", "v1")
    assert_usable(events)
    assert [(event["row_id"], event["features"]["a"]) for event in events] == [("0", 6.8), ("1", 6.0)]
    assert events[0]["event_time_ms"] == 1618017736498


def test_tensors_of_the_open_inference_protocol_become_predictions() -> None:
    tensor = {"name": "predict", "datatype": "FP32", "shape": [2, 4], "data": [6.8, 2.8, 4.8, 1.4, 6.0, 3.4, 4.5, 1.6]}
    answers = {"name": "predict", "datatype": "INT64", "shape": [2], "data": [1, 0]}
    response = {"model_name": "iris", "model_version": "1", "id": "42", "outputs": [answers]}
    convert = recipe("docs/connect.md", "from_open_inference")
    events = convert({"id": "42", "inputs": [tensor]}, response, 1_740_000_000_000, "abcd")
    assert_usable(events)
    assert [(event["prediction"], event["features"]["d"]) for event in events] == [(1, 1.4), (0, 1.6)]


def test_sagemaker_captures_and_their_ground_truth_meet() -> None:
    line = json.dumps(
        {
            "captureData": {
                "endpointInput": {"mode": "INPUT", "data": "132,25,,1", "encoding": "CSV"},
                "endpointOutput": {"mode": "OUTPUT", "data": "0.01076381653547287", "encoding": "CSV"},
            },
            "eventMetadata": {
                "eventId": "feca1ab1-8025-47e3-8f6a-99e3fdd7b8d9",
                "inferenceTime": "2019-11-20T23:33:12Z",
            },
            "eventVersion": "0",
        }
    )
    truth = json.dumps(
        {
            "groundTruthData": {"data": "1", "encoding": "CSV"},
            "eventMetadata": {"eventId": "feca1ab1-8025-47e3-8f6a-99e3fdd7b8d9"},
            "eventVersion": "0",
        }
    )
    (event,) = recipe("docs/connect.md", "from_sagemaker")(line, "churn", "1", "abcd")
    label = recipe("docs/connect.md", "label_from_sagemaker")(truth, "churn", 1_740_000_000_000)
    assert_usable([event, label])
    assert event["prediction"] is False
    assert event["features"] == {"a": 132.0, "b": 25.0, "c": None, "d": 1.0}
    join_key = ("prediction_id", "row_id", "model_id")
    assert [event[name] for name in join_key] == [label[name] for name in join_key]


def test_an_alert_becomes_what_alertmanager_takes() -> None:
    convert = recipe("docs/events.md", "alertmanager_alert")
    firing, resolved = (convert(golden()[name]["value"]) for name in ("alert_firing", "alert_resolved"))
    assert firing["labels"] == resolved["labels"]
    assert firing["labels"]["alertname"] == "ModelConceptDrift"
    assert all(isinstance(text, str) for part in ("labels", "annotations") for text in firing[part].values())
    starts_at_ms = datetime.fromisoformat(firing["startsAt"]).timestamp() * 1000
    assert starts_at_ms == golden()["alert_firing"]["value"]["starts_at_ms"]
    assert "endsAt" not in firing
    assert resolved["endsAt"] > resolved["startsAt"]


def test_only_a_requested_trigger_starts_an_airflow_run() -> None:
    convert = recipe("docs/events.md", "airflow_run")
    requested, completed = (golden()[name]["value"] for name in ("trigger_requested", "trigger_completed"))
    assert convert(completed) is None
    run = convert(requested)
    assert run["dag_run_id"] == requested["trigger_id"]
    assert run["logical_date"] is None
    assert run["conf"]["window"]


@pytest.fixture
def argo() -> tuple[dict[str, Any], dict[str, Any]]:
    source, sensor = (yaml.safe_load((ROOT / "deploy" / "argo" / f"{name}.yaml").read_text()) for name in FILES)
    return source, sensor


FILES = ("event-source", "sensor")


def test_the_argo_sensor_listens_to_the_argo_source(argo: tuple[dict[str, Any], dict[str, Any]]) -> None:
    source, sensor = argo
    (dependency,) = sensor["spec"]["dependencies"]
    assert dependency["eventSourceName"] == source["metadata"]["name"]
    kafka = source["spec"]["kafka"][dependency["eventName"]]
    assert kafka["jsonBody"]
    assert yaml.safe_load(kafka["config"])["consumer"]["isolationLevel"] == 1


def test_what_the_argo_sensor_takes_of_a_trigger_is_there(argo: tuple[dict[str, Any], dict[str, Any]]) -> None:
    _, sensor = argo
    trigger = golden()["trigger_requested"]["value"]
    (dependency,), (started,) = sensor["spec"]["dependencies"], sensor["spec"]["triggers"]
    for rule in dependency["filters"]["data"]:
        assert trigger[rule["path"].removeprefix("body.")] in rule["value"]
    for parameter in started["template"]["argoWorkflow"]["parameters"]:
        assert parameter["src"]["dependencyName"] == dependency["name"]
        key = parameter["src"]["dataKey"]
        assert key == "body" or key.removeprefix("body.") in trigger
