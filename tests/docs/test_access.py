"""The access rules in docs/connect.md are enough, and each is needed: shown on a broker that allows nothing else."""

import asyncio
from collections.abc import Sequence

import msgspec
import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.protocol.admin import CreateAclsRequest

from service.app import make_worker
from service.config import Config
from service.core.intake import Role
from service.eventlog.errors import LogError
from service.eventlog.kafka import KafkaLog
from service.eventlog.kafka.client import connection_options
from service.eventlog.kafka_settings import KafkaSecrets, KafkaSettings
from service.eventlog.protocol import NewRecord
from service.runtime.settings import TOPIC_FIELDS
from service.runtime.topics import prepare_topics
from service.runtime.worker import Worker
from tests.core.stream import label, prediction
from tests.docs import access
from tests.docs.access import Rule
from tests.eventlog.test_broker_failures import Secured, log_as, secured
from tests.runtime.service import consumed, fast

__all__ = ["secured"]
pytestmark = [pytest.mark.kafka, pytest.mark.slow]

RESOURCES = {"topic": 2, "group": 3, "transactional-id": 5}
OPERATIONS = {"Read": 3, "Write": 4}
LITERAL, PREFIXED, ALLOW = 3, 4, 3
ALL = len(access.rules(Config().topics, Config().runtime))


def config_of(case: int) -> Config:
    """A service with names of its own, which may not create topics."""
    plain = fast(Config())
    topics = {field: f"case{case}.{field}" for field in TOPIC_FIELDS}
    return msgspec.structs.replace(
        plain,
        topics=msgspec.structs.replace(plain.topics, **topics, create=False),
        runtime=msgspec.structs.replace(plain.runtime, name=f"case{case}", group=f"group{case}"),
    )


@pytest.fixture
def root(secured: Secured) -> KafkaLog:
    return log_as(secured, "root", "root-secret")


async def allow(secured: Secured, rules: Sequence[Rule]) -> None:
    """Let the user guest do this."""
    settings = KafkaSettings(
        bootstrap_servers=(secured.address,),
        security_protocol="SASL_SSL",
        sasl_username="root",
        tls_ca_file=str(secured.certificate),
    )
    secrets = KafkaSecrets(sasl_password="root-secret")  # noqa: S106  # of a broker that lives for this test
    admin = AIOKafkaAdminClient(**connection_options(settings, secrets))
    await admin.start()
    try:
        for rule in rules:
            pattern = PREFIXED if rule.prefixed else LITERAL
            kind, operation = RESOURCES[rule.resource], OPERATIONS[rule.operation]
            request = CreateAclsRequest(kind, rule.name, pattern, "User:guest", "*", operation, ALLOW)
            answer = await admin._send_to_controller(request)
            assert [code for code, _ in answer.creation_responses] == [0]
    finally:
        await admin.close()


async def prepare(root: KafkaLog, config: Config) -> None:
    """Create the topics, and put a prediction, its label and a bad record into them."""
    create = msgspec.structs.replace(config.topics, create=True)
    await prepare_topics(root, create, config.core)
    appender = await root.appender()
    values = {Role.CONTROL: b"{", Role.PREDICTIONS: prediction(1, "a"), Role.LABELS: label(1, "a")}
    topics = zip(Role, config.topics.inputs, strict=True)
    await appender.append([NewRecord(topic, 0, b"m", values[role]) for role, topic in topics])
    await appender.close()


async def what_goes_wrong(log: KafkaLog, config: Config) -> str | None:
    """Run the service twice, for what it wrote it must be able to read; None where nothing was refused."""
    return await run_once(log, config) or await run_once(log, config)


async def run_once(log: KafkaLog, config: Config) -> str | None:
    """Run the service until it has committed all input (None), or until something was refused."""
    try:
        partitions = await prepare_topics(log, config.topics, config.core)
    except LogError as error:
        return str(error)
    worker, stopping = make_worker(config, log, partitions), asyncio.Event()
    job = asyncio.create_task(worker.run(stopping))
    done = asyncio.create_task(_finished(log, config, worker))
    await asyncio.wait({job, done}, return_when=asyncio.FIRST_COMPLETED)
    stopping.set()
    found = await asyncio.gather(job, done, return_exceptions=True) if done.done() else [await _end_of(job)]
    done.cancel()
    return next((str(error) for error in found if isinstance(error, BaseException)), None)


async def _finished(log: KafkaLog, config: Config, worker: Worker) -> None:
    await consumed(log, config, worker, timeout_s=40)


async def _end_of(job: asyncio.Task[None]) -> BaseException | None:
    (end,) = await asyncio.gather(job, return_exceptions=True)
    return end


async def test_the_listed_rights_are_enough(secured: Secured, root: KafkaLog) -> None:
    config = config_of(ALL)
    await prepare(root, config)
    await allow(secured, access.rules(config.topics, config.runtime))
    guest = log_as(secured, "guest", "guest-secret")
    assert await what_goes_wrong(guest, config) is None
    await guest.close()
    await root.close()


@pytest.mark.parametrize("left_out", range(ALL))
async def test_each_of_the_listed_rights_is_needed(secured: Secured, root: KafkaLog, left_out: int) -> None:
    config = config_of(left_out)
    await prepare(root, config)
    rules = access.rules(config.topics, config.runtime)
    await allow(secured, [rule for place, rule in enumerate(rules) if place != left_out])
    guest = log_as(secured, "guest", "guest-secret")
    wrong = await what_goes_wrong(guest, config)
    assert wrong is not None, rules[left_out]
    assert "uthoriz" in wrong or "topics are missing" in wrong, wrong
    await guest.close()
    await root.close()
