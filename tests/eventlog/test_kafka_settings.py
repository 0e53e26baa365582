"""Settings that cannot work are refused before anything is connected."""

import msgspec
import pytest

from service.eventlog.errors import AccessDeniedError
from service.eventlog.kafka.client import connection_options
from service.eventlog.kafka_settings import KafkaSecrets, KafkaSettings


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"acquire_timeout_ms": 10_000, "transaction_timeout_ms": 15_000}, "acquire_timeout_ms"),
        ({"release_timeout_ms": 30_000}, "release_timeout_ms"),
        ({"heartbeat_interval_ms": 4_000}, "three heartbeats"),
        ({"security_protocol": "SASL_SSL"}, "sasl_username"),
        ({"bootstrap_servers": ["no-port"]}, "bootstrap_servers"),
        ({"bootstrap_servers": []}, "bootstrap_servers"),
        ({"partition_fetch_bytes": 1}, "partition_fetch_bytes"),
        ({"sasl_password": "never here"}, "sasl_password"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(wrong, why):
    with pytest.raises(msgspec.ValidationError, match=why):
        msgspec.convert(wrong, KafkaSettings)


def test_every_setting_says_what_it_means():
    _, components = msgspec.json.schema_components([KafkaSettings])
    properties = components["KafkaSettings"]["properties"]
    assert len(properties) == len(KafkaSettings.__struct_fields__)
    assert [name for name, schema in properties.items() if len(schema.get("description", "")) < 20] == []


def test_secrets_show_in_no_repr():
    secrets = KafkaSecrets(sasl_password="hunter2", tls_key_password="hunter3")  # noqa: S106
    assert "hunter" not in f"{secrets!r} {secrets} {[secrets]}"


async def test_a_tls_file_that_is_missing_is_named():
    settings = KafkaSettings(security_protocol="SSL", tls_ca_file="/nowhere/ca.pem")
    with pytest.raises(AccessDeniedError, match=r"/nowhere/ca\.pem"):
        connection_options(settings, KafkaSecrets())


async def test_the_token_function_is_asked_at_each_connect():
    async def token() -> str:
        return "a token"

    settings = KafkaSettings(security_protocol="SASL_SSL", sasl_mechanism="OAUTHBEARER")
    options = connection_options(settings, KafkaSecrets(token=token))
    assert await options["sasl_oauth_token_provider"].token() == "a token"
    with pytest.raises(AccessDeniedError, match="token function"):
        await connection_options(settings, KafkaSecrets())["sasl_oauth_token_provider"].token()
