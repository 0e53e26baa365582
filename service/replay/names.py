"""Where a replay may write. Never to where a live service reads, writes, or keeps its state."""

from pathlib import Path

import msgspec

from service.runtime.settings import TOPIC_FIELDS, TopicSettings

OUTPUTS = ("alerts", "triggers", "metrics", "dead_letters")
"""Kinds of output, as their fields are called in TopicSettings and their files in a run's directory."""

RUN_FILE = "run.json"


class TargetError(ValueError):
    """A replay was told to write where it must not; the message says why."""


def own_topics(topics: TopicSettings, prefix: str) -> TopicSettings:
    """Give the names of a replay's own output topics: the prefix, a dot and the kind.

    Raises TargetError where one of them is a live topic.
    """
    names = {kind: f"{prefix}.{kind.replace('_', '-')}" for kind in OUTPUTS}
    live = {getattr(topics, field) for field in TOPIC_FIELDS}
    taken = sorted(live & set(names.values()))
    if taken:
        raise TargetError(
            f"--to-topics {prefix}: {', '.join(taken)} belongs to the live service; a replay never writes there"
        )
    return msgspec.structs.replace(topics, **names)


def prepare_directory(directory: Path, *, resume: bool) -> None:
    """Make a run's directory. Raises TargetError where it holds anything else, or a run that is not to be resumed."""
    if directory.exists() and not directory.is_dir():
        raise TargetError(f"{directory}: is a file, and a run needs a directory")
    directory.mkdir(parents=True, exist_ok=True)
    held = sorted(path.name for path in directory.iterdir())
    if not held:
        return
    if RUN_FILE not in held:
        raise TargetError(f"{directory}: holds {held[0]} and no {RUN_FILE}, so it is no run; name an empty directory")
    if not resume:
        raise TargetError(f"{directory}: holds a run already; go on with it by --resume, or name another directory")
