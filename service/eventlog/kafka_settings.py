"""How the service reaches Kafka. Plain settings: no secrets in here, and no client library."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Milliseconds = Annotated[int, Meta(ge=1, le=3_600_000)]


class KafkaSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Addresses, security, time limits and sizes of the Kafka carrier."""

    bootstrap_servers: Annotated[
        tuple[Annotated[str, Meta(pattern=r"^[^,\s]+:\d+$")], ...],
        Meta(min_length=1, description="Brokers to begin with, host:port each. One that answers is enough."),
    ] = ("127.0.0.1:9092",)
    client_id: Annotated[
        str, Meta(min_length=1, max_length=200, description="Name of this client in the brokers' logs and quotas.")
    ] = "tidegauge"

    security_protocol: Annotated[
        Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"],
        Meta(description="Whether connections are encrypted (SSL) and authenticated by name (SASL)."),
    ] = "PLAINTEXT"
    tls_ca_file: Annotated[
        str | None,
        Meta(description="PEM file of the authorities that sign the brokers' certificates. None: the system's."),
    ] = None
    tls_certificate_file: Annotated[
        str | None, Meta(description="PEM file of this client's certificate, where brokers ask for one.")
    ] = None
    tls_key_file: Annotated[
        str | None, Meta(description="PEM file of that certificate's private key. None: it is in the same file.")
    ] = None
    tls_check_hostname: Annotated[
        bool, Meta(description="Whether a broker's certificate must name the host that was dialled.")
    ] = True
    sasl_mechanism: Annotated[
        Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"],
        Meta(description="How to authenticate under the SASL protocols."),
    ] = "SCRAM-SHA-512"
    sasl_username: Annotated[
        str | None, Meta(description="Name for PLAIN and SCRAM; the password comes from the environment or a file.")
    ] = None

    request_timeout_ms: Annotated[
        Milliseconds, Meta(description="Time limit of one call, in milliseconds. After it the carrier is unavailable.")
    ] = 10_000
    commit_timeout_ms: Annotated[
        Milliseconds,
        Meta(description="Time limit of one transaction from its beginning to its confirmation, in milliseconds."),
    ] = 10_000
    acquire_timeout_ms: Annotated[
        Milliseconds,
        Meta(
            description="Time limit of opening a transactional writer, in milliseconds. "
            "It waits for its predecessor's transaction, so it must be longer than the transaction timeout."
        ),
    ] = 30_000
    transaction_timeout_ms: Annotated[
        Milliseconds,
        Meta(
            description="After so many milliseconds the broker aborts a transaction that nobody ends. "
            "Until then it blocks all readers of committed records. At most the broker's transaction.max.timeout.ms."
        ),
    ] = 15_000

    session_timeout_ms: Annotated[
        Milliseconds,
        Meta(description="After so many milliseconds without a heartbeat a worker's tasks go to the others."),
    ] = 10_000
    heartbeat_interval_ms: Annotated[
        Milliseconds,
        Meta(description="Milliseconds between heartbeats. A worker learns of a rebalance with the next one."),
    ] = 1_000
    rebalance_timeout_ms: Annotated[
        Milliseconds, Meta(description="How long the group waits for a worker to join a rebalance, in milliseconds.")
    ] = 30_000
    release_timeout_ms: Annotated[
        Milliseconds,
        Meta(
            description="How long a worker may take to commit and suspend its tasks in a rebalance, in milliseconds. "
            "Must be shorter than the rebalance timeout."
        ),
    ] = 10_000

    fetch_max_wait_ms: Annotated[
        int, Meta(ge=1, le=10_000, description="How long a broker holds a fetch that finds nothing, in milliseconds.")
    ] = 250
    fetch_max_bytes: Annotated[int, Meta(ge=1 << 10, le=1 << 30, description="Bytes of one fetch from one broker.")] = (
        32 << 20
    )
    partition_fetch_bytes: Annotated[
        int,
        Meta(
            ge=1 << 10,
            le=1 << 28,
            description="Bytes of one partition in one fetch. A reader buffers at most so much for each partition.",
        ),
    ] = 2 << 20
    batch_bytes: Annotated[
        int,
        Meta(ge=1 << 10, le=1 << 26, description="Bytes of one batch of records to one partition, before compression."),
    ] = 256 << 10
    compression: Annotated[
        Literal["none", "gzip", "snappy", "lz4", "zstd"],
        Meta(description="Codec of the batches that are written. Batches of every codec are read."),
    ] = "none"

    def __post_init__(self) -> None:
        """Refuse settings that contradict each other."""
        if self.acquire_timeout_ms <= self.transaction_timeout_ms:
            raise ValueError("acquire_timeout_ms: must be longer than transaction_timeout_ms")
        if self.release_timeout_ms >= self.rebalance_timeout_ms:
            raise ValueError("release_timeout_ms: must be shorter than rebalance_timeout_ms")
        if self.heartbeat_interval_ms * 3 > self.session_timeout_ms:
            raise ValueError("session_timeout_ms: must hold three heartbeats, so that one lost packet does no harm")
        named = self.sasl_username is not None
        if self.security_protocol.startswith("SASL") and self.sasl_mechanism != "OAUTHBEARER" and not named:
            raise ValueError(f"sasl_username: {self.security_protocol} with {self.sasl_mechanism} needs it")


@dataclass(frozen=True, repr=False)
class KafkaSecrets:
    """What must not be written down: has no repr, so that no log or traceback shows it."""

    sasl_password: str | None = None
    tls_key_password: str | None = None
    token: Callable[[], Awaitable[str]] | None = None
    """For OAUTHBEARER: gives a token that is valid now. Called at each connect; may cache."""
