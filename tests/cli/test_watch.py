"""`tidegauge watch`, and how topics are merged."""

import asyncio
import json
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.outputs import Alert, DeadLetter, Evidence, FineTuneTrigger, MetricSnapshot, OffsetRange, WindowMetrics
from service.cli.following import follow
from service.cli.render import render
from service.eventlog.memory import MemoryLog
from service.eventlog.protocol import NewRecord, TopicSpec
from tests.cli.conftest import Cli
from tests.cli.logs import TOPICS, publish, with_log

EVIDENCE = Evidence(
    detector="e_sr", subject="error", statistic=12.5, threshold=10.0, sample_count=400, before=0.07, after=0.4
)
ALERT = Alert(
    alert_id="a",
    incident_id="i",
    fingerprint="f",
    alertname="ModelConceptDrift",
    model_id="shop",
    model_version="v1",
    kind="concept_drift",
    state="firing",
    severity="critical",
    starts_at_ms=1_735_689_600_000,
    event_time_ms=1_735_689_600_000,
    summary="the loss moved",
    advice="fine-tune",
    evidence=(EVIDENCE,),
)
TRIGGER = FineTuneTrigger(
    trigger_id="0123456789",
    model_id="shop",
    model_version="v1",
    state="requested",
    mode="stateful",
    mode_reason="the first attempt",
    reason="the loss moved",
    event_time_ms=1_735_689_660_000,
    labels=300,
    window=(OffsetRange(topic=TOPICS.predictions, partition=0, start_offset=4_000, end_offset=4_450),),
)
METRICS = MetricSnapshot(
    snapshot_id="s",
    model_id="other",
    model_version="v1",
    event_time_ms=1_735_689_720_000,
    predictions_total=5_000,
    outcomes_total=4_800,
    windows=(WindowMetrics(window="last_1000", count=1000, start_ms=0, end_ms=1, values={"accuracy": 0.912}),),
    drift={"discount": 1.7, "price": 0.2},
)
LETTER = DeadLetter(
    dead_letter_id="d",
    reason="invalid_json",
    message="$: not JSON",
    topic=TOPICS.labels,
    partition=0,
    offset=7,
    event_time_ms=1_735_689_780_000,
)


@pytest.fixture
def published(log_file: Path) -> Path:
    outputs = [(TOPICS.metrics, METRICS, 3), (TOPICS.alerts, ALERT, 1), (TOPICS.triggers, TRIGGER, 2)]
    publish(log_file, [*outputs, (TOPICS.dead_letters, LETTER, 4)])
    return log_file


def test_what_was_published_is_readable_and_in_the_order_of_writing(cli: Cli, published: Path) -> None:
    result = cli("watch", "--no-follow", "--log", published)
    assert result.exit_code == 0, result.output
    heads = [line for line in result.stdout.splitlines() if not line.startswith(" ")]
    assert [head.split()[2] for head in heads] == ["ALERT", "TRIGGER", "METRICS"]
    assert "e_sr on error: statistic 12.5, threshold 10, 400 samples, 0.07 before, 0.4 now" in result.stdout
    assert "tidegauge.predictions[0] 4,000 to 4,450" in result.stdout
    assert "last_1000: accuracy 0.912  beyond threshold: discount" in result.stdout


def test_json_is_one_object_a_line_with_the_event_and_its_place(cli: Cli, published: Path) -> None:
    result = cli("watch", "--no-follow", "--json", "--dead-letters", "--alerts", "--log", published)
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(line["type"], line["topic"], line["offset"]) for line in lines] == [
        ("Alert", TOPICS.alerts, 0),
        ("DeadLetter", TOPICS.dead_letters, 0),
    ]
    assert lines[0]["data"]["evidence"][0]["detector"] == "e_sr"


def test_one_model_can_be_watched_alone(cli: Cli, published: Path) -> None:
    result = cli("watch", "--no-follow", "--json", "--model", "other", "--log", published)
    assert [json.loads(line)["type"] for line in result.stdout.splitlines()] == ["MetricSnapshot"]


def test_a_record_that_is_none_of_ours_is_named_and_passed_over(cli: Cli, published: Path) -> None:
    async def spoil(log) -> None:
        await (await log.appender()).append([NewRecord(TOPICS.alerts, 0, None, b"{}")])

    with_log(published, spoil)
    result = cli("watch", "--no-follow", "--alerts", "--json", "--log", published)
    assert len(result.stdout.splitlines()) == 1
    assert "tidegauge.alerts[0] offset 1: header 'ce_specversion'" in result.stderr


def test_a_log_that_is_not_there_is_not_made_but_named(cli: Cli, tmp_path: Path) -> None:
    result = cli("watch", "--log", tmp_path / "no.sqlite")
    assert result.exit_code == 2
    assert "no.sqlite: no such log" in result.stderr
    assert not (tmp_path / "no.sqlite").exists()


def test_names_with_control_characters_cannot_speak_to_the_terminal() -> None:
    evil = msgspec.structs.replace(ALERT, model_id="\x1b[2Jshop", summary="a\nb\x9b31m")
    block = render(evil)
    text = block.head.plain + "".join(detail.plain for detail in block.details)
    assert not any(ord(char) < 32 or 127 <= ord(char) < 160 for char in text)


def test_alerts_of_one_drift_are_one_case_and_what_is_no_news_is_a_detail_of_it() -> None:
    case = {"case_id": "0123456789", "parts": ()}
    heads = {
        notify: render(msgspec.structs.replace(ALERT, notify=notify, **case)).head.plain for notify in (True, False)
    }
    assert heads[True].endswith("shop v1  case 01234567")
    assert heads[False].endswith("shop v1  detail of case 01234567")
    assert "case" not in render(ALERT).head.plain


timestamps = st.lists(st.lists(st.integers(0, 50), max_size=20).map(sorted), min_size=1, max_size=4)


@given(timestamps)
def test_partitions_are_merged_by_time_and_nothing_is_lost(stamps: list[list[int]]) -> None:
    async def work() -> list[tuple[int, int]]:
        log = MemoryLog(clock_ms=lambda: 0)
        await log.ensure_topics([TopicSpec("t", len(stamps))])
        appender = await log.appender()
        await appender.append(
            [NewRecord("t", n, None, b"", (), stamp) for n, times in enumerate(stamps) for stamp in times]
        )
        return [
            (entry.timestamp_ms, entry.partition)
            async for entry in follow(log, ["t"], from_beginning=True, forever=False)
        ]

    got = asyncio.run(work())
    assert got == sorted((stamp, n) for n, times in enumerate(stamps) for stamp in times)


def test_what_one_commit_wrote_is_shown_in_the_order_of_event_time(cli: Cli, log_file: Path) -> None:
    later = msgspec.structs.replace(ALERT, state="resolved", event_time_ms=TRIGGER.event_time_ms + 1)
    outputs = [(TOPICS.alerts, ALERT, 5), (TOPICS.alerts, later, 5), (TOPICS.triggers, TRIGGER, 5)]
    publish(log_file, outputs)
    result = cli("watch", "--no-follow", "--json", "--log", log_file)
    assert [json.loads(line)["data"]["state"] for line in result.stdout.splitlines()] == [
        "firing",
        "requested",
        "resolved",
    ]


async def test_following_gives_what_is_written_later_and_a_bounded_read_ends() -> None:
    log = MemoryLog()
    await log.ensure_topics([TopicSpec("t", 2)])
    appender = await log.appender()
    await appender.append([NewRecord("t", 0, None, b"old")])
    assert [e.value async for e in follow(log, ["t"], from_beginning=True, forever=False)] == [b"old"]
    stream = follow(log, ["t"], from_beginning=False, forever=True)
    coming = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0.01)
    await appender.append([NewRecord("t", 1, None, b"new")])
    assert (await asyncio.wait_for(coming, 5)).value == b"new"
    await stream.aclose()
