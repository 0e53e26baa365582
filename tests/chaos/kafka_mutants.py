"""The service broken on purpose, as one of its processes: a chaos run is worth what it would have noticed.

`python -m tests.chaos.kafka --mutant unfenced` must end with a violation.
"""

import os
from collections.abc import Callable
from typing import Any, Final

from aiokafka import AIOKafkaConsumer

from service.cli import main
from service.eventlog.kafka import reader
from service.runtime import acquire
from service.runtime.changelog import Recovered
from service.runtime.settings import TaskId
from tests.chaos.kafka_nodes import MUTANT_VARIABLE


def unfenced() -> None:
    """Every process has a lock of its own: a zombie goes on to commit."""
    TaskId.writer_id = property(  # type: ignore[assignment,method-assign]
        lambda task: f"{task.owner}.{task.partition}.{os.getpid()}"
    )


def uncommitted() -> None:
    """State and inputs are read with what was aborted."""
    original = reader.new_consumer

    def careless(*given: Any) -> AIOKafkaConsumer:
        consumer = original(*given)
        consumer._isolation_level = "read_uncommitted"
        return consumer

    reader.new_consumer = careless


def forgetful() -> None:
    """Recovery stops one cut early, so that what that commit put out comes out again."""
    original = acquire.read_state

    async def short(*given: Any) -> Recovered:
        found = await original(*given)
        return Recovered(found.head, found.entries, found.cuts[:-1], found.where, found.offsets)

    acquire.read_state = short


MUTANTS: Final[dict[str, Callable[[], None]]] = {
    mutant.__name__: mutant for mutant in (unfenced, uncommitted, forgetful)
}

if __name__ == "__main__":
    MUTANTS[os.environ[MUTANT_VARIABLE]]()
    main()
