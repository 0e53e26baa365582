"""Settings of the running service: names, pace and limits."""

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from service.core.partitioning import Partitioner
from service.core.settings import Settings

Millis = Annotated[int, Meta(ge=0)]


TopicName = Annotated[str, Meta(pattern=r"^[a-zA-Z0-9._-]{1,249}$")]
"""What Kafka allows, and so every carrier here."""

TOPIC_FIELDS: Final = (
    "predictions",
    "labels",
    "control",
    "alerts",
    "triggers",
    "metrics",
    "dead_letters",
    "changelog",
    "steps",
)


class TopicSettings(Settings, frozen=True):
    """Names of topics. No two may be the same: what is written to one would be read as the other."""

    predictions: TopicName = "tidegauge.predictions"
    labels: TopicName = "tidegauge.labels"
    control: TopicName = "tidegauge.control"
    alerts: TopicName = "tidegauge.alerts"
    triggers: TopicName = "tidegauge.triggers"
    metrics: TopicName = "tidegauge.metrics"
    dead_letters: Annotated[TopicName, Meta(description="records that could not be used")] = "tidegauge.dead-letters"
    changelog: Annotated[TopicName, Meta(description="internal: state, compacted")] = "tidegauge.changelog"
    steps: Annotated[
        TopicName,
        Meta(description="internal: where each step ended; keep it as long as the inputs, exact replay needs it"),
    ] = "tidegauge.steps"
    create: Annotated[bool, Meta(description="create what is missing; false: a missing topic is an error")] = True
    partitions: Annotated[int, Meta(ge=1, le=10_000, description="of input topics that are created")] = 1
    partitioner: Annotated[
        Literal["murmur2", "crc32", "fnv1a", "any"],
        Meta(
            description="how all producers choose the partition of a key: murmur2 as Kafka's Java client, crc32 as "
            "librdkafka by default, fnv1a as Sarama; records elsewhere are told of; any: by rules of their own, which "
            "are not judged"
        ),
    ] = "murmur2"
    replication_factor: Annotated[
        int, Meta(ge=-1, description="of topics that are created; -1: the broker's default")
    ] = -1
    retention_ms: Annotated[
        int | None, Meta(description="of topics that are created, milliseconds; null: the broker's default")
    ] = None

    def __post_init__(self) -> None:
        """Refuse one name for two topics: outputs would come back as inputs, or state be read as records."""
        first: dict[str, str] = {}
        for field in TOPIC_FIELDS:
            name = getattr(self, field)
            # To Kafka's metrics . and _ are one, so it refuses to create the second of two such topics.
            other = first.setdefault(name.replace("_", "."), field)
            if other != field:
                raise ValueError(
                    f"{field}: {name} is the name of topics.{other} already ({getattr(self, other)}); every topic "
                    "needs a name of its own (. and _ count as one character)"
                )
            if name in (".", ".."):
                raise ValueError(f"{field}: {name} is no name of a topic")

    @property
    def rule(self) -> Partitioner | None:
        """By which rule producers choose the partition of a key; None: it is not judged."""
        return None if self.partitioner == "any" else self.partitioner

    @property
    def inputs(self) -> tuple[str, str, str]:
        """Input topics in rank order."""
        return self.control, self.predictions, self.labels


class RuntimeSettings(Settings, frozen=True):
    """Pace and limits of the loop."""

    name: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=100,
            pattern=r"^[A-Za-z0-9._-]+$",
            description="this service; CloudEvents' source is tidegauge/<name>",
        ),
    ] = "tidegauge"
    group: Annotated[str, Meta(min_length=1, max_length=100, description="consumer group that shares the tasks")] = (
        "tidegauge"
    )
    start: Annotated[Literal["earliest", "latest"], Meta(description="where a task without state begins")] = "earliest"
    commit_interval_ms: Annotated[Millis, Meta(description="longest time between two commits of a busy task")] = 1000
    urgent_commit_interval_ms: Annotated[
        Millis, Meta(description="shortest time between two commits when an alert waits")
    ] = 100
    snapshot_interval_ms: Annotated[Millis, Meta(description="time between two snapshots of what changed")] = 30_000
    max_repeat_ms: Annotated[
        Millis,
        Meta(
            description="time at work since the last snapshot after which the next one comes before its interval: a "
            "start after a crash works about as long again"
        ),
    ] = 12_000
    max_idle_ms: Annotated[
        Millis, Meta(description="an input that is silent for this long, though not at its end, is not waited for")
    ] = 5_000
    idle_grace_ms: Annotated[
        Millis, Meta(description="an input at its end is waited for this long once, when another has records")
    ] = 100
    poll_ms: Annotated[int, Meta(ge=1, le=10_000, description="longest wait for records")] = 100
    max_step_records: Annotated[int, Meta(ge=1, le=1_000_000, description="records a step takes at the most")] = 8_000
    max_buffered_records: Annotated[
        int, Meta(ge=1, description="records of one input that wait in memory; beyond it, it is not read")
    ] = 20_000
    max_buffered_bytes: Annotated[
        int, Meta(ge=1_000_000, description="bytes of one input that wait in memory; beyond it, it is not read")
    ] = 32_000_000
    max_pending_bytes: Annotated[
        int, Meta(ge=100_000, description="bytes of outputs that wait for a commit; beyond it, commit at once")
    ] = 12_000_000
    broker_timeout_ms: Annotated[
        int, Meta(ge=100, description="longest wait for one answer of the log; then its outcome is unknown")
    ] = 30_000
    stop_timeout_ms: Annotated[int, Meta(ge=100, description="longest time that a graceful stop may take")] = 20_000
    restart_backoff_ms: Annotated[
        int, Meta(ge=1, description="first wait before a failed task is acquired again; doubles up to 60 times it")
    ] = 500
    spill_directory: Annotated[
        str, Meta(description="where core.join.spill_above_entries puts its files; they vanish with the process")
    ] = "var/spill"
    cloudevents_mode: Annotated[Literal["binary", "structured"], Meta(description="how output events are written")] = (
        "binary"
    )


class TaskId(msgspec.Struct, frozen=True):
    """One partition number of the co-partitioned inputs."""

    name: str
    group: str
    partition: int

    @property
    def owner(self) -> str:
        """The service: its name and group."""
        return f"{self.name}.{self.group}"

    @property
    def writer_id(self) -> str:
        """The lock of the task: its transactional id."""
        return f"{self.owner}.{self.partition}"
