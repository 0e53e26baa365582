"""What the log holds of each task's state, read without disturbing a service that runs."""

from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any
from urllib.parse import unquote

import msgspec
import numpy as np

from service.cli.errors import UsageError
from service.config import Config
from service.core.intake import Positions
from service.core.join import JoinStateError, block_content
from service.core.metrics.blocks import OUTCOME_ROW
from service.core.metrics.recent import read_block
from service.core.state import CorruptStateError, NewerStateError, open_entry
from service.core.task_state import VERSIONS, TaskHeader, read_entry
from service.core.units import shown
from service.core.verdicts import Quarantine
from service.eventlog.protocol import Log, TopicPartition
from service.runtime.changelog import Cut, Head, Stored, entries_of, head_of, named, read_cuts, read_records

JOIN = "join/"
PARTS = "/parts/"
RECENT = "/outcomes/recent/"


class EntryReport(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One entry: what it is, where it lies, how large it is."""

    entry: str
    kind: str = "?"
    version: int | None = None
    offset: int
    """Of its record; of an entry in parts, of the record that says how many."""
    size_bytes: int
    parts: int = 0
    fault: str | None = None
    """Why it cannot be read."""
    payload: Any = None


class HeldModel(msgspec.Struct, kw_only=True):
    """A model in quarantine, as of the newest snapshot, or put there since."""

    model_id: str
    why: str
    since: str | None = None
    """The record before which it began, as topic[partition]@offset; None: since the snapshot."""
    dead_letters: int | None = None
    """Its records since then, as of the snapshot."""


class ModelReport(msgspec.Struct, kw_only=True):
    """What the entries of one model take, and how many of its versions are put by (core.max_monitor_bytes)."""

    model_id: str
    versions: int
    parked: int
    size_bytes: int


class TaskReport(msgspec.Struct, kw_only=True):
    """One task: its snapshot, what came since, and whether all of it can be read."""

    partition: int
    changelog: str
    head: Head | None
    cuts: tuple[Cut, ...]
    inputs: dict[str, tuple[int, int]]
    """Topic to the first offset that its partition holds, and its end."""
    entries: list[EntryReport]
    quarantined: list[HeldModel]
    models: list[ModelReport]
    """By bytes, the largest first; nothing where the entry `task` cannot be read."""
    evicted_total: int
    """Times that a version was put by."""
    dropped_total: int
    """Versions that were forgotten for want of memory."""
    faults: list[str]

    @property
    def size_bytes(self) -> int:
        """Bytes of all entries."""
        return sum(entry.size_bytes for entry in self.entries)

    @property
    def reached(self) -> Positions | None:
        """Where the last commit ended."""
        if self.cuts:
            return self.cuts[-1].end
        return None if self.head is None else self.head.positions


def plain(value: Any) -> Any:
    """Give structs as objects with names, where the log has them as arrays; all else as it is."""
    if isinstance(value, EntryReport):
        return msgspec.structs.asdict(value)  # its payload is plain, and may be long
    if isinstance(value, msgspec.Struct):
        return {name: plain(part) for name, part in msgspec.structs.asdict(value).items()}
    if isinstance(value, Positions):
        return value._asdict()
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    return value


async def read_reports(
    log: Log, config: Config, partition: int | None, *, payloads: bool = False
) -> AsyncIterator[TaskReport]:
    """Describe the tasks, or one of them. What cannot be read is reported, not raised.

    Raises UsageError or LogError.
    """
    for number in await chosen_partitions(log, config, partition):
        yield await _report(log, config, number, payloads=payloads)


async def chosen_partitions(log: Log, config: Config, partition: int | None) -> list[int]:
    """Give the numbers of all tasks, or of the one that was asked for. Raises UsageError where there is none."""
    changelog = config.topics.changelog
    count = (await log.partitions([changelog])).get(changelog, 0)
    if not count:
        raise UsageError(f"there is no topic {changelog} (topics.changelog), so no state")
    if partition is None:
        return list(range(count))
    if partition >= count:
        raise UsageError(f"--partition {partition}: {changelog} has the partitions 0 to {count - 1}")
    return [partition]


async def _report(log: Log, config: Config, partition: int, *, payloads: bool) -> TaskReport:
    where = TopicPartition(config.topics.changelog, partition)
    records = await read_records(log, where)
    stored = entries_of(records)
    faults: list[str] = []
    head: Head | None = None
    cuts: tuple[Cut, ...] = ()
    try:
        head = head_of(records, where)
        cuts = await read_cuts(log, config.topics, partition, head)
    except (CorruptStateError, NewerStateError) as error:
        faults.append(str(error))
    entries = list(_entries(stored, payloads=payloads))
    header = _header({name: entry.value for name, entry in stored.items()})
    faults += [f"{named(where)}@{entry.offset}: {entry.fault}" for entry in entries if entry.fault]
    extents = await extents_of(log, head.inputs if head else config.topics.inputs, partition)
    return TaskReport(
        partition=partition,
        changelog=named(where),
        head=head,
        cuts=cuts,
        inputs=extents,
        entries=entries,
        quarantined=_quarantined(stored, cuts),
        models=[] if header is None else _models(header, entries),
        evicted_total=0 if header is None else header["memory"]["evicted_total"],
        dropped_total=0 if header is None else header["memory"]["dropped_total"],
        faults=faults,
    )


def _quarantined(stored: Mapping[str, Stored], cuts: tuple[Cut, ...]) -> list[HeldModel]:
    payload = _entry("task", stored, payloads=True).payload if "task" in stored else None
    held = ((payload or {}).get("quarantine") or {}).get("held", {})
    found = {
        model_id: HeldModel(model_id=shown(model_id), why=why, since=since, dead_letters=records)
        for model_id, (why, since, _, records, *_) in held.items()
    }
    for cut in cuts:
        for verdict in cut.verdicts:
            if isinstance(verdict, Quarantine):
                found[verdict.model_id] = HeldModel(model_id=shown(verdict.model_id), why=verdict.why)
    return list(found.values())


def _header(entries: Mapping[str, bytes]) -> TaskHeader | None:
    try:
        header: TaskHeader = read_entry(entries, "task", "task")
    except (CorruptStateError, NewerStateError):
        return None  # it is told among the faults
    return header


def _models(header: TaskHeader, entries: list[EntryReport]) -> list[ModelReport]:
    versions = header["roster"]["versions"]
    parked = {place for place, _ in header["memory"]["parked"]}
    found = {name: ModelReport(model_id=name, versions=0, parked=0, size_bytes=0) for name in header["models"]}
    for place, (model_id, _) in enumerate(versions):
        if model_id in found:
            found[model_id].versions += 1
            found[model_id].parked += place in parked
    for entry in entries:
        owner, _, rest = entry.entry.partition("/")
        number = rest.partition("/")[0]
        whose = unquote(rest) if owner == "model" else None
        if owner == "version" and number.isdigit() and int(number) < len(versions):
            whose = versions[int(number)][0]
        if whose in found:
            found[whose].size_bytes += entry.size_bytes
    return sorted(found.values(), key=lambda model: (-model.size_bytes, model.model_id))


async def extents_of(log: Log, topics: tuple[str, ...], partition: int) -> dict[str, tuple[int, int]]:
    """Give the first offset and the end of one partition of those topics that have it."""
    counts = await log.partitions(topics)
    there = [TopicPartition(topic, partition) for topic in topics if partition < counts.get(topic, 0)]
    if not there:
        return {}
    reader = await log.reader(dict.fromkeys(there, 0))
    try:
        begins, ends = await reader.begin_offsets(), await reader.end_offsets()
    finally:
        await reader.close()
    return {where.topic: (begins[where], ends[where]) for where in there}


def _entries(stored: Mapping[str, Stored], *, payloads: bool) -> Iterator[EntryReport]:
    for name in sorted(stored):
        if PARTS not in name:
            yield _entry(name, stored, payloads=payloads)


def _entry(name: str, stored: Mapping[str, Stored], *, payloads: bool) -> EntryReport:
    offset, value = stored[name]
    whole = value
    report = EntryReport(entry=name, offset=offset, size_bytes=len(value))
    try:
        if name.startswith(JOIN):
            report.kind, report.version = "join", 1
            content = block_content(name.removeprefix(JOIN), value)
        else:
            report.kind, report.version, content = open_entry(value, name)
            if report.kind == "parts":
                parts = [stored[f"{name}{PARTS}{number}"].value for number in range(content)]
                report.parts, report.size_bytes = content, sum(map(len, parts))
                whole = b"".join(parts)
                report.kind, report.version, content = open_entry(whole, name)
    except (CorruptStateError, NewerStateError, JoinStateError) as error:
        report.fault = str(error)
    except KeyError as error:
        report.fault = f"{error.args[0]}: missing"
    else:
        report.payload = _plain(name, report.kind, content) if payloads else None
        report.fault = _misfit(name, report.kind, whole)
    return report


def _misfit(name: str, kind: str, sealed: bytes) -> str | None:
    """Say why a service would refuse an entry whose bytes are sound."""
    if kind not in VERSIONS:
        return None
    try:
        read_entry({name: sealed}, name, kind)
    except (CorruptStateError, NewerStateError) as error:
        return str(error)
    return None


def _plain(name: str, kind: str, content: Any) -> Any:
    """Unpack the rows of a window of outcomes, or of recent predictions; all else is plain already."""
    if kind != "outcomes" or not isinstance(content, bytes):
        return content
    if RECENT in name:
        number = int(name.rpartition("-")[2])
        rows = read_block(content, number)._asdict()
        return {"block": number, "rows": {field: column.tolist() for field, column in rows.items()}}
    version, block, rows, classes, probabilities = msgspec.msgpack.decode(content)
    table = np.frombuffer(rows, OUTCOME_ROW)
    columns = {name: table[name].tolist() for name in OUTCOME_ROW.names or ()}
    scores = np.frombuffer(probabilities, np.float64).reshape(-1, classes).tolist() if classes else []
    return {"version": version, "block": block, "rows": columns, "probabilities": scores}
