"""`config check --connect` and the sentences about listeners, on a real broker behind TLS and SCRAM."""

import asyncio
import gc
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from service.cli.connect_check import check_settings, check_topics
from service.config import Config
from service.eventlog.errors import AccessDeniedError
from service.eventlog.kafka import KafkaLog
from service.eventlog.kafka.codecs import unreadable
from service.eventlog.kafka.probe import probe
from service.eventlog.kafka_settings import KafkaSecrets, KafkaSettings
from service.eventlog.protocol import NewRecord, TopicSpec
from service.runtime.topics import prepare_topics
from tests.broker import kafka_broker
from tests.cli.conftest import Cli
from tests.eventlog.test_broker_failures import Secured, log_as, secured
from tests.runtime.test_security import PASSWORDS, allow, least_rights, named

__all__ = ["secured"]

WRONG = "wrong"
BROKER = [pytest.mark.kafka, pytest.mark.slow]


@pytest.fixture
def stranger() -> Iterator[str]:
    """host:port of a server that answers as no broker does."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(100)
                    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        threading.Thread(target=answer, daemon=True).start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)


async def test_who_is_no_broker_is_called_that(stranger: str) -> None:
    assert await probe(stranger) is None
    log = KafkaLog(KafkaSettings(bootstrap_servers=(stranger,), request_timeout_ms=3000))
    with pytest.raises(AccessDeniedError, match="not as a Kafka broker does: is it the port of another program"):
        await log.partitions(["t"])
    await log.close()


def test_all_codecs_are_there() -> None:
    assert unreadable() == []


def test_topics_and_their_settings_are_judged() -> None:
    config = Config()
    topics = config.topics
    counts = {topics.predictions: 4, topics.labels: 6, topics.alerts: 2}
    told = [(finding.good, finding.what, finding.told) for finding in check_topics(config, counts)]
    assert told[0][:2] == (True, "topics")
    assert told[1:] == [
        (False, "partitions", f"inputs and internal topics must have equally many (4), but {topics.labels} has 6"),
        (False, "partitions", f"outputs need at least 4, but {topics.alerts} has 2"),
    ]
    strict = msgspec.structs.replace(config, topics=msgspec.structs.replace(topics, create=False))
    assert not check_topics(strict, counts)[0].good
    there = [topics.predictions, topics.changelog]
    settings = {topics.predictions: {"retention.ms": "3600000"}, topics.changelog: {"cleanup.policy": "delete"}}
    findings = check_settings(config, settings, there)
    assert [(finding.good, finding.what) for finding in findings] == [(False, "retention"), (False, "changelog")]
    assert "keeps 0.0417 days, but a label may come 7 days after" in findings[0].told
    kept = {topics.predictions: {"retention.ms": "-1"}, topics.changelog: {"cleanup.policy": "compact"}}
    assert [finding.good for finding in check_settings(config, kept, there)] == [True]


def test_the_embedded_log_can_be_tried_too(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(json.dumps({"log": {"sqlite": {"path": str(tmp_path / "log.sqlite")}}}))
    result = cli("config", "check", file, "--connect")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[1].startswith("ok   topics: will be created")
    (tmp_path / "log.sqlite").write_bytes(b"something else " * 1_000)
    assert cli("config", "check", file, "--connect").exit_code == 1


def test_a_broker_that_is_not_there_is_one_line(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("log: {carrier: kafka, kafka: {bootstrap_servers: ['127.0.0.1:1']}}")
    result = cli("config", "check", file, "--connect")
    assert result.exit_code == 1
    assert [line[:12] for line in result.stdout.splitlines()[1:]] == ["MEND broker:"]


class TestOnABroker:
    pytestmark = BROKER

    async def test_plaintext_to_tls_and_back_wrong_mechanism_and_wrong_password_are_said(self, secured: Secured):
        plain = kafka_broker.read_state(secured.certificate.parent).bootstrap
        door, known = secured.address, {"tls_ca_file": str(secured.certificate), "sasl_username": "root"}
        cases = [
            (door, {"security_protocol": "PLAINTEXT"}, "speaks TLS, but .* is PLAINTEXT: it should be SASL_SSL"),
            (door, {"security_protocol": "SASL_PLAINTEXT", **known}, "speaks TLS, .*: it should be SASL_SSL"),
            (door, {"security_protocol": "SSL", **known}, r"asks who we are \(SASL\), .*: it should be SASL_SSL"),
            (plain, {"security_protocol": "SSL", **known}, "does not speak TLS, .*: it should be PLAINTEXT"),
            (plain, {"security_protocol": "SASL_SSL", **known}, "does not speak TLS, .*: it should be PLAINTEXT"),
            (plain, {"security_protocol": "SASL_PLAINTEXT", **known}, "does not ask who we are, .* be PLAINTEXT"),
            (
                door,
                {"security_protocol": "SASL_SSL", "sasl_mechanism": "PLAIN", **known},
                r"offers SCRAM-SHA-512, but log.kafka.sasl_mechanism is PLAIN",
            ),
            (door, {"security_protocol": "SASL_SSL", **known}, r"refuses the user 'root' or the password \(SCRAM-SHA"),
        ]
        for server, settings, told in cases:
            given = KafkaSettings(bootstrap_servers=(server,), request_timeout_ms=5000, **settings)
            log = KafkaLog(given, KafkaSecrets(sasl_password=WRONG))
            with pytest.raises(AccessDeniedError, match=f"^127.0.0.1:[0-9]+ {told}") as caught:
                await log.partitions(["t"])
            assert len(str(caught.value).splitlines()) == 1
            await log.close()

    async def test_the_least_rights_pass_and_each_that_lacks_is_named(
        self, secured: Secured, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        config = named("connect")
        root = log_as(secured, "root", PASSWORDS["root"])
        await prepare_topics(root, config.topics, config.core)
        monkeypatch.setenv("TIDEGAUGE_SASL_PASSWORD", PASSWORDS["guest"])
        file = tmp_path / "c.yaml"
        kafka = {
            "bootstrap_servers": [secured.address],
            "security_protocol": "SASL_SSL",
            "tls_ca_file": str(secured.certificate),
            "sasl_username": "guest",
        }
        plain = msgspec.to_builtins(config)
        made = {"log": {"carrier": "kafka", "kafka": kafka}, "topics": plain["topics"], "runtime": plain["runtime"]}
        file.write_text(json.dumps(made))

        async def told() -> tuple[int, str]:
            # The command has an event loop of its own.
            result = await asyncio.to_thread(cli, "config", "check", file, "--connect")
            return result.exit_code, result.output

        def lacking(text: str) -> str:
            return text.partition("MEND rights")[2].partition("\n")[0]

        async def told_lacking(count: int) -> tuple[int, str]:
            """Ask until the broker goes by the rights that were given last: it confirms them before it knows them."""
            async with asyncio.timeout(30):
                while True:
                    code, text = await told()
                    if len([lack for lack in lacking(text).split(";") if lack]) == count:
                        return code, text
                    await asyncio.sleep(0.2)

        code, text = await told()
        assert code == 1
        assert "MEND transactions: Write on transactional ids connect.connect-group.*" in text
        rights = least_rights(config)
        await allow(secured, rights[:-3])
        _, text = await told_lacking(2)
        assert "Write on topic connect.steps" in text
        assert "Read on group connect-group" in text
        assert "predictions" not in lacking(text)
        await allow(secured, rights[-3:])
        code, text = await told_lacking(0)
        assert code == 0, text
        assert "ok   broker: " in text
        assert "SASL_SSL, Kafka 4.0 or later" in text
        assert "ok   rights: topics and group as needed" in text
        assert "ok   transactions: may write as connect.connect-group.*" in text
        assert "ok   clock: no records to compare with" in text
        await (await root.appender()).append([NewRecord(config.topics.labels, 0, b"m", b"{}")])
        code, text = await told()
        assert "ok   clock: the newest record, of connect.labels[0]" in text
        await root.close()
        gc.collect()  # a connection that the command left open would be told of here

    async def test_short_retention_and_a_clock_ahead_are_told(self, kafka_bootstrap: str, cli: Cli, tmp_path: Path):
        log = KafkaLog(KafkaSettings(bootstrap_servers=(kafka_bootstrap,)))
        names = {field: f"ahead.{field}" for field in ("predictions", "labels")}
        await log.ensure_topics([TopicSpec(name, 1, retention_ms=3_600_000) for name in names.values()])
        ahead_ms = time.time_ns() // 1_000_000 + 30 * 60_000
        await (await log.appender()).append([NewRecord(names["labels"], 0, b"m", b"{}", timestamp_ms=ahead_ms)])
        await log.close()
        file = tmp_path / "c.yaml"
        kafka = {"bootstrap_servers": [kafka_bootstrap]}
        file.write_text(json.dumps({"log": {"carrier": "kafka", "kafka": kafka}, "topics": names}))
        result = await asyncio.to_thread(cli, "config", "check", file, "--connect")
        assert result.exit_code == 1
        assert result.output.count("MEND retention: ahead.") == 2
        assert "MEND clock: the newest record of ahead.labels[0] is stamped 1," in result.output
