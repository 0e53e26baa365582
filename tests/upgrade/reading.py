"""What the tests of old state share: a recorded state, the task that it makes, and what that says in few words."""

import lzma
from pathlib import Path
from typing import Any

import msgspec

from schemas.codec import encode
from service.core.intake import Positions, Role
from service.core.settings import CoreSettings
from service.core.task import Task
from tests.upgrade.recorder import TOPICS, Recorded, advance
from tests.upgrade.stream import Records

STATES = Path(__file__).parent / "states"
EXPECTED = Path(__file__).parent / "expected"
PUBLISHED = sorted(path.stem for path in STATES.glob("*.xz"))


def read(name: str) -> Recorded:
    """Read what a published program stored."""
    return msgspec.msgpack.decode(lzma.decompress((STATES / f"{name}.xz").read_bytes()), type=Recorded)


def restored(recorded: Recorded, entries: dict[str, bytes] | None = None) -> Task:
    """Make a task of recorded entries, or of others at the same positions."""
    settings = msgspec.convert(recorded.settings, CoreSettings)
    return Task.restore(settings, TOPICS, Positions(*recorded.positions), entries or recorded.entries)


def go_on(task: Task, recorded: Recorded, batch: int = 500, *, restarts: bool = False) -> list[bytes]:
    """Feed a task the continuation; give what it publishes. `restarts`: behind each batch it is stored and restored."""
    made, entries = Records(*recorded.continuation), dict(recorded.entries)
    ends = [first + len(part) for first, part in zip(recorded.positions, made, strict=True)]
    out: list[Any] = []
    while advance(task, made, ends, task.settings, batch, out):
        if restarts:
            store(task, entries)
            task = Task.restore(task.settings, TOPICS, task.intake.taken, entries)
    assert [task.intake.position(role) for role in Role] == ends
    return [encode(output) for output in out]


def store(task: Task, entries: dict[str, bytes]) -> None:
    """Bring entries up to date with what changed in a task."""
    for name, entry in task.changed_state().items():
        entries.pop(name, None)
        if entry is not None:
            entries[name] = entry


def in_words(said: bytes) -> str:
    """Say in one line what was published: whose, what it is about, and the totals, without what words may change."""
    output: dict[str, Any] = msgspec.json.decode(said)
    output = output.get("data", output)
    subject = [output.get(name) for name in ("model_id", "model_version", "segment") if output.get(name)]
    if "windows" in output:
        windows = [
            f"{window['window']} n={window['count']} {_measure(window['values'])}" for window in output["windows"]
        ]
        total = f"predictions={output['predictions_total']} outcomes={output['outcomes_total']}"
        return " ".join([str(output["event_time_ms"]), "snapshot", *subject, total, *windows])
    if "trigger_id" in output:
        what = ["trigger", output["state"]]
    elif "alert_id" in output:
        what = ["alert", output["kind"], output["state"], output["severity"]]
    else:
        what = ["dead letter", output["reason"], output["topic"], str(output["offset"])]
    return " ".join([str(output.get("event_time_ms", "")), *what, *map(str, subject)])


def _measure(values: dict[str, Any]) -> str:
    for name in ("accuracy", "mae"):
        if values.get(name) is not None:
            return f"{name}={values[name]:.6g}"
    return ""
