"""Health, readiness and metrics on loopback."""

import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Protocol

from aiohttp import web
from aiohttp.typedefs import Handler
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics

from service.http.connections import accepting
from service.http.metrics import Observed, registry_of
from service.http.settings import HttpSettings


class Probed(Observed, Protocol):
    """What the endpoint asks a worker."""

    @property
    def ready(self) -> bool:
        """Whether all assigned tasks have their state and work."""
        ...


@web.middleware
async def _close_afterwards(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        answer = await handler(request)
    except web.HTTPException as refused:
        refused.force_close()
        raise
    answer.force_close()
    return answer


@contextlib.asynccontextmanager
async def serve(settings: HttpSettings, worker: Probed) -> AsyncIterator[int]:
    """Listen until left; gives the port.

    One request a connection, so that a connection has one time to live, whatever its other end does with it.
    """
    registry = registry_of(worker, settings.max_series_per_model)

    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.Response:
        return web.Response(text="ready\n") if worker.ready else web.Response(text="not ready\n", status=503)

    async def metrics(request: web.Request) -> web.Response:
        accepted = {part.split(";")[0].strip() for part in ",".join(request.headers.getall("Accept", [])).split(",")}
        as_open = "application/openmetrics-text" in accepted
        write: Callable[[CollectorRegistry], bytes] = openmetrics.generate_latest if as_open else generate_latest
        kind = openmetrics.CONTENT_TYPE_LATEST if as_open else CONTENT_TYPE_PLAIN_0_0_4
        return web.Response(body=write(registry), headers={"Content-Type": kind})

    app = web.Application(middlewares=[_close_afterwards])
    app.add_routes([web.get("/healthz", healthz), web.get("/readyz", readyz), web.get("/metrics", metrics)])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        assert runner.server is not None  # noqa: S101  # setup has made it
        async with accepting(settings, runner.server) as port:
            yield port
    finally:
        await runner.cleanup()
