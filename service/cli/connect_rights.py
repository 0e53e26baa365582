"""What a Kafka user must be allowed, compared with what the brokers say that it is."""

from collections.abc import Iterator
from typing import Final

from service.config import Config
from service.eventlog.kafka.rights import CREATE, READ, WRITE, Rights

NAMES: Final = {READ: "Read", WRITE: "Write", CREATE: "Create"}


def check_rights(config: Config, rights: Rights) -> Iterator[tuple[bool, str, str]]:
    """Give (good, what, told) of topics, group and creation."""
    topics = config.topics
    outputs = (topics.alerts, topics.triggers, topics.metrics, topics.dead_letters)
    internal = (topics.changelog, topics.steps)
    wanted = {name: {READ} for name in topics.inputs}
    wanted |= {name: {WRITE} for name in outputs}
    wanted |= {name: {READ, WRITE} for name in internal}
    lacking = [
        f"{NAMES[operation]} on topic {name}"
        for name, operations in wanted.items()
        if (allowed := rights.topics.get(name)) is not None
        for operation in sorted(operations - allowed)
    ]
    if rights.group is not None and READ not in rights.group:
        lacking.append(f"Read on group {config.runtime.group}")
    missing = [name for name in wanted if name not in rights.topics]
    if missing and topics.create and rights.cluster is not None and CREATE not in rights.cluster:
        lacking.append(f"Create on the cluster, or on the topics {', '.join(missing)}")
    if any(allowed is None for allowed in rights.topics.values()):
        yield True, "rights", "the brokers do not tell (Kafka before 2.3): the first start will show"
    elif lacking:
        yield False, "rights", f"this user lacks {'; '.join(lacking)}"
    else:
        yield True, "rights", "topics and group as needed"
