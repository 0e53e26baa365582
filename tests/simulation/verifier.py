"""What must have come out of a task, computed from its inputs and its recorded steps alone.

Independent of the runtime: it knows the core (a pure function of records and step boundaries), the layout of a cut
record, and how an output becomes a message. It neither acquires, restores nor commits anything. The simulator hands it
what lies in the memory log, the chaos test what it read from a file.
"""

import zlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from schemas.cloudevents import Message, to_message
from schemas.outputs import Alert, DeadLetter, FineTuneTrigger, MetricSnapshot, Output
from service.core.decode import decode_block
from service.core.intake import Positions, Role
from service.core.placement import Placement
from service.core.prepare import TaskTopics
from service.core.settings import CoreSettings
from service.core.task import Task
from service.core.verdicts import Verdict

BLOCK_RECORDS = 1000


class InputRecord(NamedTuple):
    """One record of an input topic."""

    offset: int
    timestamp_ms: int
    value: bytes | None
    key: bytes | None


class Kinds(NamedTuple):
    """Messages by kind of output, in offset order."""

    alerts: list[Message]
    triggers: list[Message]
    metrics: list[Message]
    dead_letters: list[Message]


KIND_OF: dict[type[Output], str] = {
    Alert: "alerts",
    FineTuneTrigger: "triggers",
    MetricSnapshot: "metrics",
    DeadLetter: "dead_letters",
}


class Evidence(NamedTuple):
    """All that a reader of committed records finds of one task."""

    partition: int
    partitions: int
    """Of each input."""
    inputs: dict[Role, list[InputRecord]]
    cuts: list[bytes]
    """Values of the cut records, in offset order."""
    outputs: Kinds


class Recorded(NamedTuple):
    """One cut as its record says."""

    number: int
    start: Positions
    steps: list[Positions]
    watermark_ms: int
    verdicts: tuple[Verdict, ...] = ()


class ViolationError(AssertionError):
    """A law does not hold."""


def verify(evidence: Evidence, core: CoreSettings, topics: tuple[str, str, str], source: str) -> int:
    """Check one task; give the number of outputs that were compared. Raises ViolationError."""
    cuts = [read_cut(value) for value in evidence.cuts]
    check_chain(cuts, evidence)
    task = Task(core, TaskTopics(*topics, evidence.partition), Positions(0, 0, 0))
    placement = Placement(evidence.partition, evidence.partitions)
    return compare(replay(task, cuts, evidence.inputs, placement), evidence, source)


def read_cut(value: bytes) -> Recorded:
    """Open a cut record: CRC-32, then MessagePack of [format, kind, version, [number, start, steps, watermark, ...]].

    Version 2 has verdicts at the end.
    """
    if zlib.crc32(value[4:]).to_bytes(4, "big") != value[:4]:
        raise ViolationError("a cut record is damaged")
    form, kind, version, (number, start, steps, watermark_ms, *more) = msgspec.msgpack.decode(value[4:])
    if (form, kind, version) not in ((1, "cut", 1), (1, "cut", 2)) or len(more) != version - 1:
        raise ViolationError(f"a cut record has format {form}, kind {kind}, version {version}")
    verdicts = msgspec.convert(more[0] if more else [], tuple[Verdict, ...])
    return Recorded(number, Positions(*start), [Positions(*step) for step in steps], watermark_ms, verdicts)


def end_of(cuts: Sequence[bytes]) -> Positions:
    """Say up to where the last of these cuts took its inputs."""
    if not cuts:
        return Positions(0, 0, 0)
    cut = read_cut(cuts[-1])
    return cut.steps[-1] if cut.steps else cut.start


def check_chain(cuts: Sequence[Recorded], evidence: Evidence) -> None:
    """The recorded steps account for every input record exactly once: no gap, no overlap, nothing left over."""
    stands = Positions(0, 0, 0)
    for number, cut in enumerate(cuts, 1):
        if cut.number != number:
            raise ViolationError(f"expected cut {number}, found {cut.number}")
        if cut.start != stands:
            raise ViolationError(f"cut {number} starts at {cut.start}, the one before it ended at {stands}")
        for end in cut.steps:
            if any(after < before for after, before in zip(end, stands, strict=True)):
                raise ViolationError(f"cut {number} goes back from {stands} to {end}")
            stands = end
    for role, records in evidence.inputs.items():
        if records and stands[role] <= records[-1].offset:
            raise ViolationError(f"{role.name} ends at {records[-1].offset}, the last cut at {stands[role]}")


def replay(
    task: Task, cuts: Sequence[Recorded], inputs: Mapping[Role, list[InputRecord]], placement: Placement
) -> list[Output]:
    """Apply the recorded steps to the inputs."""
    outputs: list[Output] = []
    fed = dict.fromkeys(Role, 0)
    for cut in cuts:
        task.judge(cut.verdicts)
        for end in cut.steps:
            for role in Role:
                fed[role] = offer(task, role, inputs[role], fed[role], end[role], placement)
            outputs += task.step_to(end).outputs
        if cut.watermark_ms != task.watermark_ms:
            raise ViolationError(f"cut {cut.number} has watermark {cut.watermark_ms}, expected {task.watermark_ms}")
    return outputs


def offer(task: Task, role: Role, records: list[InputRecord], start: int, end: int, placement: Placement) -> int:
    while start < len(records) and records[start].offset < end:
        part = records[start : start + BLOCK_RECORDS]
        offsets, stamps, values, keys = zip(*part, strict=True)
        block = decode_block(
            role,
            np.array(offsets, np.int64),
            np.array(stamps, np.int64),
            values,
            offsets[-1] + 1,
            task.settings,
            keys,
            placement,
        )
        task.intake.offer(role, block)
        start += len(part)
    return start


def compare(expected: Sequence[Output], evidence: Evidence, source: str) -> int:
    """Compare outputs byte for byte, key, value and headers, topic by topic, in order."""
    wanted = as_messages(expected, source)
    for name, messages, found in zip(Kinds._fields, wanted, evidence.outputs, strict=True):
        if messages != found:
            raise ViolationError(f"task {evidence.partition}: {name}: {difference(messages, found)}")
    return len(expected)


def as_messages(outputs: Sequence[Output], source: str) -> Kinds:
    """Sort outputs by kind, as the messages that stand for them."""
    messages = Kinds([], [], [], [])
    for output in outputs:
        getattr(messages, KIND_OF[type(output)]).append(to_message(output, source=source))
    return messages


def difference(expected: Sequence[Message], found: Sequence[Message]) -> str:
    """Say where two sequences part."""
    pairs = zip(expected, found, strict=False)
    place = next((index for index, (one, other) in enumerate(pairs) if one != other), min(len(expected), len(found)))
    one = expected[place].value[:200] if place < len(expected) else b"nothing"
    other = found[place].value[:200] if place < len(found) else b"nothing"
    seen = next((index for index in range(place) if place < len(found) and found[index] == found[place]), None)
    again = "" if seen is None else f" (the same as output {seen})"
    return f"expected {len(expected)}, found {len(found)}; at {place} expected {one!r}, found {other!r}{again}"
