"""Fixtures of all tests."""

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.broker import kafka_broker, session_pid

# A run that gates a change repeats the same examples everywhere; `make search` draws new ones and prints what it finds.
settings.register_profile("steady", derandomize=True)
settings.register_profile("search", print_blob=True)
settings.load_profile(os.environ.get("TIDEGAUGE_EXAMPLES", "steady"))


@pytest.fixture(scope="session")
def kafka_bootstrap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """host:port of a real broker. It is started once for all workers, and stopped when the session is gone.

    Where none can be supplied the tests that ask for it fail with the command that helps; they are never skipped.
    """
    base = tmp_path_factory.getbasetemp()
    shared = "PYTEST_XDIST_WORKER" in os.environ
    directory = (base.parent if shared else base) / "broker"
    broker = kafka_broker.supply(directory, port=0, owner_pid=session_pid())
    yield broker.bootstrap
    if not shared:
        kafka_broker.stop(directory)
