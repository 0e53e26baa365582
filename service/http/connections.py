"""Accepts connections, only so many at a time, each for only so long.

asyncio's own servers accept whatever comes: two hundred idle clients use up the process's file descriptors, which the
log and its state need, and each attempt to accept one more is a line in the log.
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from typing import cast

import structlog

from service.http.settings import HttpSettings

log = structlog.get_logger(__name__)

BACKLOG = 128
"""Connections that the kernel lets wait for their turn."""

RETRY_S = 1.0
"""How long to wait after the system could not give a connection: it has no descriptors or no memory left."""

QUIET_S = 60.0
"""How long after it was told that connections cannot be accepted it is not told again."""


class _Bounded(asyncio.Protocol):
    """Another protocol, until its time is over; then the connection is cut, in whatever state it is."""

    def __init__(self, inner: asyncio.Protocol, timeout_s: float, closed: Callable[[], None]) -> None:
        self._inner = inner
        self._timeout_s = timeout_s
        self._closed = closed

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        made = cast("asyncio.Transport", transport)
        self._deadline = asyncio.get_running_loop().call_later(self._timeout_s, made.abort)
        self._inner.connection_made(made)

    def data_received(self, data: bytes) -> None:
        self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        return self._inner.eof_received()

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()

    def connection_lost(self, error: Exception | None) -> None:
        self._deadline.cancel()
        self._closed()
        self._inner.connection_lost(error)


@contextlib.asynccontextmanager
async def accepting(settings: HttpSettings, make_protocol: Callable[[], asyncio.Protocol]) -> AsyncIterator[int]:
    """Listen on the address of the settings until left; gives the port. Raises OSError where it cannot.

    Connections beyond `max_connections` wait in the kernel until one of those that are open ends; none stays open
    longer than `timeout_ms`.
    """
    loop = asyncio.get_running_loop()
    places = asyncio.Semaphore(settings.max_connections)

    def bounded() -> asyncio.Protocol:
        return _Bounded(make_protocol(), settings.timeout_ms / 1000, places.release)

    with contextlib.ExitStack() as sockets:
        listening = [sockets.enter_context(opened) for opened in await _listen(settings)]
        jobs = [asyncio.create_task(_accept(loop, listener, places, bounded)) for listener in listening]
        try:
            yield listening[0].getsockname()[1]
        finally:
            for job in jobs:
                job.cancel()
            await asyncio.gather(*jobs, return_exceptions=True)


async def _listen(settings: HttpSettings) -> list[socket.socket]:
    """Open a listening socket on each address that the host stands for."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(
        settings.host or None, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    opened: list[socket.socket] = []
    try:
        for family, address in dict.fromkeys((family, address) for family, _, _, _, address in found):
            listener = socket.create_server(address, family=family, backlog=BACKLOG)
            listener.setblocking(False)
            opened.append(listener)
    except OSError:
        for listener in opened:
            listener.close()
        raise
    return opened


async def _accept(
    loop: asyncio.AbstractEventLoop,
    listener: socket.socket,
    places: asyncio.Semaphore,
    make_protocol: Callable[[], asyncio.Protocol],
) -> None:
    told_at = -QUIET_S
    while True:
        await places.acquire()
        try:
            connection, _ = await loop.sock_accept(listener)
        except OSError as error:
            places.release()
            if loop.time() - told_at >= QUIET_S:
                told_at = loop.time()
                log.warning("http_accept_failed", error=str(error), retry_s=RETRY_S)
            await asyncio.sleep(RETRY_S)
            continue
        except BaseException:
            places.release()
            raise
        try:
            await loop.connect_accepted_socket(make_protocol, connection)
        except OSError:  # gone before it began: no protocol will give its place back
            connection.close()
            places.release()
