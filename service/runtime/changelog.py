"""What a task keeps in the log: snapshots of its state, and where its steps ended.

Two internal topics, partitioned like the inputs. The *changelog* (compacted) holds the newest snapshot: one record an
entry, and the `head`, which says which positions the entries belong to. The *steps* topic (kept as long as the inputs)
holds one *cut* a commit. Both take a *barrier* at each acquisition: a reader of committed records that has seen its own
barrier has seen everything that came before, however control records, open transactions or compaction lie.
"""

from collections.abc import Callable, Mapping

import msgspec

from service.core.intake import Positions
from service.core.state import CorruptStateError, decode_entry, encode_entry
from service.eventlog.protocol import Log, NewRecord, Reader, TopicPartition
from service.runtime.settings import TaskId, TopicSettings

HEAD_KEY = b"head"
BARRIER_KEY = b"barrier"
ENTRY_PREFIX = b"entry/"
HEAD_VERSION = 1
CUT_VERSION = 1


class Head(msgspec.Struct, frozen=True, array_like=True):
    """Says what the entries of a changelog partition are."""

    number: int
    """Of the commit that wrote it. Cuts with higher numbers come after it."""
    positions: Positions
    steps_from: int
    """An offset of the steps topic at or before the first cut that comes after it."""
    inputs: tuple[str, str, str]
    partitions: int


class Cut(msgspec.Struct, frozen=True, array_like=True):
    """One commit: from where to where, and where its steps ended."""

    number: int
    start: Positions
    steps: tuple[Positions, ...]
    """End positions of its steps in order; steps that only event time cut are merged into the next."""
    watermark_ms: int

    @property
    def end(self) -> Positions:
        """Positions behind its last step."""
        return self.steps[-1] if self.steps else self.start


class Recovered(msgspec.Struct, frozen=True):
    """What a changelog said: the snapshot's head and entries, and the cuts since."""

    head: Head | None
    entries: dict[str, bytes]
    cuts: tuple[Cut, ...]


class StateMismatchError(Exception):
    """The stored state belongs to other inputs. It is never silently used or overwritten."""

    retriable = False


def head_record(topics: TopicSettings, task: TaskId, head: Head) -> NewRecord:
    """Write a head."""
    value = encode_entry("head", HEAD_VERSION, msgspec.to_builtins(head))
    return NewRecord(topics.changelog, task.partition, HEAD_KEY, value)


def cut_record(topics: TopicSettings, task: TaskId, cut: Cut) -> NewRecord:
    """Write a cut."""
    value = encode_entry("cut", CUT_VERSION, msgspec.to_builtins(cut))
    return NewRecord(topics.steps, task.partition, b"cut", value)


def entry_records(topics: TopicSettings, task: TaskId, changed: Mapping[str, bytes | None]) -> list[NewRecord]:
    """Write the entries that changed; None removes one."""
    return [
        NewRecord(topics.changelog, task.partition, ENTRY_PREFIX + name.encode(), value)
        for name, value in changed.items()
    ]


def barrier_records(topics: TopicSettings, task: TaskId, token: bytes) -> list[NewRecord]:
    """Write a barrier to both topics."""
    return [
        NewRecord(topics.changelog, task.partition, BARRIER_KEY, token),
        NewRecord(topics.steps, task.partition, BARRIER_KEY, token),
    ]


async def read_state(log: Log, topics: TopicSettings, task: TaskId, token: bytes) -> Recovered:
    """Read a task's state up to the barrier that `token` marks.

    Raises CorruptStateError or NewerStateError naming topic, partition and offset.
    """
    records: dict[bytes, tuple[int, bytes]] = {}

    def keep(offset: int, key: bytes, value: bytes | None) -> None:
        if value is None:
            records.pop(key, None)
        else:
            records[key] = (offset, value)

    await _read_until(log, TopicPartition(topics.changelog, task.partition), None, token, keep)
    where = f"{topics.changelog}[{task.partition}]"
    head = None
    if (found := records.pop(HEAD_KEY, None)) is not None:
        _, payload = decode_entry(found[1], "head", HEAD_VERSION, f"{where}@{found[0]}")
        head = msgspec.convert(payload, Head)
    entries = {
        key.removeprefix(ENTRY_PREFIX).decode(): value
        for key, (_, value) in records.items()
        if key.startswith(ENTRY_PREFIX)
    }
    cuts = await _read_cuts(log, topics, task, token, head)
    return Recovered(head, entries, cuts)


async def _read_cuts(log: Log, topics: TopicSettings, task: TaskId, token: bytes, head: Head | None) -> tuple[Cut, ...]:
    where = f"{topics.steps}[{task.partition}]"
    cuts: list[Cut] = []

    def keep(offset: int, key: bytes, value: bytes | None) -> None:
        if key != b"cut" or value is None:
            return
        _, payload = decode_entry(value, "cut", CUT_VERSION, f"{where}@{offset}")
        cut = msgspec.convert(payload, Cut)
        if head is not None and cut.number > head.number:
            cuts.append(cut)

    start = head.steps_from if head is not None else None
    await _read_until(log, TopicPartition(topics.steps, task.partition), start, token, keep)
    expected = head.number + 1 if head is not None else 0
    for cut in cuts:
        if cut.number != expected:
            raise CorruptStateError(f"{where}: expected cut {expected}, got {cut.number}: a cut was lost to retention")
        expected += 1
    return tuple(cuts)


async def _read_until(
    log: Log,
    partition: TopicPartition,
    start: int | None,
    token: bytes,
    keep: Callable[[int, bytes, bytes | None], None],
) -> None:
    reader = await log.reader({partition: start or 0})
    try:
        begin = (await reader.begin_offsets())[partition]
        reader.seek({partition: max(begin, start or 0)})
        while not await _read_some(reader, token, keep):
            pass
    finally:
        await reader.close()


async def _read_some(reader: Reader, token: bytes, keep: Callable[[int, bytes, bytes | None], None]) -> bool:
    for chunk in await reader.fetch(max_records=5000, wait_ms=1000):
        for offset, key, value in zip(chunk.offsets.tolist(), chunk.keys, chunk.values, strict=True):
            if key == BARRIER_KEY:
                if value == token:
                    return True
            elif key is not None:
                keep(offset, key, value)
    return False
