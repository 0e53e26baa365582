"""The consumers on docs/events.md, against a real broker: they see what was committed, and nothing else."""

import asyncio
import contextlib
import itertools
import os
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
import orjson
import pytest
from aiohttp import web
from aiokafka import AIOKafkaProducer

from schemas.cloudevents import Message, to_message
from schemas.outputs import Alert
from service.eventlog.kafka import KafkaLog
from service.eventlog.protocol import NewRecord, TopicSpec
from tests.docs.pages import function_of
from tests.docs.regions import golden
from tests.eventlog.conftest import kafka_settings

pytestmark = pytest.mark.kafka
NAMES = itertools.count()
FIRING, RESOLVED = (
    msgspec.convert(golden()[name]["value"], Alert, strict=False) for name in ("alert_firing", "alert_resolved")
)
TAKEN_BACK = msgspec.structs.replace(FIRING, alert_id="taken back", incident_id="taken back")


def message(alert: Alert) -> Message:
    return to_message(alert, source="tidegauge/test")


@pytest.fixture
async def topic(kafka_bootstrap: str) -> AsyncIterator[str]:
    """A topic with an alert that was committed, one that was taken back, and its end, committed too."""
    name = f"alerts-{os.getpid()}-{next(NAMES)}"
    log = KafkaLog(kafka_settings(kafka_bootstrap))
    await log.ensure_topics([TopicSpec(name, 1)])
    for alert in (FIRING, None, RESOLVED):
        if alert is None:
            await take_back(kafka_bootstrap, name, message(TAKEN_BACK))
            continue
        writer = await log.writer(f"writer-of-{name}")
        key, value, headers = message(alert)
        await writer.commit([NewRecord(name, 0, key, value, headers)])
        await writer.close()
    yield name
    await log.close()


async def take_back(bootstrap: str, topic: str, record: Message) -> None:
    """Write a record in a transaction that is aborted."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, transactional_id=f"taken-back-{topic}")
    await producer.start()
    await producer.begin_transaction()
    await producer.send_and_wait(topic, record.value, record.key, partition=0, headers=list(record.headers))
    await producer.abort_transaction()
    await producer.stop()


def recipe(name: str) -> Callable[..., Any]:
    found = function_of("docs/events.md", name)[name]
    assert callable(found)
    return found


async def test_the_plain_consumer_sees_what_was_committed_and_goes_on_where_it_was(
    kafka_bootstrap: str, topic: str
) -> None:
    follow = recipe("follow")
    seen: list[tuple[str, str, int]] = []
    for _ in range(2):  # the second is a new process of the same group: the first event's position was committed
        async with asyncio.timeout(30), contextlib.aclosing(follow(kafka_bootstrap, topic, group=topic)) as events:
            async for headers, event in events:
                seen.append((headers["ce_id"], event["state"], len(seen)))
                if event["state"] == "resolved":
                    break
    expected = [(FIRING.alert_id, "firing", 0), (RESOLVED.alert_id, "resolved", 1), (RESOLVED.alert_id, "resolved", 2)]
    assert seen == expected


async def test_what_is_carried_over_to_alertmanager_is_what_was_committed(kafka_bootstrap: str, topic: str) -> None:
    posted: asyncio.Queue[list[dict[str, Any]]] = asyncio.Queue()

    async def take(request: web.Request) -> web.Response:
        posted.put_nowait(orjson.loads(await request.read()))
        return web.Response()

    app = web.Application()
    app.add_routes([web.post("/api/v2/alerts", take)])
    runner = web.AppRunner(app, shutdown_timeout=1.0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    address = f"http://127.0.0.1:{runner.addresses[0][1]}"
    carrying = asyncio.create_task(recipe("carry_over")(kafka_bootstrap, address, topic))
    bodies: list[dict[str, Any]] = []
    async with asyncio.timeout(30):
        while not any("endsAt" in body for body in bodies):
            bodies += await posted.get()
    carrying.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await carrying
    await runner.cleanup()
    assert {body["annotations"]["incident"] for body in bodies} == {FIRING.incident_id}
    assert bodies[-1]["labels"]["fingerprint"] == FIRING.fingerprint
