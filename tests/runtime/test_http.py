"""The HTTP endpoint under clients that are slow, many or strange, and what its numbers say."""

import asyncio
import contextlib
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace

import aiohttp
import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.config import Config
from service.core.dead_letters import REASONS
from service.core.intake import Role
from service.core.settings import CoreSettings, ModelProfile
from service.eventlog.memory import MemoryLog
from service.eventlog.partitioner import partition_for
from service.http.server import serve
from service.http.settings import HttpSettings
from service.runtime.topics import prepare_topics
from tests.core.stream import drifting
from tests.core.test_targets import stream
from tests.runtime.service import consumed, fast, publish, running
from tests.runtime.waiting import until

ROOT = Path(__file__).parent.parent.parent
IDLE = SimpleNamespace(stats={}, ready=True)
TOTALS = ("predictions", "outcomes", "errors", "labels_expired")


@contextlib.asynccontextmanager
async def half_open(port: int, count: int, text: bytes = b"GET /metrics HTTP/1.1\r\nHost: x") -> AsyncIterator[None]:
    """Hold connections whose requests never end."""
    opened = [await asyncio.open_connection("127.0.0.1", port) for _ in range(count)]
    try:
        for _, writer in opened:
            writer.write(text)
        yield
    finally:
        for _, writer in opened:
            writer.close()


async def health(port: int, timeout_s: float = 30.0) -> str:
    async with (
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=timeout_s)) as session,
        session.get(f"http://127.0.0.1:{port}/healthz") as answer,
    ):
        return await answer.text()


@pytest.mark.parametrize("text", [b"", b"GET /metr", b"GET /metrics HTTP/1.1\r\nHost: x"])
async def test_a_request_that_does_not_end_is_cut(text: bytes) -> None:
    async with serve(HttpSettings(port=0, timeout_ms=200), IDLE) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(text)
        with contextlib.suppress(ConnectionResetError):
            assert await asyncio.wait_for(reader.read(), 30) == b""
        writer.close()


async def test_connections_beyond_the_limit_wait_for_those_that_are_cut() -> None:
    settings = HttpSettings(port=0, max_connections=4, timeout_ms=1000)
    async with serve(settings, IDLE) as port, half_open(port, 4):
        with pytest.raises(TimeoutError):
            await health(port, 0.3)
        assert await health(port) == "ok\n"


async def test_every_answer_ends_its_connection() -> None:
    async with serve(HttpSettings(port=0), IDLE) as port:
        for path in ("healthz", "no-such-page"):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(f"GET /{path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            answer = await asyncio.wait_for(reader.read(), 30)
            assert b"Connection: close" in answer
            writer.close()


CROWDED = """
import asyncio, resource, sys
from types import SimpleNamespace
from service.app import configure_logging
from service.config import LoggingSettings
from service.http.server import serve
from service.http.settings import HttpSettings

async def main():
    configure_logging(LoggingSettings(format="json"))
    async with serve(HttpSettings(port=0, max_connections=1000, timeout_ms=60_000), SimpleNamespace(stats={})) as port:
        print(port, flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)

resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
asyncio.run(main())
"""


def test_a_process_without_descriptors_says_so_in_few_lines_and_answers_again() -> None:
    command = [sys.executable, "-W", "error", "-c", CROWDED]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as program:
        assert program.stdout is not None
        port = int(program.stdout.readline())
        crowd = [socket.create_connection(("127.0.0.1", port)) for _ in range(100)]
        asyncio.run(asyncio.sleep(3))
        for connection in crowd:
            connection.close()
        assert asyncio.run(health(port)) == "ok\n"
        lines = program.communicate("")[1].splitlines()
    assert [line for line in lines if "http_accept_failed" in line]
    assert len(lines) < 10, lines[:20]


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        (None, "text/plain; version=0.0.4"),
        ("text/plain", "text/plain; version=0.0.4"),
        ("application/openmetrics-text; version=1.0.0; charset=utf-8", "application/openmetrics-text; version=1.0.0"),
        ("application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.5", "application/openmetrics"),
        ("text/html", "text/plain; version=0.0.4"),
        ("application/openmetrics-text; version=nonsense; escaping=none", "application/openmetrics-text"),
        (";;;=,,q=x", "text/plain"),
    ],
)
async def test_metrics_are_written_in_the_form_that_is_asked_for(accept: str | None, kind: str) -> None:
    headers = {"Accept": accept} if accept else {}
    async with (
        serve(HttpSettings(port=0), IDLE) as port,
        aiohttp.ClientSession(skip_auto_headers={"Accept"}) as session,
        session.get(f"http://127.0.0.1:{port}/metrics", headers=headers) as answer,
    ):
        assert answer.status == 200
        assert answer.headers["Content-Type"].startswith(kind)
        assert (await answer.text()).endswith("# EOF\n") == ("openmetrics" in answer.headers["Content-Type"])


Series = dict[tuple[str, frozenset[tuple[str, str]]], float]


async def scraped(port: int) -> Series:
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/metrics") as answer:
        families = list(text_string_to_metric_families(await answer.text()))
    samples = [sample for family in families for sample in family.samples]
    series = {(sample.name, frozenset(sample.labels.items())): sample.value for sample in samples}
    assert len(series) == len(samples)  # two of the same name and labels make Prometheus refuse them all
    return series


def of(series: Series, name: str, **labels: str) -> list[float]:
    return [value for (found, has), value in series.items() if found == name and set(labels.items()) <= has]


async def shown(port: int, predictions: int) -> Series:
    """Scrape until so many predictions are shown: models are shown with a commit, or soon behind it."""
    async with asyncio.timeout(30):
        while True:
            series = await scraped(port)
            told = of(series, "tidegauge_model_predictions_total", segment="")
            if told == [predictions] and of(series, "tidegauge_lag_records") == [0, 0, 0]:
                return series
            await asyncio.sleep(0.05)


async def test_a_restart_shows_at_once_what_was_there_before() -> None:
    profile = ModelProfile(snapshot_interval_ms=10_000)
    log, config = MemoryLog(), fast(Config(core=CoreSettings(default=profile)))
    await prepare_topics(log, config.topics, config.core)
    await publish(log, config, drifting(3000, 1500))
    async with running(log, config) as worker, serve(HttpSettings(port=0), worker) as port:
        await consumed(log, config, worker)
        before = await shown(port, 3000)
    async with running(log, config) as worker, serve(HttpSettings(port=0), worker) as port:
        await consumed(log, config, worker)
        await until(lambda: len(worker.stats[0].lag_records) == len(Role))  # known with the first look at the log
        after = await scraped(port)
    for name in TOTALS:
        assert of(after, f"tidegauge_model_{name}_total") == of(before, f"tidegauge_model_{name}_total") != []
    assert of(after, "tidegauge_model_predictions_total", segment="") == [3000]
    for name in ("tidegauge_model_metric", "tidegauge_feature_drift_ratio", "tidegauge_incidents_firing"):
        assert {key for key in before if key[0] == name} == {key for key in after if key[0] == name} != set()
    assert of(after, "tidegauge_incidents_firing", kind="concept_drift", severity="critical") == [1]
    assert of(after, "tidegauge_lag_records") == [0, 0, 0]


async def test_counters_are_there_before_they_rise() -> None:
    log, config = MemoryLog(), fast(Config())
    await prepare_topics(log, config.topics, config.core)
    async with running(log, config) as worker, serve(HttpSettings(port=0), worker) as port:
        await consumed(log, config, worker)
        series = await scraped(port)
        left = worker.stats
    assert of(series, "tidegauge_dead_letters_total") == [0] * len(REASONS)
    assert of(series, "tidegauge_outputs_total") == [0] * 4
    assert of(series, "tidegauge_step_duration_seconds_count") == [0]
    assert len(of(series, "tidegauge_commit_duration_seconds_bucket")) == 11
    assert of(series, "tidegauge_build_info") == [1]
    assert of(series, "process_start_time_seconds")
    assert not list(left[0].totals())  # what is not ours any more is another worker's to tell
    assert [lag for *_, lag in left[0].by_input()] == [None] * 3


async def test_a_model_in_several_tasks_is_told_of_and_no_two_series_have_the_same_labels(
    capfd: pytest.CaptureFixture[str],
) -> None:
    profile = ModelProfile(snapshot_interval_ms=10_000)
    log, config = MemoryLog(), fast(Config(core=CoreSettings(default=profile)))
    config = msgspec.structs.replace(config, topics=msgspec.structs.replace(config.topics, partitions=2))
    await prepare_topics(log, config.topics, config.core)
    for partition in range(2):
        await publish(log, config, drifting(1200, 600, seed=partition), partition)
    async with running(log, config) as worker, serve(HttpSettings(port=0), worker) as port:
        await consumed(log, config, worker)
        worker._tell_scattered()
        worker._tell_scattered()
        series = await scraped(port)
    away = str(1 - partition_for(b"m0", 2))
    assert of(series, "tidegauge_model_tasks") == [2]
    assert of(series, "tidegauge_model_predictions_total", segment="") == [2400]
    assert len(of(series, "tidegauge_model_metric", window="last_1000", metric="accuracy")) == 2
    assert of(series, "tidegauge_misplaced_records_total", input="labels") == [1200]
    assert of(series, "tidegauge_misplaced_records_total", input="labels", partition=away) == [1200]
    assert of(series, "tidegauge_incidents_firing", kind="operational", severity="critical", partition=away) == [2]
    assert "".join(capfd.readouterr()).count("model_in_several_tasks") == 1


async def test_targets_have_series_of_their_own_and_a_model_without_has_no_such_label() -> None:
    profile = ModelProfile(snapshot_interval_ms=10_000)
    log, config = MemoryLog(), fast(Config(core=CoreSettings(default=profile)))
    await prepare_topics(log, config.topics, config.core)
    await publish(log, config, stream(["buys", "spends"]))
    async with running(log, config) as worker, serve(HttpSettings(port=0), worker) as port:
        await consumed(log, config, worker)
        async with asyncio.timeout(30):
            while True:
                series = await scraped(port)
                if of(series, "tidegauge_incidents_firing", kind="concept_drift"):
                    break
                await asyncio.sleep(0.05)
    assert of(series, "tidegauge_model_predictions_total", model_id="m", target="buys") == [1200]
    assert of(series, "tidegauge_model_metric", model_id="m", target="spends", metric="mae", window="last_1000")
    assert of(series, "tidegauge_incidents_firing", model_id="m", target="buys", kind="concept_drift") == [1]
    assert not [key for key in series if dict(key[1]).get("model_id") == "another" and "target" in dict(key[1])]
