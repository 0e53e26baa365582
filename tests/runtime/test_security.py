"""The whole service on a broker behind TLS and SCRAM, with no more rights than it needs, and with fewer."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec
import pytest

from service.config import Config
from service.eventlog.errors import TopicError
from service.runtime.topics import prepare_topics
from tests.broker import kafka_broker
from tests.eventlog.conftest import Carrier
from tests.eventlog.test_broker_failures import Secured, log_as, secured
from tests.runtime.service import consumed, fast, outputs_of, publish, running
from tests.runtime.test_service import SETTINGS, SOURCE, TOPIC_FIELDS, expected_bytes, output_topics

__all__ = ["secured"]

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

ROOT: Final = Path(__file__).parent.parent.parent

# Numbers of the protocol (KIP-140): resource types, pattern types, operations, and the permission ALLOW.
TOPIC, GROUP, TRANSACTIONAL_ID = 2, 3, 5
LITERAL, PREFIXED = 3, 4
READ, WRITE, DESCRIBE = 3, 4, 8
ALLOW = 3

PASSWORDS = {"root": "root-secret", "guest": "guest-secret"}


def named(prefix: str) -> Config:
    config = fast(Config(core=SETTINGS), max_step_records=100)
    topics = {field: f"{prefix}.{field}" for field in TOPIC_FIELDS}
    return msgspec.structs.replace(
        config,
        topics=msgspec.structs.replace(config.topics, **topics),
        runtime=msgspec.structs.replace(config.runtime, name=prefix, group=f"{prefix}-group"),
    )


async def allow(secured: Secured, rights: list[tuple[int, str, int, int]]) -> None:
    """Give the guest rights: (resource type, its name, pattern type, operation) each."""
    from aiokafka.admin import AIOKafkaAdminClient
    from aiokafka.protocol.admin import CreateAclsRequest

    plain = kafka_broker.read_state(secured.certificate.parent).bootstrap  # where everybody is a super user
    admin = AIOKafkaAdminClient(bootstrap_servers=plain)
    await admin.start()
    try:
        for kind, name, pattern, operation in rights:
            request = CreateAclsRequest(kind, name, pattern, "User:guest", "*", operation, ALLOW)
            answer = await admin._send_to_controller(request)
            assert [code for code, _ in answer.creation_responses] == [0], answer
    finally:
        await admin.close()


def least_rights(config: Config) -> list[tuple[int, str, int, int]]:
    """What docs/operations.md asks an administrator for: nothing may be created, and inputs are only read."""
    topics = config.topics
    internal = [topics.changelog, topics.steps]
    outputs = output_topics(config)
    return [
        *[(TOPIC, name, LITERAL, READ) for name in (*topics.inputs, *internal)],
        *[(TOPIC, name, LITERAL, WRITE) for name in (*outputs, *internal)],
        (GROUP, config.runtime.group, LITERAL, READ),
        (TRANSACTIONAL_ID, f"{config.runtime.name}.{config.runtime.group}.", PREFIXED, WRITE),
    ]


async def test_with_the_least_rights_the_service_writes_exactly_what_the_core_says(secured: Secured) -> None:
    config = named("least")
    root, guest = log_as(secured, "root", PASSWORDS["root"]), log_as(secured, "guest", PASSWORDS["guest"])
    await prepare_topics(root, config.topics, config.core)
    await publish(root, config, SOURCE)
    await allow(secured, least_rights(config))
    async with running(guest, config) as worker:
        await consumed(guest, config, worker)
    async with running(guest, config) as worker:  # and it can restore what it stored
        await consumed(guest, config, worker)
    got = [value for _, value in await outputs_of(root, output_topics(config))]
    assert sorted(got) == expected_bytes(SOURCE, config)
    await guest.close()
    await root.close()


async def test_where_creating_topics_is_forbidden_all_are_named_with_how_to_make_them(secured: Secured) -> None:
    config = named("forbidden")
    guest = log_as(secured, "guest", PASSWORDS["guest"])
    with pytest.raises(TopicError) as caught:
        await prepare_topics(guest, config.topics, config.core)
    told = str(caught.value)
    assert "TopicAuthorizationFailedError" in told
    assert all(f"forbidden.{field}" in told for field in TOPIC_FIELDS)
    assert "forbidden.changelog (cleanup.policy=compact)" in told
    may_not = msgspec.structs.replace(config.topics, create=False)
    with pytest.raises(TopicError, match=r"missing, or hidden from this user: create with 1 partitions each"):
        await prepare_topics(guest, may_not, config.core)
    await guest.close()


def run_once(secured: Secured, tmp_path: Path, user: str, environment: Mapping[str, str]) -> tuple[int, str]:
    """Run the program itself until it ends by itself; give its exit code and all that it said."""
    config = tmp_path / "config.yaml"
    kafka = {
        "bootstrap_servers": [secured.address],
        "security_protocol": "SASL_SSL",
        "tls_ca_file": str(secured.certificate),
        "sasl_username": user,
        "request_timeout_ms": 5000,
    }
    topics = {field: f"program.{field}" for field in TOPIC_FIELDS}
    logging = {"level": "debug", "format": "json"}
    config.write_text(
        json.dumps(
            {
                "log": {"carrier": "kafka", "kafka": kafka},
                "topics": topics,
                "logging": logging,
                "http": {"enabled": False},
            }
        )
    )
    done = subprocess.run(
        [sys.executable, "-m", "service", "run", "--config", config],
        cwd=ROOT,
        env={**os.environ, "PYTHONASYNCIODEBUG": "1", **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_the_program_says_in_a_sentence_what_it_is_denied(secured: Secured, tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text(PASSWORDS["guest"] + "\n")
    code, said = run_once(secured, tmp_path, "guest", {"TIDEGAUGE_SASL_PASSWORD_FILE": str(secret)})
    assert code == 2, said
    assert "program.predictions: TopicAuthorizationFailedError" in said
    assert "Traceback" not in said
    assert PASSWORDS["guest"] not in said


def test_a_wrong_password_is_refused_in_a_sentence_and_shown_nowhere(secured: Secured, tmp_path: Path) -> None:
    code, said = run_once(secured, tmp_path, "root", {"TIDEGAUGE_SASL_PASSWORD": "hunter2-is-wrong"})
    assert code == 2, said
    assert "uthentication failed" in said
    assert "hunter2-is-wrong" not in said


def test_a_secret_file_that_is_not_there_is_named_and_the_secret_is_not_needed(
    secured: Secured, tmp_path: Path
) -> None:
    missing = tmp_path / "nowhere"
    code, said = run_once(secured, tmp_path, "root", {"TIDEGAUGE_SASL_PASSWORD_FILE": str(missing)})
    assert code == 2, said
    assert "TIDEGAUGE_SASL_PASSWORD_FILE" in said


async def test_a_service_that_runs_under_debug_logging_says_no_secret(
    secured: Secured, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    config = named("quiet")
    caplog.set_level("DEBUG")
    root = log_as(secured, "root", PASSWORDS["root"])
    await prepare_topics(root, config.topics, config.core)
    await publish(root, config, SOURCE)
    async with running(root, config) as worker:
        await consumed(root, config, worker)
    await root.close()
    said = caplog.text + "".join(capfd.readouterr())
    assert "aiokafka" in said  # the client did speak
    assert PASSWORDS["root"] not in said


def test_carriers_keep_secrets_out_of_their_reprs(secured: Secured) -> None:
    log = log_as(secured, "root", PASSWORDS["root"])
    carrier = Carrier(log, "kafka", None)
    shown = repr(carrier) + repr(log._secrets) + repr(log._settings) + repr(vars(log))
    assert PASSWORDS["root"] not in shown
