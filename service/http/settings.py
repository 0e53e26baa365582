"""Settings of the HTTP endpoint."""

from typing import Annotated

from msgspec import Meta

from service.core.settings import Settings


class HttpSettings(Settings, frozen=True):
    """Health, readiness and metrics over HTTP."""

    enabled: bool = True
    host: Annotated[
        str, Meta(description="address to listen on; there is no authentication, so think before you leave loopback")
    ] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535, description="0 takes a free one")] = 9464
    max_series_per_model: Annotated[
        int,
        Meta(
            ge=1, description="series with a feature label per model version; further features are left out and counted"
        ),
    ] = 50
    max_connections: Annotated[
        int,
        Meta(ge=1, le=10_000, description="connections that are served at a time; further ones wait for their turn"),
    ] = 64
    timeout_ms: Annotated[
        int,
        Meta(
            ge=100,
            description="a connection that has not asked and taken its answer by then is cut; milliseconds",
        ),
    ] = 10_000
