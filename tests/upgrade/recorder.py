"""Runs the stream through the program whose sources lie in the working directory, and keeps what it stored and said.

Uses only what programs of all ages have: the core's Task and Intake. See `tests/upgrade/__main__.py`.
"""

import lzma
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from schemas.codec import encode
from schemas.outputs import Alert, FineTuneTrigger
from service.core.decode import decode_block
from service.core.intake import Positions, Role
from service.core.prepare import TaskTopics
from service.core.settings import CoreSettings
from service.core.task import Task
from tests.upgrade.stream import CONTINUED, EVENTS, SETTINGS, Records, commands, later_commands, records

TOPICS = TaskTopics("tidegauge.control", "tidegauge.predictions", "tidegauge.labels", 0)
APPENDED_MS = 1_790_000_000_000 + 10**9
"""Time stamp of every record: behind all event times."""


class Recorded(msgspec.Struct, kw_only=True):
    """What a program stored, and what it said to what came then."""

    program: str
    """The commit."""
    settings: dict[str, Any]
    entries: dict[str, bytes]
    positions: tuple[int, int, int]
    """Offsets of the next records: control, predictions, labels."""
    continuation: tuple[list[bytes], list[bytes], list[bytes]]
    """The records from there on, of the same inputs."""
    said: list[bytes]
    """What the same program published for them, when it had restored the entries."""


def feed(task: Task, made: Records, settings: CoreSettings) -> list[Any]:
    """Give a task records, at its positions; give what it publishes."""
    ends = [task.intake.position(role) + len(made[role]) for role in Role]
    out: list[Any] = []
    while advance(task, made, ends, settings, 500, out):
        pass
    return out


def advance(task: Task, made: Records, ends: list[int], settings: CoreSettings, batch: int, out: list[Any]) -> bool:
    """Offer a task so many more of each input's records, which end there, and let it step; whether it moved."""
    offered = 0
    for role in Role:
        start = task.intake.position(role)
        values = made[role][len(made[role]) - (ends[role] - start) :][:batch]
        if values:
            offsets = np.arange(start, start + len(values))
            stamps = np.full(len(values), APPENDED_MS)
            block = decode_block(role, offsets, stamps, values, start + len(values), settings)
            task.intake.offer(role, block)
            offered += len(values)
    idle = frozenset(role for role in Role if task.intake.position(role) >= ends[role])
    while (result := task.step(idle, 10_000)) is not None:
        out += result.outputs
    return offered > 0


def known(plain: Any, layout: Any) -> Any:
    """Leave out of plain settings what a program does not know yet."""
    fields = {field.name: field.type for field in msgspec.structs.fields(layout)}
    return {name: _known(name, value, fields[name], layout) for name, value in plain.items() if name in fields}


def _known(name: str, value: Any, inner: Any, layout: Any) -> Any:
    if name == "models":
        return {model: known(part, type(layout().default)) for model, part in value.items()}
    if isinstance(value, dict) and isinstance(inner, type) and issubclass(inner, msgspec.Struct):
        return known(value, inner)
    return value


def record(program: str) -> Recorded:
    """Run the program up to the snapshot, restore it, and go on."""
    plain = known(SETTINGS, CoreSettings)
    settings = msgspec.convert(plain, CoreSettings)
    task = Task(settings, TOPICS, Positions(0, 0, 0))
    half = EVENTS - 300
    said = feed(task, records(0, half, seed=1), settings)
    churn = [alert for alert in said if isinstance(alert, Alert) and alert.model_id == "churn"]
    triggers = [trigger for trigger in said if isinstance(trigger, FineTuneTrigger) and trigger.model_id != "price"]
    fingerprint = churn[-1].fingerprint if churn else None
    trigger = (triggers[0].trigger_id, triggers[0].model_id) if triggers else None
    later = records(half, EVENTS - half, seed=2)
    feed(task, later._replace(control=commands(half, fingerprint, trigger)), settings)
    entries = {name: entry for name, entry in task.changed_state().items() if entry is not None}
    positions = task.intake.taken
    continuation = records(EVENTS, CONTINUED, seed=3)._replace(control=later_commands(EVENTS, trigger))
    restored = Task.restore(settings, TOPICS, positions, entries)
    return Recorded(
        program=program,
        settings=plain,
        entries=entries,
        positions=(positions[0], positions[1], positions[2]),
        continuation=(continuation[0], continuation[1], continuation[2]),
        said=[encode(output) for output in feed(restored, continuation, settings)],
    )


def main(program: str, path: str) -> None:
    """Write what was recorded to a file."""
    packed = msgspec.msgpack.encode(record(program))
    Path(path).write_bytes(lzma.compress(packed, preset=9 | lzma.PRESET_EXTREME))


if __name__ == "__main__":
    main(*sys.argv[1:])
