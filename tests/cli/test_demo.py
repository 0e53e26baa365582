"""`tidegauge demo`: the closed loop, and how it is told."""

import json
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.events import FineTuneStatus
from service.cli.demo.chart import COLUMNS, ROWS, WITH, WITHOUT, chart, shares
from service.cli.demo.setting import demo_config
from service.cli.demo.story import Story
from service.runtime.settings import TOPIC_FIELDS
from tests.cli.test_watch import ALERT, TRIGGER

ROOT = Path(__file__).parent.parent.parent
COMPLETED = FineTuneStatus(trigger_id="0", model_id="shop", event_time_ms=1, status="completed", model_version="v2")


def play(*left_out: str) -> Story:
    """Tell a story that closes, but for the steps that are left out."""
    story = Story("v1", None)
    verified = msgspec.structs.replace(TRIGGER, state="completed", verified_better=True)
    steps = {
        "serve": lambda: story.answered(version="v1", correct=True, alone_correct=True),
        "alert": lambda: story.published(ALERT),
        "trigger": lambda: story.published(TRIGGER),
        "complete": lambda: story.reported(COMPLETED),
        "take over": lambda: story.answered(version="v2", correct=True, alone_correct=False),
        "verify": lambda: story.published(verified),
        "resolve": lambda: story.published(msgspec.structs.replace(ALERT, state="resolved")),
    }
    for name, step in steps.items():
        if name not in left_out:
            step()
    return story


def test_a_loop_is_closed_by_alert_trigger_new_version_proof_and_resolution() -> None:
    assert play().closed


@pytest.mark.parametrize("left_out", ["alert", "trigger", "take over", "verify", "resolve"])
def test_a_loop_that_lacks_a_step_is_not_closed(left_out: str) -> None:
    assert not play(left_out).closed


def test_an_incident_that_still_fires_keeps_it_open() -> None:
    story = play()
    story.published(msgspec.structs.replace(ALERT, incident_id="another", kind="data_drift"))
    assert not story.closed


def test_the_summary_tells_the_steps_in_order() -> None:
    summary = play().finish(1.0)
    assert [event["what"] for event in summary["events"]] == [
        "alert",
        "trigger",
        "pipeline",
        "serving",
        "trigger",
        "alert",
    ]
    assert (summary["closed"], summary["answers"]) == (True, 2)


@given(st.lists(st.booleans(), max_size=400))
def test_stretches_of_the_chart_cover_every_answer_once(correct: list[bool]) -> None:
    found = shares(correct)
    assert len(found) == min(COLUMNS, len(correct))
    assert all(0.0 <= share <= 1.0 for share in found)
    if correct and len(correct) % COLUMNS == 0:
        assert sum(found) / len(found) == pytest.approx(sum(correct) / len(correct))


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=300), st.data())
def test_the_chart_is_a_rectangle_with_a_point_in_every_column_and_every_mark(
    answers: list[tuple[bool, bool]], data: st.DataObject
) -> None:
    at = st.integers(0, len(answers))
    marks = {"D": data.draw(at), "A": data.draw(at)}
    lines = [line.plain for line in chart([a for a, _ in answers], [b for _, b in answers], marks)]
    columns = min(COLUMNS, len(answers))
    body = [line[6:] for line in lines[:ROWS]]
    assert all(len(line) == columns for line in body)
    assert all(any(line[place] == WITH for line in body) for place in range(columns))
    assert all(sum(line[place] in (WITH, WITHOUT) for line in body) <= 2 for place in range(columns))
    if columns >= 2:
        assert {"D", "A"} <= set(lines[-1])


def test_a_demo_on_kafka_leaves_the_topics_of_others_alone(tmp_path: Path) -> None:
    first, second = (demo_config("127.0.0.1:9092", tmp_path) for _ in range(2))
    names = [getattr(first.topics, field) for field in TOPIC_FIELDS]
    assert all(name.startswith("tidegauge-demo-") for name in names)
    assert first.topics.predictions != second.topics.predictions
    assert first.runtime.group != second.runtime.group


@pytest.mark.slow
def test_the_demo_closes_the_loop() -> None:
    words = [sys.executable, "-m", "service", "demo", "--seconds", "10", "--json"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    summary = json.loads(done.stdout)
    accuracy = summary["accuracy"]
    assert accuracy["before_drift"] > 0.9
    assert accuracy["drifted"] < 0.7
    assert accuracy["end_with_loop"] > 0.88
    assert accuracy["end_without_loop"] < 0.7


@pytest.mark.slow
@pytest.mark.kafka
def test_the_demo_closes_the_loop_on_a_real_broker(kafka_bootstrap: str) -> None:
    words = [sys.executable, "-m", "service", "demo", "--seconds", "20", "--kafka", kafka_bootstrap]
    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, timeout=180, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "The loop closed: " in done.stdout
