"""`tidegauge state`: what the log holds of each task, and how it is thrown away."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from schemas.codec import encode
from service.config import Config
from service.core.intake import Positions
from service.core.prepare import TaskTopics
from service.core.task_state import VERSIONS
from service.eventlog.protocol import NewRecord, TopicPartition
from service.eventlog.sqlite import SqliteLog
from service.runtime.topics import prepare_topics
from tests.cli.conftest import Cli
from tests.cli.logs import with_log
from tests.core.raising import quiet, raise_at_poison
from tests.core.stream import Driver, drifting
from tests.core.test_task import SETTINGS
from tests.runtime.service import consumed, fast, outputs_of, publish, running
from tests.runtime.waiting import failure, until

CONFIG = fast(Config(core=SETTINGS))
TOPICS = CONFIG.topics
SOURCE = drifting(1200, 600)
OUTPUTS = [TOPICS.alerts, TOPICS.triggers, TOPICS.metrics, TOPICS.dead_letters]


async def monitor(log: SqliteLog) -> None:
    async with running(log, CONFIG) as worker:
        await consumed(log, CONFIG, worker)


async def values(log: SqliteLog) -> list[bytes]:
    return [value for _, value in await outputs_of(log, OUTPUTS)]


@pytest.fixture
def monitored(log_file: Path) -> Path:
    """A log whose service has read all of it and stopped."""

    async def work(log: SqliteLog) -> None:
        await prepare_topics(log, TOPICS, CONFIG.core)
        await publish(log, CONFIG, SOURCE)
        await monitor(log)

    with_log(log_file, work)
    return log_file


def spoil(path: Path, key: bytes, value: bytes) -> int:
    """Write a record to the changelog; give its offset."""

    async def work(log: SqliteLog) -> int:
        where = TopicPartition(TOPICS.changelog, 0)
        appender = await log.appender()
        await appender.append([NewRecord(*where, key, value)])
        return (await (await log.reader({where: 0})).end_offsets())[where] - 1

    return with_log(path, work)


def test_inspect_says_where_a_task_stands_and_what_it_holds(cli: Cli, monitored: Path) -> None:
    result = cli("state", "inspect", "--log", monitored)
    assert result.exit_code == 0, result.output
    assert "tidegauge.predictions: 1,200, committed 1,200; the log holds 0 to 1,200" in result.output
    assert "0 cuts since" in result.output
    assert f"    version v{VERSIONS['version']}: 1, " in result.output
    assert "  1 models; 0 versions put by, 0 times so far, 0 forgotten" in result.output
    assert "    m0: 1 versions, " in result.output


def test_inspect_as_json_gives_every_entry_with_its_place_size_and_version(cli: Cli, monitored: Path) -> None:
    report: dict[str, Any] = json.loads(cli("state", "inspect", "--log", monitored, "--json").output)
    assert report["head"]["positions"] == {"control": 0, "predictions": 1200, "labels": 1200}
    assert report["head"]["owner"] == "tidegauge.tidegauge"
    entries = {entry["entry"]: entry for entry in report["entries"]}
    assert {"task", "model/m0", "version/0", "join/meta"} <= entries.keys()
    for entry in entries.values():
        assert entry["version"] == VERSIONS.get(entry["kind"], 1)
        assert entry["size_bytes"] > 0
    assert report["faults"] == []


def test_inspect_shows_models_in_quarantine(cli: Cli, log_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raise_at_poison(monkeypatch, {"m0": 0})

    async def work(log: SqliteLog) -> None:
        await prepare_topics(log, TOPICS, CONFIG.core)
        await publish(log, CONFIG, SOURCE)
        async with running(log, CONFIG) as worker:
            await until(lambda: 0 in worker.stats and worker.stats[0].quarantined and worker.stats[0].ready)
            await until(lambda: worker.stats[0].positions == Positions(0, 1200, 1200))

    with quiet():
        with_log(log_file, work)
    report = json.loads(cli("state", "inspect", "--log", log_file, "--json").output)
    (held,) = report["quarantined"]
    assert (held["model_id"], held["why"]) == ("m0", "Burst: out of time")
    assert held["since"].startswith("tidegauge.")
    assert held["dead_letters"] > 1000
    assert "QUARANTINED model m0: since tidegauge." in cli("state", "inspect", "--log", log_file).output


def test_export_writes_every_entry_decoded(cli: Cli, monitored: Path, tmp_path: Path) -> None:
    file = tmp_path / "state.jsonl"
    assert cli("state", "export", "--log", monitored, "--out", file).exit_code == 0
    lines = {line["entry"]: line["payload"] for line in map(json.loads, file.read_text().splitlines())}
    assert lines["task"]["sequence"] == 2400
    assert lines["task"]["roster"]["versions"] == [["m0", "1"]]
    assert lines["version/0"]["counts"]["predictions"] == 1200
    outcomes = [payload for name, payload in lines.items() if name.startswith("version/0/outcomes/all/")]
    assert sum(len(block["rows"]["loss"]) for block in outcomes) == 1200
    recent = [payload for name, payload in lines.items() if name.startswith("version/0/outcomes/recent/")]
    assert sum(len(block["rows"]["cell"]) for block in recent) == 1200
    joined = lines["join/joined/0000000000/rows"]
    assert joined["prediction"]["offset"] == list(range(1200))
    assert joined["label"]["offset"] == list(range(1200))


def test_export_to_standard_output_is_json_lines(cli: Cli, monitored: Path) -> None:
    written = cli("state", "export", "--log", monitored, "--partition", "0").stdout_bytes
    assert {json.loads(line)["partition"] for line in written.splitlines()} == {0}


def test_an_entry_in_parts_is_shown_whole(cli: Cli, log_file: Path) -> None:
    from service.core.state import encode_entry

    sealed = encode_entry("model", 1, {"text": "x" * 100})

    async def work(log: SqliteLog) -> None:
        await prepare_topics(log, TOPICS, CONFIG.core)
        appender = await log.appender()
        parts = {b"entry/model/m": encode_entry("parts", 1, 2)}
        parts |= {b"entry/model/m/parts/0": sealed[:50], b"entry/model/m/parts/1": sealed[50:]}
        await appender.append([NewRecord(TOPICS.changelog, 0, key, value) for key, value in parts.items()])

    with_log(log_file, work)
    lines = [json.loads(line) for line in cli("state", "export", "--log", log_file).stdout_bytes.splitlines()]
    model = next(line for line in lines if line["entry"] == "model/m")
    assert (model["kind"], model["parts"], model["size_bytes"]) == ("model", 2, len(sealed))
    assert model["payload"] == {"text": "x" * 100}


@pytest.mark.parametrize("key", [b"head", b"entry/task", b"entry/model/m0", b"entry/join/meta"])
def test_a_damaged_record_is_named_and_the_rest_is_shown(cli: Cli, monitored: Path, key: bytes) -> None:
    offset = spoil(monitored, key, b"\x00" * 40)
    result = cli("state", "inspect", "--log", monitored, "--entries")
    assert result.exit_code == 1
    assert f"FAULT tidegauge.changelog[0]@{offset}: " in result.output
    assert f"version/0: version v{VERSIONS['version']}" in result.output


@pytest.mark.parametrize("entry", ["task", "join/meta", "model/m0", "version/0"])
def test_a_service_refuses_a_damaged_entry_and_names_its_record(monitored: Path, entry: str) -> None:
    offset = spoil(monitored, f"entry/{entry}".encode(), b"\x00" * 40)

    async def work(log: SqliteLog) -> str:
        async with running(log, CONFIG) as worker:
            return await failure(worker)

    error = with_log(monitored, work)
    assert "CorruptStateError" in error
    assert f"(tidegauge.changelog[0]@{offset})" in error
    assert entry in error


def test_after_a_rebuild_the_same_outputs_come_again(cli: Cli, monitored: Path) -> None:
    before = with_log(monitored, values)
    result = cli("state", "rebuild", "--log", monitored, "--yes")
    assert result.exit_code == 0, result.output
    assert "reads again 1,200 records of tidegauge.predictions[0]" in result.output
    assert "no snapshot" in cli("state", "inspect", "--log", monitored).output
    with_log(monitored, monitor)
    after = with_log(monitored, values)
    driver = Driver(SOURCE, CONFIG.core, topics=TaskTopics(*TOPICS.inputs, partition=0))
    expected = sorted(encode(output) for output in driver.run(batch=100_000))
    assert sorted(before) == expected
    assert sorted(after) == sorted(expected * 2)


def test_a_rebuild_that_is_not_confirmed_changes_nothing(cli: Cli, monitored: Path) -> None:
    before = cli("state", "inspect", "--log", monitored, "--json").output
    assert cli("state", "rebuild", "--log", monitored).exit_code == 1
    assert cli("state", "inspect", "--log", monitored, "--json").output == before


async def test_a_rebuild_under_a_running_service_makes_it_begin_anew(tmp_path: Path) -> None:
    from service.cli.state_rebuild import drop_state

    log = SqliteLog(tmp_path / "log")
    await prepare_topics(log, TOPICS, CONFIG.core)
    await publish(log, CONFIG, SOURCE)
    async with running(log, CONFIG) as worker:
        await consumed(log, CONFIG, worker)
        assert await drop_state(log, CONFIG, 0) > 3
        await publish(log, CONFIG, drifting(10, 5, seed=2))  # its next commit finds that it is fenced
        await until(lambda: worker.stats[0].fenced_total)
        await consumed(log, CONFIG, worker)
        assert worker.stats[0].records_total[1] >= 2 * 1200
    await log.close()


def test_state_of_what_is_not_there_is_an_error_in_a_sentence(cli: Cli, log_file: Path, monitored: Path) -> None:
    missing = cli("state", "inspect", "--log", log_file.with_name("other"))
    assert missing.exit_code == 2
    assert "no such log" in missing.output
    beyond = cli("state", "inspect", "--log", monitored, "--partition", "9")
    assert beyond.exit_code == 2
    assert "has the partitions 0 to 0" in beyond.output


def test_the_report_of_a_task_is_plain_data(monitored: Path) -> None:
    from service.cli.state import plain, read_reports

    async def work(log: SqliteLog) -> list[Any]:
        return [plain(report) async for report in read_reports(log, CONFIG, None, payloads=True)]

    (report,) = with_log(monitored, work)
    assert msgspec.json.decode(msgspec.json.encode(report))["partition"] == 0
