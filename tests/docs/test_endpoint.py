"""The HTTP endpoint answers as docs/operations.md says."""

from collections.abc import AsyncIterator, Iterable
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from prometheus_client.core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from service.config import Config
from service.eventlog.memory import MemoryLog
from service.eventlog.protocol import TopicPartition
from service.http.server import serve
from service.http.settings import HttpSettings
from service.runtime.topics import prepare_topics
from tests.core.stream import drifting
from tests.docs.regions import metric_families
from tests.eventlog.conftest import Carrier, carrier, record
from tests.runtime.service import consumed, fast, publish, running

__all__ = ["carrier"]

ANY_PORT = HttpSettings(port=0)
SOURCE = drifting(1200, 600)


@pytest.fixture
async def answers() -> AsyncIterator[dict[str, Any]]:
    """What a worker's endpoint says before it is assigned anything, and after it has read a stream."""
    log, config = MemoryLog(), fast(Config())
    await prepare_topics(log, config.topics, config.core)
    await publish(log, config, SOURCE)
    idle = SimpleNamespace(stats={}, ready=False)
    async with aiohttp.ClientSession() as session:
        async with serve(ANY_PORT, idle) as port:
            before = await ask(session, port)
        async with running(log, config) as worker, serve(ANY_PORT, worker) as port:
            await consumed(log, config, worker)
            yield {"before": before, "after": await ask(session, port)}


async def ask(session: aiohttp.ClientSession, port: int) -> dict[str, tuple[int, str]]:
    found = {}
    for path in ("healthz", "readyz", "metrics"):
        wanted = {"Accept": "application/openmetrics-text"}  # as Prometheus does
        async with session.get(f"http://127.0.0.1:{port}/{path}", headers=wanted) as answer:
            found[path] = answer.status, await answer.text()
    return found


async def test_health_readiness_and_metrics_are_as_the_page_says(answers: dict[str, Any]) -> None:
    before, after = answers["before"], answers["after"]
    assert [before[path][0] for path in ("healthz", "readyz", "metrics")] == [200, 503, 200]
    assert [after[path][0] for path in ("healthz", "readyz", "metrics")] == [200, 200, 200]
    families = {family.name: family for family in parsed(after["metrics"][1])}
    own = {name for name in families if not name.startswith("process_")}
    assert {name.removesuffix("_total") for name in metric_families()} == own
    (predictions,) = (s for s in families["tidegauge_model_predictions"].samples if s.labels["segment"] == "")
    assert predictions.value > 0
    read = {sample.labels["input"]: sample.value for sample in families["tidegauge_records"].samples}
    assert read == {"control": 0, "predictions": 1200, "labels": 1200}


def parsed(text: str) -> Iterable[Metric]:
    found: Iterable[Metric] = text_string_to_metric_families(text)  # type: ignore[no-untyped-call]  # its types are missing
    return found


async def test_lag_is_what_the_log_holds_and_the_reader_has_not_read(carrier: Carrier) -> None:
    topic = await carrier.topic()
    where = TopicPartition(topic, 0)
    appender = await carrier.log.appender()
    await appender.append([record(topic, b"value") for _ in range(1200)])
    await appender.close()
    reader = await carrier.log.reader({where: 0})
    await reader.end_offsets()
    assert reader.lag(where) == 1200
    await reader.fetch(max_records=500, wait_ms=1000)
    assert reader.lag(where) == 700
    await reader.fetch(max_records=5000, wait_ms=1000)
    assert reader.lag(where) == 0
    await reader.close()
