"""What a task keeps in the log: snapshots of its state, and where its steps ended.

Two internal topics, partitioned like the inputs. The *changelog* (compacted) holds the newest snapshot: one record an
entry, and the `head`, which says which positions the entries belong to. The *steps* topic (kept as long as the inputs)
holds one *cut* a commit. Both take a *barrier* at each acquisition: a reader of committed records that has seen its own
barrier has seen everything that came before, however control records, open transactions or compaction lie.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple, TypeVar

import msgspec

from service.core.intake import Positions
from service.core.state import CorruptStateError, NewerStateError, decode_entry, encode_entry
from service.core.verdicts import Verdict
from service.eventlog.errors import UnavailableError
from service.eventlog.protocol import Chunk, Log, NewRecord, TopicPartition
from service.runtime.inputs_check import Marks
from service.runtime.settings import TaskId, TopicSettings

HEAD_KEY = b"head"
BARRIER_KEY = b"barrier"
BARRIER_PATIENCE_S = 30
"""Seconds without any record after which a barrier is not waited for any longer. Compaction keeps the newest barrier
alone: who is overtaken by another owner may never see its own, and must not wait for ever."""

ENTRY_PREFIX = b"entry/"
CUT_KEY = b"cut"
DROPPED_KEY = b"dropped"
HEAD_VERSION = 1
CUT_VERSION = 2
"""With verdicts. A cut without any is written as version 1, which is all that it needs."""

Plain = TypeVar("Plain")


class Head(msgspec.Struct, frozen=True, array_like=True):
    """Says what the entries of a changelog partition are."""

    number: int
    """Of the commit that wrote it. Cuts with higher numbers come after it."""
    positions: Positions
    steps_from: int
    """An offset of the steps topic at or before the first cut that comes after it."""
    inputs: tuple[str, str, str]
    partitions: int
    owner: str = ""
    """Name and group of the service that wrote it."""
    marks: Marks = (None, None, None)
    """Records of the inputs before the positions, to know the inputs again."""


class Cut(msgspec.Struct, frozen=True, array_like=True):
    """One commit: from where to where, and where its steps ended."""

    number: int
    start: Positions
    steps: tuple[Positions, ...]
    """End positions of its steps in order; steps that only event time cut are merged into the next."""
    watermark_ms: int
    verdicts: tuple[Verdict, ...] = ()
    """What was decided before its first step (see service/core/verdicts); whoever repeats it applies them there."""

    @property
    def end(self) -> Positions:
        """Positions behind its last step."""
        return self.steps[-1] if self.steps else self.start


class Stored(NamedTuple):
    """The newest record of a key, and where it lies."""

    offset: int
    value: bytes


class Recovered(msgspec.Struct, frozen=True):
    """What a changelog said: the snapshot's head and entries, and the cuts since."""

    head: Head | None
    entries: dict[str, bytes]
    cuts: tuple[Cut, ...]
    where: str = ""
    """The changelog partition, as people write it."""
    offsets: dict[str, int] = {}
    """Where each entry lies."""

    @contextmanager
    def blaming(self) -> Iterator[None]:
        """Let an error about an entry name the record that holds it."""
        try:
            yield
        except (CorruptStateError, NewerStateError) as error:
            offset = self.offsets.get(error.entry or "")
            place = f"{self.where}@{offset}" if offset is not None else f"{self.where}, which has no such record"
            raise type(error)(f"{error} ({place}){_remedy(error)}") from error


class StateMismatchError(Exception):
    """The stored state belongs to other inputs. It is never silently used or overwritten."""

    retriable = False


def head_record(topics: TopicSettings, task: TaskId, head: Head) -> NewRecord:
    """Write a head."""
    value = encode_entry("head", HEAD_VERSION, msgspec.to_builtins(head))
    return NewRecord(topics.changelog, task.partition, HEAD_KEY, value)


def cut_record(topics: TopicSettings, task: TaskId, cut: Cut) -> NewRecord:
    """Write a cut."""
    fields = msgspec.to_builtins(cut)
    value = encode_entry("cut", CUT_VERSION, fields) if cut.verdicts else encode_entry("cut", 1, fields[:-1])
    return NewRecord(topics.steps, task.partition, CUT_KEY, value)


def entry_records(topics: TopicSettings, task: TaskId, changed: Mapping[str, bytes | None]) -> list[NewRecord]:
    """Write the entries that changed; None removes one."""
    return [
        NewRecord(topics.changelog, task.partition, ENTRY_PREFIX + name.encode(), value)
        for name, value in changed.items()
    ]


def dropped_record(topics: TopicSettings, task: TaskId) -> NewRecord:
    """Say, behind the cuts, that a person has dropped the state which they led to."""
    return NewRecord(topics.steps, task.partition, DROPPED_KEY, b"")


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
    where = TopicPartition(topics.changelog, task.partition)
    records = await read_records(log, where, token)
    head = head_of(records, where)
    entries = entries_of(records)
    cuts = await read_cuts(log, topics, task.partition, head, token)
    offsets = {name: stored.offset for name, stored in entries.items()}
    return Recovered(head, {name: stored.value for name, stored in entries.items()}, cuts, named(where), offsets)


async def read_records(log: Log, where: TopicPartition, token: bytes | None = None) -> dict[bytes, Stored]:
    """Read the newest record of each key: up to the barrier that `token` marks, or up to where the partition ends now.

    Without a barrier nobody is disturbed, but a commit may come in between.
    """
    records: dict[bytes, Stored] = {}

    def keep(offset: int, key: bytes, value: bytes | None) -> None:
        if value is None:
            records.pop(key, None)
        else:
            records[key] = Stored(offset, value)

    await _read_until(log, where, None, token, keep)
    return records


def named(where: TopicPartition) -> str:
    """Write a partition as people read it."""
    return f"{where.topic}[{where.partition}]"


def head_of(records: Mapping[bytes, Stored], where: TopicPartition) -> Head | None:
    """Open the head; None where there is none. Raises CorruptStateError or NewerStateError naming its offset."""
    stored = records.get(HEAD_KEY)
    if stored is None:
        return None
    return _open(stored.value, "head", HEAD_VERSION, f"{named(where)}@{stored.offset}", Head)


async def read_head(log: Log, topics: TopicSettings, partition: int) -> Head | None:
    """Read the head of any task, as far as it is committed now."""
    where = TopicPartition(topics.changelog, partition)
    newest: dict[bytes, Stored] = {}

    def keep(offset: int, key: bytes, value: bytes | None) -> None:
        if key == HEAD_KEY:
            newest.pop(key, None)
            if value is not None:
                newest[key] = Stored(offset, value)

    await _read_until(log, where, None, None, keep)
    return head_of(newest, where)


def entries_of(records: Mapping[bytes, Stored]) -> dict[str, Stored]:
    """Give the entries of the state by name."""
    return {
        key.removeprefix(ENTRY_PREFIX).decode(): stored
        for key, stored in records.items()
        if key.startswith(ENTRY_PREFIX)
    }


async def read_cuts(
    log: Log, topics: TopicSettings, partition: int, head: Head | None, token: bytes | None = None
) -> tuple[Cut, ...]:
    """Read the cuts that came after a head, up to a barrier or up to the end.

    Raises CorruptStateError or NewerStateError naming topic, partition and offset, or saying that one is missing.
    """
    if head is None:
        return ()
    where = TopicPartition(topics.steps, partition)
    cuts: list[Cut] = []
    expected = head.number + 1

    def keep(offset: int, key: bytes, value: bytes | None) -> None:
        nonlocal expected
        if key != CUT_KEY or value is None:
            return
        place = f"{named(where)}@{offset}"
        cut = _open(value, "cut", CUT_VERSION, place, Cut)
        if cut.number <= head.number:
            return
        if cut.number != expected:
            why = "cuts were lost to retention" if cut.number > expected else "two services write to one steps topic"
            raise CorruptStateError(f"{place}: expected cut {expected}, got {cut.number}: {why}{_REBUILD}")
        cuts.append(cut)
        expected += 1

    await _read_until(log, where, head.steps_from, token, keep)
    return tuple(cuts)


async def orphaned_cut(log: Log, topics: TopicSettings, partition: int, token: bytes) -> str | None:
    """Give the place of the last cut before a barrier; None where there is none, or a person dropped the state since.

    For a changelog without a head: there must not be such a cut.
    """
    last: str | None = None

    def keep(offset: int, key: bytes, value: bytes | None) -> None:  # noqa: ARG001  (of any value)
        nonlocal last
        if key in (CUT_KEY, DROPPED_KEY):
            last = f"{topics.steps}[{partition}]@{offset}" if key == CUT_KEY else None

    await _read_until(log, TopicPartition(topics.steps, partition), None, token, keep)
    return last


def _open(value: bytes, kind: str, version: int, where: str, layout: type[Plain]) -> Plain:
    try:
        _, payload = decode_entry(value, kind, version, where)
        return msgspec.convert(payload, layout)
    except (CorruptStateError, msgspec.ValidationError) as error:
        place = "" if isinstance(error, CorruptStateError) else f"{where}: "
        raise CorruptStateError(f"{place}{error}{_REBUILD}") from error


def _remedy(error: Exception) -> str:
    return "" if isinstance(error, NewerStateError) else _REBUILD  # the former says itself what to do


_REBUILD = ": run `tidegauge state rebuild` to make the state anew from the inputs, or the program that wrote it"


Keep = Callable[[int, bytes, bytes | None], None]


async def _read_until(log: Log, where: TopicPartition, start: int | None, token: bytes | None, keep: Keep) -> None:
    reader = await log.reader({where: start or 0})
    try:
        position = max((await reader.begin_offsets())[where], start or 0)
        end = None if token is not None else (await reader.end_offsets())[where]
        reader.seek({where: position})
        silent = 0
        while end is None or position < end:
            chunks = await reader.fetch(max_records=5000, wait_ms=1000)
            if any(_keep_until(chunk, token, keep) for chunk in chunks):
                return
            silent = 0 if chunks else silent + 1
            if silent > BARRIER_PATIENCE_S:
                raise UnavailableError(f"{where.topic}[{where.partition}]: the barrier does not come")
            position = max((chunk.next_position for chunk in chunks), default=position)
    finally:
        await reader.close()


def _keep_until(chunk: Chunk, token: bytes | None, keep: Keep) -> bool:
    """Hand records on; say whether the barrier was among them."""
    for offset, key, value in zip(chunk.offsets.tolist(), chunk.keys, chunk.values, strict=True):
        if key == BARRIER_KEY:
            if value is not None and value == token:
                return True
        elif key is not None:
            keep(offset, key, value)
    return False
