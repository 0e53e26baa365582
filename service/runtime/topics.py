"""Makes sure, before anything is read, that all topics are there and fit together."""

from collections.abc import Sequence

from service.core.settings import DAY_MS, CoreSettings, JoinSettings
from service.eventlog.errors import TopicError
from service.eventlog.protocol import Log, TopicSpec
from service.runtime.settings import TopicSettings

CHANGELOG_MESSAGE_BYTES = 1_048_576
"""Entries of the state are cut so that they fit in a broker's default message size."""


async def prepare_topics(log: Log, topics: TopicSettings, core: CoreSettings) -> int:
    """Create what is missing, where that is allowed, and count the partitions that all inputs share.

    Raises TopicError that names every topic which is missing, or whose partitions do not fit.
    """
    outputs = (topics.alerts, topics.triggers, topics.metrics, topics.dead_letters)
    internal = (topics.changelog, topics.steps)
    existing = await log.partitions([*topics.inputs, *outputs, *internal])
    count = next((existing[name] for name in topics.inputs if name in existing), topics.partitions)
    missing = [name for name in (*topics.inputs, *outputs, *internal) if name not in existing]
    specs = [_spec(name, count, topics, core) for name in missing]
    if missing and not topics.create:
        raise TopicError(f"topics are missing, or hidden from this user: {_wanted(specs)}, or set topics.create: true")
    try:
        await log.ensure_topics(specs)
    except TopicError as error:
        raise TopicError(f"{error}. Where this user may not create topics, {_wanted(specs)}") from error
    existing.update(dict.fromkeys(missing, count))
    odd = [f"{name} has {existing[name]}" for name in (*topics.inputs, *internal) if existing[name] != count]
    if odd:
        raise TopicError(
            f"{topics.inputs[0]} has {count} partitions, but {', '.join(odd)}: predictions, labels, control and "
            "the internal topics must be keyed alike (by model_id) and have equally many partitions"
        )
    few = [f"{name} has {existing[name]}" for name in outputs if existing[name] < count]
    if few:
        raise TopicError(f"output topics need at least {count} partitions, but {', '.join(few)}")
    return count


def _wanted(specs: Sequence[TopicSpec]) -> str:
    """Ask a person to make topics, each as it must be."""
    named = [spec.name + (" (cleanup.policy=compact)" if spec.cleanup == "compact" else "") for spec in specs]
    return f"create with {specs[0].partitions} partitions each, and let this user describe them: {', '.join(named)}"


def _spec(name: str, partitions: int, topics: TopicSettings, core: CoreSettings) -> TopicSpec:
    if name == topics.changelog:
        return TopicSpec(
            name,
            partitions,
            cleanup="compact",
            replication_factor=topics.replication_factor,
            max_message_bytes=CHANGELOG_MESSAGE_BYTES,
        )
    retention_ms = topics.retention_ms
    if retention_ms is None and name in (*topics.inputs, topics.steps):
        retention_ms = _input_retention_ms(core.join)
    return TopicSpec(name, partitions, retention_ms=retention_ms, replication_factor=topics.replication_factor)


def _input_retention_ms(join: JoinSettings) -> int:
    # A training window reaches back as far as a prediction waits for its label; a day more lets a pipeline read it.
    return join.label_horizon_ms + DAY_MS
