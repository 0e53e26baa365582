"""A broker that stops answering, dies, comes back, or does not know us. Each test has a broker of its own."""

import asyncio
import gc
import os
import signal
import subprocess
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from service.eventlog.errors import AccessDeniedError, LogError, OutcomeUnknownError, TopicError, UnavailableError
from service.eventlog.kafka import KafkaLog
from service.eventlog.kafka_settings import KafkaSecrets, KafkaSettings
from service.eventlog.protocol import TopicPartition, TopicSpec
from tests.broker import kafka_broker, session_pid
from tests.eventlog.conftest import record
from tests.eventlog.reading import everything, read_until

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

WHERE = TopicPartition("t", 0)


class OwnBroker(NamedTuple):
    directory: Path
    settings: KafkaSettings

    def signal(self, number: int) -> None:
        os.kill(kafka_broker.read_state(self.directory).pid, number)

    def start(self) -> None:
        kafka_broker.start(self.directory)


@pytest.fixture
def own_broker(tmp_path: Path) -> Iterator[OwnBroker]:
    broker = kafka_broker.start(tmp_path, owner_pid=session_pid())
    settings = KafkaSettings(
        bootstrap_servers=(broker.bootstrap,),
        request_timeout_ms=2_000,
        commit_timeout_ms=1_500,
        heartbeat_interval_ms=200,
    )
    made = OwnBroker(tmp_path, settings)
    yield made
    made.signal(signal.SIGCONT)
    kafka_broker.stop(tmp_path)
    with warnings.catch_warnings():
        # aiokafka forgets a connection that its broker has closed while it was being made; let it be found here and
        # not within another test.
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


async def test_a_commit_without_an_answer_is_of_unknown_outcome_and_the_next_writer_finds_out(own_broker: OwnBroker):
    log = KafkaLog(own_broker.settings)
    await log.ensure_topics([TopicSpec("t", 1)])
    writer = await log.writer("w")
    await writer.commit([record("t", b"before")])
    own_broker.signal(signal.SIGSTOP)
    try:
        async with asyncio.timeout(12):
            with pytest.raises(OutcomeUnknownError, match="no answer within 1500 ms"):
                await writer.commit([record("t", b"unknown")])
            with pytest.raises(UnavailableError):
                await log.partitions(["t"])
            with pytest.raises(UnavailableError):
                await (await log.reader({WHERE: 0})).end_offsets()
    finally:
        own_broker.signal(signal.SIGCONT)
    heir = await log.writer("w")
    await heir.commit([record("t", b"after")])
    values = await everything(log, WHERE)
    assert values in ([b"before", b"after"], [b"before", b"unknown", b"after"])
    await log.close()
    # A producer that is thrown away must not leave tasks behind that wait for ever.
    await asyncio.sleep(0.1)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_broker_that_is_killed_and_comes_back_kept_what_it_confirmed(own_broker: OwnBroker):
    log = KafkaLog(own_broker.settings)
    await log.ensure_topics([TopicSpec("t", 1)])
    writer = await log.writer("w")
    await writer.commit([record("t", b"confirmed")])
    reader = await log.reader({WHERE: 0})
    await read_until(reader, 1)
    own_broker.signal(signal.SIGKILL)
    with pytest.raises(LogError):
        await writer.commit([record("t", b"into the dark")])
    assert await reader.fetch(max_records=10, wait_ms=100) == []
    await asyncio.to_thread(own_broker.start)
    async with asyncio.timeout(30):
        while True:
            try:
                heir = await log.writer("w")
                await heir.commit([record("t", b"after")])
                break
            except (OutcomeUnknownError, UnavailableError):
                await asyncio.sleep(0.1)
    assert [v for c in await read_until(reader, 1, timeout_s=30) for v in c.values][-1] == b"after"
    values = await everything(log, WHERE)
    assert (values[0], values[-1]) == (b"confirmed", b"after")
    assert values.count(b"confirmed") == 1
    await log.close()


async def test_who_is_at_work_when_the_broker_dies_gets_log_errors_and_is_never_cancelled(own_broker: OwnBroker):
    log = KafkaLog(own_broker.settings)
    await log.ensure_topics([TopicSpec("t", 4), TopicSpec("idle", 4)])

    async def work(number: int) -> None:
        # A client that has nothing to give is always asking its broker, or waiting to ask again.
        reader, writer = await log.reader({TopicPartition("idle", number): 0}), await log.writer(f"w{number}")
        try:
            while True:
                await writer.commit([record("t", b"v", partition=number)])
                await reader.fetch(max_records=10, wait_ms=0)
        finally:
            await reader.close()
            await writer.close()

    workers = [asyncio.create_task(work(number)) for number in range(4)]
    await asyncio.sleep(1)
    own_broker.signal(signal.SIGKILL)
    async with asyncio.timeout(60):
        ends = await asyncio.gather(*workers, return_exceptions=True)
    # aiokafka lets the cancellation of its own tasks out, which would end a task of the service without a word.
    assert [end for end in ends if not isinstance(end, LogError)] == []
    await log.close()
    await asyncio.sleep(0.1)
    assert asyncio.all_tasks() == {asyncio.current_task()}


class Secured(NamedTuple):
    address: str
    certificate: Path


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """A broker behind TLS and SCRAM, where nobody but `root` may do anything."""
    directory = tmp_path_factory.mktemp("secured")
    store, certificate = directory / "broker.p12", directory / "broker.pem"
    keytool = ["keytool", "-alias", "broker", "-keystore", str(store), "-storepass", "store-secret"]
    names = ["-dname", "CN=127.0.0.1", "-ext", "SAN=IP:127.0.0.1", "-validity", "2", "-keyalg", "EC"]
    subprocess.run([*keytool, "-genkeypair", "-storetype", "PKCS12", *names], check=True, capture_output=True)
    subprocess.run([*keytool, "-exportcert", "-rfc", "-file", str(certificate)], check=True, capture_output=True)
    door = kafka_broker.Listener("SECURE", kafka_broker.free_port(), "SASL_SSL")
    scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
    kafka_broker.start(
        directory,
        listeners=[door],
        properties={
            "listener.name.secure.sasl.enabled.mechanisms": "SCRAM-SHA-512",
            "listener.name.secure.scram-sha-512.sasl.jaas.config": scram,
            "listener.name.secure.ssl.keystore.type": "PKCS12",
            "listener.name.secure.ssl.keystore.location": str(store),
            "listener.name.secure.ssl.keystore.password": "store-secret",
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS;User:root",
        },
        format_arguments=[
            "--add-scram=SCRAM-SHA-512=[name=root,password=root-secret]",
            "--add-scram=SCRAM-SHA-512=[name=guest,password=guest-secret]",
        ],
        owner_pid=session_pid(),
    )
    yield Secured(f"127.0.0.1:{door.port}", certificate)
    kafka_broker.stop(directory)


def log_as(secured: Secured, user: str, password: str, **more: object) -> KafkaLog:
    settings = KafkaSettings(
        bootstrap_servers=(secured.address,),
        security_protocol="SASL_SSL",
        sasl_username=user,
        request_timeout_ms=5_000,
        **{"tls_ca_file": str(secured.certificate), **more},
    )
    return KafkaLog(settings, KafkaSecrets(sasl_password=password))


async def test_behind_tls_and_scram_all_is_as_before(secured: Secured):
    log = log_as(secured, "root", "root-secret")
    await log.ensure_topics([TopicSpec("t", 1)])
    await (await log.writer("w")).commit([record("t", b"in secret")])
    assert await everything(log, WHERE) == [b"in secret"]
    async with log.membership("g", ["t"]) as member, asyncio.timeout(20):
        assert (await anext(member.assignments())).tasks == {0}
    await log.close()


async def test_a_wrong_password_is_said_to_be_wrong_and_is_not_shown(secured: Secured):
    log = log_as(secured, "root", "wrong-secret")
    with pytest.raises(AccessDeniedError, match=r"(?i)authentication failed") as caught:
        await log.partitions(["t"])
    assert "wrong-secret" not in str(caught.value)
    await log.close()


async def test_a_certificate_that_nobody_vouches_for_is_refused(secured: Secured):
    log = log_as(secured, "root", "root-secret", tls_ca_file=None)
    with pytest.raises(AccessDeniedError, match="certificate verify failed"):
        await log.partitions(["t"])
    await log.close()


async def test_where_creating_topics_is_forbidden_each_is_named(secured: Secured):
    log = log_as(secured, "guest", "guest-secret")
    with pytest.raises(TopicError, match="Authorization") as caught:
        await log.ensure_topics([TopicSpec("one", 1), TopicSpec("two", 1)])
    assert "one" in str(caught.value)
    assert "two" in str(caught.value)
    with pytest.raises(AccessDeniedError, match="w-of-guest"):
        await log.writer("w-of-guest")
    await log.close()
