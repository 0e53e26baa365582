"""`tidegauge config check --connect`: tries what a configuration needs of its log, and says what to mend.

Nothing is created, written or fenced: rights are asked for, not used.
"""

import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Final, NamedTuple

from service.app import needed_secrets, open_log
from service.config import Config, ConfigError
from service.core.settings import DAY_MS
from service.eventlog.errors import LogError
from service.eventlog.protocol import Log, TopicPartition
from service.runtime.topics import CHANGELOG_MESSAGE_BYTES

CLOCK_TOLERANCE_MS: Final = 60_000
"""A record that is further ahead of this machine's clock was stamped by one that is wrong, or this one is."""


class Finding(NamedTuple):
    """One thing that was tried."""

    good: bool
    what: str
    told: str
    """How it is, or what to mend."""


async def check_connection(config: Config, environment: Mapping[str, str]) -> AsyncIterator[Finding]:
    """Try everything, going on as far as what is wrong allows. Raises no LogError."""
    if config.log.carrier == "kafka":
        answered = False
        async for finding in _brokers(config, environment):
            answered = answered or finding.good
            yield finding
        if not answered:
            return
        for finding in _codecs():
            yield finding
    try:
        async with open_log(config.log) as log:
            async for finding in _log(config, log):
                yield finding
    except (LogError, ConfigError, OSError) as error:
        yield Finding(False, "log", " ".join(str(error).split()))


async def _brokers(config: Config, environment: Mapping[str, str]) -> AsyncIterator[Finding]:
    from service.eventlog.kafka.probe import contradiction, limits, probe, release  # noqa: PLC0415

    settings = config.log.kafka
    try:
        needed_secrets(settings, environment)
    except ConfigError as error:
        yield Finding(False, "secrets", str(error))
        return
    for server in settings.bootstrap_servers:
        try:
            found = await probe(server)
        except OSError as error:
            yield Finding(False, "broker", f"{server}: {error.strerror or error}")
            continue
        wrong = contradiction(settings, server, found)
        if wrong is not None or found is None:
            yield Finding(False, "broker", str(wrong))
            continue
        told = "".join(f"; {limit}" for limit in limits(found.versions))
        yield Finding(True, "broker", f"{server}: {found.protocol}, Kafka {release(found.versions)}{told}")


def _codecs() -> list[Finding]:
    from service.eventlog.kafka.codecs import unreadable  # noqa: PLC0415

    missing = unreadable()
    if missing:
        return [Finding(False, "codecs", f"this install cannot read {', '.join(missing)}: install the package cramjam")]
    return [Finding(True, "codecs", "gzip, snappy, lz4 and zstd can be read and written")]


async def _log(config: Config, log: Log) -> AsyncIterator[Finding]:
    names = _topics(config)
    counts = await log.partitions(names)
    for finding in check_topics(config, counts):
        yield finding
    if config.log.carrier == "kafka":
        async for finding in _kafka(config, log, [name for name in names if name in counts]):
            yield finding
    inputs = [name for name in config.topics.inputs if name in counts]
    async for finding in _clock(log, counts, inputs):
        yield finding


def _topics(config: Config) -> list[str]:
    topics = config.topics
    outputs = (topics.alerts, topics.triggers, topics.metrics, topics.dead_letters)
    return [*topics.inputs, *outputs, topics.changelog, topics.steps]


def check_topics(config: Config, counts: Mapping[str, int]) -> list[Finding]:
    """Judge which topics there are, and their partitions."""
    topics = config.topics
    missing = [name for name in _topics(config) if name not in counts]
    found = []
    if missing and topics.create:
        told = f"will be created at the first start: {', '.join(missing)}"
        found.append(Finding(True, "topics", told))
    elif missing:
        told = f"missing, or hidden from this user: {', '.join(missing)}; create them, or set topics.create: true"
        found.append(Finding(False, "topics", told))
    like = next((counts[name] for name in topics.inputs if name in counts), topics.partitions)
    odd = [
        f"{name} has {counts[name]}"
        for name in (*topics.inputs, topics.changelog, topics.steps)
        if counts.get(name, like) != like
    ]
    few = [
        f"{name} has {counts[name]}"
        for name in (topics.alerts, topics.triggers, topics.metrics, topics.dead_letters)
        if counts.get(name, like) < like
    ]
    if odd:
        told = f"inputs and internal topics must have equally many ({like}), but {', '.join(odd)}"
        found.append(Finding(False, "partitions", told))
    if few:
        found.append(Finding(False, "partitions", f"outputs need at least {like}, but {', '.join(few)}"))
    if not odd and not few:
        found.append(Finding(True, "partitions", f"{like} of each"))
    return found


# Kafka ----------------------------------------------------------------------------------------------------------------


async def _kafka(config: Config, log: Log, there: Sequence[str]) -> AsyncIterator[Finding]:
    from service.eventlog.kafka import KafkaLog  # noqa: PLC0415

    if not isinstance(log, KafkaLog):
        return
    for finding in check_settings(config, await log.topic_settings(there), there):
        yield finding
    from service.cli.connect_rights import check_rights  # noqa: PLC0415

    rights = await log.rights(there, config.runtime.group)
    for good, what, told in check_rights(config, rights):
        yield Finding(good, what, told)
    writer_id = f"{config.runtime.name}.{config.runtime.group}.check"  # under the same prefix as those of the tasks
    try:
        await (await log.writer(writer_id)).close()
    except LogError as error:
        yield Finding(False, "transactions", f"Write on transactional ids {writer_id.removesuffix('check')}*: {error}")
    else:
        yield Finding(True, "transactions", f"may write as {writer_id.removesuffix('check')}*")


def check_settings(config: Config, settings: Mapping[str, Mapping[str, str]], there: Sequence[str]) -> list[Finding]:
    """Judge retention and cleanup of topics that exist. Those whose settings we may not see are told."""
    topics, join = config.topics, config.core.join
    found = []
    hidden = [name for name in there if name not in settings]
    if hidden:
        told = f"this user may not see the settings of {', '.join(hidden)} (DescribeConfigs): check them yourself"
        found.append(Finding(True, "retention", told))
    for name in (*topics.inputs, topics.steps):
        kept = int(settings.get(name, {}).get("retention.ms", -1))
        if name == topics.control or kept < 0 or kept >= join.label_horizon_ms:
            continue
        told = f"{name} keeps {_days(kept)}, but a label may come {_days(join.label_horizon_ms)} after its prediction"
        wanted = join.label_horizon_ms + DAY_MS
        mend = f"set its retention.ms to {wanted} or more, or core.join.label_horizon_ms to less"
        found.append(Finding(False, "retention", f"{told} (core.join.label_horizon_ms): {mend}"))
    changelog = settings.get(topics.changelog, {})
    if changelog.get("cleanup.policy", "compact") != "compact":
        told = f"{topics.changelog} has cleanup.policy={changelog['cleanup.policy']}: state would be lost; set compact"
        found.append(Finding(False, "changelog", told))
    if int(changelog.get("max.message.bytes", CHANGELOG_MESSAGE_BYTES)) < CHANGELOG_MESSAGE_BYTES:
        told = f"{topics.changelog} takes records of {changelog['max.message.bytes']} bytes; set max.message.bytes to"
        found.append(Finding(False, "changelog", f"{told} {CHANGELOG_MESSAGE_BYTES}"))
    if all(finding.good for finding in found):
        found.append(
            Finding(True, "retention", f"inputs are kept for the label horizon, {_days(join.label_horizon_ms)}")
        )
    return found


def _days(milliseconds: int) -> str:
    return f"{milliseconds / DAY_MS:.3g} days"


# Clock ----------------------------------------------------------------------------------------------------------------


async def _clock(log: Log, counts: Mapping[str, int], topics: Sequence[str]) -> AsyncIterator[Finding]:
    """Compare the newest record of each input partition with this machine's clock."""
    newest: tuple[int, str] | None = None
    for topic in topics:
        for partition in range(counts[topic]):
            stamp = await _newest_ms(log, TopicPartition(topic, partition))
            if stamp is not None:
                newest = max(newest or (stamp, ""), (stamp, f"{topic}[{partition}]"))
    if newest is None:
        yield Finding(True, "clock", "no records to compare with")
        return
    ahead_ms = newest[0] - time.time_ns() // 1_000_000
    if ahead_ms > CLOCK_TOLERANCE_MS:
        told = f"the newest record of {newest[1]} is stamped {ahead_ms / 1000:,.0f} s ahead of this machine's clock"
        yield Finding(False, "clock", f"{told}: one of the two is wrong; mend it (NTP)")
    else:
        yield Finding(True, "clock", f"the newest record, of {newest[1]}, is {-ahead_ms / 1000:,.0f} s old")


async def _newest_ms(log: Log, where: TopicPartition) -> int | None:
    """Give the newest timestamp among the last records of a partition; None where it is empty."""
    reader = await log.reader({where: 0})
    try:
        begin, end = (await reader.begin_offsets())[where], (await reader.end_offsets())[where]
        if begin == end:
            return None
        reader.seek({where: max(begin, end - 10)})
        stamps: list[int] = []
        for _ in range(5):  # a fetch may give nothing but markers of transactions
            for chunk in await reader.fetch(max_records=10, wait_ms=1_000):
                stamps += chunk.timestamps_ms.tolist()
            if reader.at_end(where):
                break
        return max(stamps, default=None)
    finally:
        await reader.close()
