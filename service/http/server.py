"""Health, readiness and metrics on loopback."""

import contextlib
from collections.abc import AsyncIterator
from typing import Protocol

from aiohttp import web
from prometheus_client.openmetrics import exposition

from service.http.metrics import Observed, registry_of
from service.http.settings import HttpSettings


class Probed(Observed, Protocol):
    """What the endpoint asks a worker."""

    @property
    def ready(self) -> bool:
        """Whether all assigned tasks have their state and work."""
        ...


@contextlib.asynccontextmanager
async def serve(settings: HttpSettings, worker: Probed) -> AsyncIterator[int]:
    """Listen until left; gives the port."""
    registry = registry_of(worker, settings.max_series_per_model)

    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.Response:
        return web.Response(text="ready\n") if worker.ready else web.Response(text="not ready\n", status=503)

    async def metrics(_: web.Request) -> web.Response:
        body: bytes = exposition.generate_latest(registry)  # type: ignore[no-untyped-call]  # its types are missing
        return web.Response(body=body, headers={"Content-Type": exposition.CONTENT_TYPE_LATEST})

    app = web.Application()
    app.add_routes([web.get("/healthz", healthz), web.get("/readyz", readyz), web.get("/metrics", metrics)])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, settings.host, settings.port)
        await site.start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()
