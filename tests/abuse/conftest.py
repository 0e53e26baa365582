"""The one run that all cases look at."""

import asyncio

import pytest

from tests.abuse.run import Seen, live_through


@pytest.fixture(scope="package")
def seen(kafka_bootstrap: str) -> Seen:
    return asyncio.run(live_through(kafka_bootstrap))
