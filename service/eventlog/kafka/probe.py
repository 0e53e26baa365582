"""What a listener of a broker is: whether it speaks TLS, whether it asks who we are, and what the broker can do.

The client library says only that a connection was lost, where one side speaks TLS and the other does not, or where one
authenticates and the other does not expect it. Two requests that every broker answers before anybody is authenticated
tell these cases apart: ApiVersions, and SaslHandshake with a mechanism that does not exist.
"""

import asyncio
import contextlib
import ssl
import struct
from collections.abc import Mapping
from typing import Final, NamedTuple

from service.eventlog.kafka_settings import KafkaSettings

LIMIT_S: Final = 3.0
MAX_ANSWER_BYTES: Final = 1 << 20
"""A longer answer is no broker's: an HTTP server's first bytes read as a length of a gigabyte."""

API_VERSIONS, SASL_HANDSHAKE, FETCH, METADATA, CREATE_TOPICS = 18, 17, 1, 3, 19
UNSUPPORTED_MECHANISM = 33
NO_MECHANISM: Final = "NONE-OF-THEM"


class Listener(NamedTuple):
    """What answered."""

    tls: bool
    mechanisms: tuple[str, ...] | None
    """How it authenticates; None where it does not."""
    versions: Mapping[int, tuple[int, int]]
    """Kind of request to the oldest and newest version of it that the broker knows."""

    @property
    def protocol(self) -> str:
        """The security protocol in Kafka's words."""
        return ("" if self.mechanisms is None else "SASL_") + ("SSL" if self.tls else "PLAINTEXT")


def release(versions: Mapping[int, tuple[int, int]]) -> str:
    """Say about which release of Kafka a broker is of, by the requests that it knows."""
    fetch, metadata = (versions.get(key, (0, 0))[1] for key in (FETCH, METADATA))
    known = ((18, "4.1 or later"), (17, "3.9"), (16, "3.7 or 3.8"), (15, "3.5 or 3.6"), (13, "3.1 to 3.4"))
    if metadata >= 13:
        return "4.0 or later"
    found = next((name for least, name in known if fetch >= least), None)
    return found or ("2.7 to 3.0" if fetch >= 12 else "2.6 or earlier")


NEEDED: Final = {10: "coordinators", 22: "transactions", 24: "transactions", 26: "transactions", 32: "topic settings"}
"""Requests without which nothing works here, in Kafka since 0.11."""


def limits(versions: Mapping[int, tuple[int, int]]) -> list[str]:
    """Say, a sentence each, what a broker cannot do that a newer one can and that matters here."""
    lacking = sorted({what for key, what in NEEDED.items() if key not in versions})
    if lacking:
        return [f"it knows no {' and no '.join(lacking)}: Kafka 0.11 is the oldest that can be used, 2.8 that is tried"]
    newest = {key: known[1] for key, known in versions.items()}
    told = []
    if newest.get(METADATA, 0) < 13:
        told.append(
            "records that are stamped far ahead are not refused (message.timestamp.after.max.ms: an hour since "
            "Kafka 4): a producer whose clock is wrong can keep retention from deleting"
        )
    if newest.get(FETCH, 0) < 12:
        told.append("it is older than Kafka 2.7, the law suite is tried on 2.8 and later")
    if newest.get(METADATA, 0) < 8:
        told.append("it does not say what a user may do: `config check --connect` cannot tell of rights")
    if newest.get(CREATE_TOPICS, 0) < 5:
        told.append(
            "it has no default replication factor: set topics.replication_factor, or create the topics yourself"
        )
    return told


async def broker_limits(settings: KafkaSettings) -> list[str]:
    """Give the limits of the first broker that answers; none where none does: connecting says why."""
    for server in settings.bootstrap_servers:
        try:
            found = await probe(server, tls_first=settings.security_protocol.endswith("SSL"))
        except OSError:
            continue
        if found is not None:
            return [f"{server} (Kafka {release(found.versions)}): {told}" for told in limits(found.versions)]
    return []


async def probe(server: str, *, tls_first: bool = False) -> Listener | None:
    """Ask the listener at host:port what it is; None where it is no broker. Raises OSError where nobody listens."""
    for tls in (tls_first, not tls_first):
        try:
            async with asyncio.timeout(LIMIT_S):
                return await _ask(server, tls=tls)
        except ConnectionRefusedError:
            raise
        except (OSError, EOFError, struct.error, ValueError, TimeoutError):
            continue
    return None


async def _ask(server: str, *, tls: bool) -> Listener:
    host, _, port = server.rpartition(":")
    reader, writer = await asyncio.open_connection(host.strip("[]"), int(port), ssl=_anybody() if tls else None)
    try:
        answer = _Answer(await _call(reader, writer, API_VERSIONS, 0, b""))
        answer.number("h")
        versions = {answer.number("h"): (answer.number("h"), answer.number("h")) for _ in range(answer.number("i"))}
        return Listener(tls, await _mechanisms(reader, writer), versions)
    finally:
        # Not close(): that would wait for a broker that hangs to take what was written, and the socket with it.
        writer.transport.abort()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def _mechanisms(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> tuple[str, ...] | None:
    name = NO_MECHANISM.encode()
    try:
        answer = _Answer(await _call(reader, writer, SASL_HANDSHAKE, 1, struct.pack(">h", len(name)) + name))
    except (OSError, EOFError):
        return None
    if answer.number("h") != UNSUPPORTED_MECHANISM:  # ILLEGAL_SASL_STATE: nobody is asked who they are
        return None
    return tuple(answer.text() for _ in range(answer.number("i")))


async def _call(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, key: int, version: int, body: bytes
) -> bytes:
    client = b"tidegauge"
    request = struct.pack(">hhih", key, version, key, len(client)) + client + body
    writer.write(struct.pack(">i", len(request)) + request)
    await writer.drain()
    (length,) = struct.unpack(">i", await reader.readexactly(4))
    if not 4 <= length <= MAX_ANSWER_BYTES:
        raise ValueError(f"an answer of {length} bytes")
    answer = await reader.readexactly(length)
    if struct.unpack_from(">i", answer)[0] != key:
        raise ValueError("an answer to something else")
    return answer[4:]


class _Answer:
    """Reads fields one after the other."""

    def __init__(self, data: bytes) -> None:
        self._data, self._place = data, 0

    def number(self, kind: str) -> int:
        (value,) = struct.unpack_from(f">{kind}", self._data, self._place)
        self._place += struct.calcsize(kind)
        return int(value)

    def text(self) -> str:
        length = self.number("h")
        self._place += length
        return self._data[self._place - length : self._place].decode()


def _anybody() -> ssl.SSLContext:
    # Only to learn that TLS is spoken: nothing is sent that anybody may not know.
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def contradiction(settings: KafkaSettings, server: str, found: Listener | None) -> str | None:
    """Say in one sentence where settings and listener do not fit; None where they do."""
    if found is None:
        return f"{server} answers, but not as a Kafka broker does: is it the port of another program?"
    ours = settings.security_protocol
    setting = "log.kafka.security_protocol"
    if ours.endswith("SSL") != found.tls:
        speaks = "speaks TLS" if found.tls else "does not speak TLS"
        return f"{server} {speaks}, but {setting} is {ours}: it should be {found.protocol}"
    if ours.startswith("SASL") != (found.mechanisms is not None):
        asks = "does not ask who we are" if found.mechanisms is None else "asks who we are (SASL)"
        return f"{server} {asks}, but {setting} is {ours}: it should be {found.protocol}"
    if found.mechanisms is not None and settings.sasl_mechanism not in found.mechanisms:
        offered = ", ".join(found.mechanisms)
        return f"{server} offers {offered}, but log.kafka.sasl_mechanism is {settings.sasl_mechanism}"
    return None
