"""What every client of this carrier shares: how to connect, time limits, and the words for what goes wrong."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import errors as kafka_errors
from aiokafka.abc import AbstractTokenProvider
from aiokafka.conn import create_conn

from service.eventlog.errors import AccessDeniedError, FencedError, LogError, TopicError, UnavailableError
from service.eventlog.kafka.probe import contradiction, probe
from service.eventlog.kafka_settings import KafkaSecrets, KafkaSettings

DENIED = (
    kafka_errors.AuthenticationFailedError,
    kafka_errors.AuthenticationMethodNotSupported,
    kafka_errors.ClusterAuthorizationFailedError,
    kafka_errors.GroupAuthorizationFailedError,
    kafka_errors.SaslAuthenticationFailed,
    kafka_errors.TopicAuthorizationFailedError,
    kafka_errors.TransactionalIdAuthorizationFailed,
    kafka_errors.UnsupportedSaslMechanismError,
)
FENCED = (kafka_errors.ProducerFenced, kafka_errors.InvalidProducerEpoch)

BROKER_ERRORS = (kafka_errors.KafkaError, kafka_errors.ConsumerStoppedError, OSError, AssertionError)
"""What aiokafka 0.14 raises when something is wrong; its errors of state are bare assertions."""


class TokenSource(AbstractTokenProvider):  # type: ignore[misc]  # aiokafka has no types
    """Hands the caller's token function to aiokafka."""

    def __init__(self, secrets: KafkaSecrets) -> None:
        self._secrets = secrets

    async def token(self) -> str:
        """Give a token that is valid now."""
        if self._secrets.token is None:
            raise AccessDeniedError("OAUTHBEARER needs a token function")
        return await self._secrets.token()


def tls_context(settings: KafkaSettings, secrets: KafkaSecrets) -> ssl.SSLContext | None:
    """Read the TLS files. Raises AccessDeniedError that names the file which cannot be used."""
    if not settings.security_protocol.endswith("SSL"):
        return None
    try:
        context = ssl.create_default_context(cafile=settings.tls_ca_file)
        context.check_hostname = settings.tls_check_hostname
        if settings.tls_certificate_file is not None:
            password = secrets.tls_key_password
            context.load_cert_chain(settings.tls_certificate_file, settings.tls_key_file, password)
    except (OSError, ssl.SSLError) as error:
        files = (settings.tls_ca_file, settings.tls_certificate_file, settings.tls_key_file)
        named = ", ".join(file for file in files if file)
        raise AccessDeniedError(f"the TLS files cannot be used ({named}): {error}") from error
    return context


def connection_options(settings: KafkaSettings, secrets: KafkaSecrets) -> dict[str, Any]:
    """Give the arguments that consumers, producers and admin clients have in common."""
    oauth = settings.sasl_mechanism == "OAUTHBEARER" and settings.security_protocol.startswith("SASL")
    return {
        "bootstrap_servers": list(settings.bootstrap_servers),
        "client_id": settings.client_id,
        "request_timeout_ms": settings.request_timeout_ms,
        "security_protocol": settings.security_protocol,
        "ssl_context": tls_context(settings, secrets),
        "sasl_mechanism": settings.sasl_mechanism,
        "sasl_plain_username": settings.sasl_username,
        "sasl_plain_password": secrets.sasl_password,
        "sasl_oauth_token_provider": TokenSource(secrets) if oauth else None,
    }


def in_our_words(error: BaseException, doing: str) -> LogError:
    """Translate what aiokafka raised."""
    # Not every error of aiokafka says something in its text: the class name does.
    text = f"{doing}: {type(error).__name__}: {error}"
    if isinstance(error, FENCED):
        return FencedError(text)
    if isinstance(error, (*DENIED, ssl.SSLError)):
        return AccessDeniedError(text)
    if isinstance(error, kafka_errors.UnknownTopicOrPartitionError):
        return TopicError(text)
    if isinstance(error, kafka_errors.InvalidTimestampError):
        # KIP-937, and an hour by default since Kafka 4.
        return TopicError(f"{text} (no timestamp may lie further ahead than message.timestamp.after.max.ms)")
    if isinstance(error, kafka_errors.KafkaConnectionError):
        text += " (what each server answered is in the log of aiokafka)"
    return UnavailableError(text)


async def why_not_connected(settings: KafkaSettings, secrets: KafkaSecrets) -> LogError:
    """Find out why no server let us in: aiokafka logs each server's answer and then only says that there was none."""
    options = connection_options(settings, secrets)
    reasons: list[LogError] = []
    for server in options.pop("bootstrap_servers"):
        host, _, port = server.rpartition(":")
        try:
            connection = await create_conn(host.strip("[]"), int(port), **options)
        except (*BROKER_ERRORS, TimeoutError) as error:
            reasons.append(await _explained(error, server, settings))
        else:  # a connection that is merely open says nothing yet
            connection.close()
            lost = UnavailableError(f"connecting to {server}: refused a moment ago, accepted now")
            reasons.append(await _explained(lost, server, settings))
    denied = [reason for reason in reasons if isinstance(reason, AccessDeniedError)]
    return AccessDeniedError(str(denied[0])) if denied else UnavailableError("; ".join(map(str, reasons)))


async def _explained(error: BaseException, server: str, settings: KafkaSettings) -> LogError:
    """Say why a server did not let us in: what the client library saw, or what a look at the listener shows."""
    seen = error if isinstance(error, LogError) else in_our_words(error, f"connecting to {server}")
    try:
        wrong = contradiction(settings, server, await probe(server))
    except OSError:
        return seen  # nobody listens there
    if wrong is not None:
        return AccessDeniedError(wrong)
    if isinstance(error, (kafka_errors.AuthenticationFailedError, kafka_errors.SaslAuthenticationFailed)):
        who = f"the user {settings.sasl_username!r} or the password" if settings.sasl_username else "the token"
        return AccessDeniedError(f"{server} refuses {who} ({settings.sasl_mechanism}): authentication failed ({seen})")
    return seen


@asynccontextmanager
async def bounded(timeout_ms: int, doing: str) -> AsyncIterator[None]:
    """Let a call to the broker take so long, and raise LogErrors only."""
    try:
        async with asyncio.timeout(timeout_ms / 1000):
            yield
    except TimeoutError as error:
        raise UnavailableError(f"{doing}: no answer within {timeout_ms} ms") from error
    except asyncio.CancelledError as error:
        # aiokafka 0.14 cancels tasks of its own and awaits them, and where one of them was waiting for its next try
        # that CancelledError comes out here. Nobody has cancelled us; passed on it would end our caller for good.
        if was_cancelled():
            raise
        raise UnavailableError(f"{doing}: given up by the client") from error
    except BROKER_ERRORS as error:
        raise in_our_words(error, doing) from error


def was_cancelled() -> bool:
    """Say whether somebody has asked the running task to end."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def drop_connections(client: Any, limit_ms: int) -> None:
    """Close the connections of a consumer or producer whose `stop` did not come to its end. Never raises."""
    try:
        async with bounded(limit_ms, "closing connections"):
            await client.close()
    except LogError:
        # What does not close in time is dropped with its object.
        return
