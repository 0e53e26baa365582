"""A task's state as entries: names to sealed bytes, each small enough for a record of the log.

task                              header: clocks, roster, names of the models
join/<block>                      packed blocks of the join; sealed by the join itself
model/<model_id, quoted>          policies and timers
version/<place>                   monitors of one version (place in the roster)
version/<place>/outcomes/<block>  blocks of its windows of outcomes, and of its recent predictions
<any of these>/parts/<number>     where it is too long for one record; the entry itself says how many
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, TypedDict
from urllib.parse import quote

from service.core.failures import ModelError
from service.core.join import JoinBuffer, JoinStateError, Spill
from service.core.layout import Natural, checked
from service.core.limits import LimitsState
from service.core.memory import MemoryState, MonitorMemory
from service.core.model import ModelMonitor
from service.core.model_clocks import ModelClocks
from service.core.prepare import TaskTopics
from service.core.quarantine import QuarantineState
from service.core.roster import Roster, RosterState
from service.core.settings import JoinSettings
from service.core.shelf import Changes
from service.core.state import (
    MISFITS,
    CorruptStateError,
    NewerStateError,
    decode_entry,
    encode_entry,
    kind_of,
    told,
)
from service.core.strays import StraysState
from service.core.version_state import ModelState, VersionState
from service.core.waiting_names import NamesState

VERSIONS = {"task": 2, "model": 2, "version": 2, "outcomes": 1}
MAX_ENTRY_BYTES = 900_000
"""Longer entries are cut into parts: a broker takes records of 1 MiB by default."""


class TaskHeader(TypedDict):
    """The entry `task`."""

    sequence: Natural
    log_clock: list[int]
    input_clocks: list[list[int]]
    """Of control, predictions and labels: their merge keys."""
    clocks: dict[str, list[int]]
    """Of models that have no entry of their own, because nothing is watched of them."""
    begun_ms: int
    """Where the clocks of models go on of which an older program kept none."""
    roster: RosterState
    limits: LimitsState
    quarantine: QuarantineState
    strays: StraysState
    memory: MemoryState
    names: NamesState
    models: list[str]


class ModelEntry(ModelState):
    """The entry of a model."""

    clock: list[int] | None
    """None: an older program kept none."""


LAYOUTS: Final[dict[str, Any]] = {"task": TaskHeader, "model": ModelEntry, "version": VersionState, "outcomes": bytes}
"""What each kind of entry holds, in its present version."""


class TaskState:
    """Writes entries, and remembers what a shorter one leaves over."""

    def __init__(self) -> None:
        self._parts: dict[str, int] = {}
        self._stored: set[str] = set()
        """Names of the entries of models and versions, without their parts: what is to be removed with a model."""
        self._dropped: dict[str, bytes | None] = {}

    def changes(
        self,
        header: TaskHeader,
        join: JoinBuffer,
        models: Mapping[str, ModelMonitor],
        roster: Roster,
        changed: Iterable[str],
        clocks: ModelClocks,
    ) -> Iterator[dict[str, bytes | None]]:
        """Give all entries that changed (None: removed), the header always, in parts: one for each model and one more.

        They count as stored from then on.
        """
        entries = self._dropped | self._put("task", "task", header)
        self._dropped = {}
        blocks = join.changed_blocks()
        entries.update((f"join/{key}", block) for key, block in blocks.blocks)
        entries.update((f"join/{key}", None) for key in blocks.vanished)
        yield entries
        for model_id in sorted(changed):
            try:
                entries = self._model(model_id, models[model_id], roster, clocks)
            except Exception as error:
                raise ModelError(model_id, "snapshot", error) from error
            yield entries

    def _model(
        self, model_id: str, model: ModelMonitor, roster: Roster, clocks: ModelClocks
    ) -> dict[str, bytes | None]:
        clock = clocks.snapshot(roster.model_place(model_id))
        entries = self._put(_model_entry(model_id), "model", model.snapshot() | {"clock": clock})
        for model_version in model.versions:
            changes = model.versions.changes(model_version)
            if changes is not None:
                entries.update(self._version(f"version/{roster.place_of(model_id, model_version)}", changes))
        return entries

    def drop(self, model_id: str, places: Iterable[int]) -> None:
        """Let the next changes remove what is stored of a model and of its versions, by their places."""
        if _model_entry(model_id) in self._stored:
            self._dropped.update(self._remove(_model_entry(model_id)))
        self.drop_versions(places)

    def drop_versions(self, places: Iterable[int]) -> None:
        """Let the next changes remove what is stored of versions, by their places."""
        versions = [f"version/{place}" for place in places]
        below = tuple(f"{name}/outcomes/" for name in versions)
        for name in sorted(name for name in self._stored if name in versions or name.startswith(below or ("\0",))):
            self._dropped.update(self._remove(name))

    def _version(self, name: str, changes: Changes) -> dict[str, bytes | None]:
        entries = self._put(name, "version", changes.state)
        for key, block in changes.blocks:
            entry = f"{name}/outcomes/{key}"
            entries.update(self._remove(entry) if block is None else self._put(entry, "outcomes", block))
        return entries

    def _put(self, name: str, kind: str, payload: Any) -> dict[str, bytes | None]:
        sealed = encode_entry(kind, VERSIONS[kind], payload)
        if kind != "task":
            self._stored.add(name)
        before = self._parts.pop(name, 0)
        if len(sealed) <= MAX_ENTRY_BYTES:
            entries: dict[str, bytes | None] = {name: sealed}
            count = 0
        else:
            cuts = range(0, len(sealed), MAX_ENTRY_BYTES)
            entries = {_part(name, at // MAX_ENTRY_BYTES): sealed[at : at + MAX_ENTRY_BYTES] for at in cuts}
            count = self._parts[name] = len(entries)
            entries[name] = encode_entry("parts", 1, count)
        entries.update((_part(name, number), None) for number in range(count, before))
        return entries

    def _remove(self, name: str) -> dict[str, bytes | None]:
        gone: dict[str, bytes | None] = {name: None}
        self._stored.discard(name)
        gone.update((_part(name, number), None) for number in range(self._parts.pop(name, 0)))
        return gone

    def adopt(self, entries: Mapping[str, bytes]) -> None:
        """Take note of the parts that are stored."""
        for name in entries:
            if "/parts/" in name:
                owner = name.rpartition("/parts/")[0]
                self._parts[owner] = self._parts.get(owner, 0) + 1
            elif name.startswith(("model/", "version/")):
                self._stored.add(name)


def read_entry(entries: Mapping[str, bytes], name: str, kind: str) -> Any:
    """Open an entry, put together from its parts. Raises CorruptStateError or NewerStateError that names it."""
    with blaming(name):
        sealed = entries.get(name)
        if sealed is None:
            raise CorruptStateError(f"{name}: missing")
        count = _count_of_parts(sealed, name)
        if count:
            parts = [entries.get(_part(name, number)) for number in range(count)]
            if None in parts:
                raise CorruptStateError(f"{_part(name, parts.index(None))}: missing")
            sealed = b"".join(part for part in parts if part is not None)
        return checked(decode_entry(sealed, kind, VERSIONS[kind], name)[1], LAYOUTS[kind])


@contextmanager
def blaming(name: str) -> Iterator[None]:
    """Let errors about an entry say which it is, whatever a monitor stumbled over: to try again mends none of them."""
    try:
        yield
    except (CorruptStateError, NewerStateError) as error:
        if error.entry is None:
            error.entry = name
        raise
    except MISFITS as error:
        refused = CorruptStateError(f"{name}: {told(error)}")
        refused.entry = name
        raise refused from error


def _count_of_parts(sealed: bytes, name: str) -> int:
    return int(decode_entry(sealed, "parts", 1, name)[1]) if kind_of(sealed) == "parts" else 0


def _model_entry(model_id: str) -> str:
    """Name a model's entry. A model may be called anything: its name must not pass for a part or a block."""
    return f"model/{quote(model_id, safe='')}"


def _part(name: str, number: int) -> str:
    return f"{name}/parts/{number}"


def read_join(entries: Mapping[str, bytes], settings: JoinSettings, spill: Spill | None = None) -> JoinBuffer:
    """Restore the join. Raises CorruptStateError or NewerStateError that names the entry."""
    with blaming("join/meta"):
        try:
            return JoinBuffer.restore(settings, _below(entries, "join/"), spill=spill)
        except JoinStateError as error:
            kind = NewerStateError if error.newer else CorruptStateError
            refused = kind(f"join/{error.key}: {error}")
            refused.entry = f"join/{error.key}"
            raise refused from error


def read_models(
    names: Iterable[str], roster: Roster, topics: TaskTopics, entries: Mapping[str, bytes], memory: MonitorMemory
) -> Iterator[tuple[str, ModelMonitor, list[int] | None]]:
    """Restore the models, one after the other, each with its clock; versions that were put by are left so.

    A clock is None where an older program kept none.
    """
    outcomes: dict[str, dict[str, dict[str, bytes]]] = {}
    for name in entries:
        version, found, rest = name.partition("/outcomes/")
        if found and "/parts/" not in rest:
            window, _, block = rest.partition("/")
            outcomes.setdefault(version, {}).setdefault(window, {})[block] = read_entry(entries, name, "outcomes")
    for model_id in names:
        model = roster.model(model_id)
        if model is None:
            raise CorruptStateError(f"task: the roster does not know {model_id}, which is watched")
        state = read_entry(entries, _model_entry(model_id), "model")
        monitor = ModelMonitor(model, topics)
        for model_version in state["versions"]:
            with blaming(_model_entry(model_id)):
                place = roster.place_of(model_id, model_version)
            name = f"version/{place}"
            stored, blocks = read_entry(entries, name, "version"), outcomes.get(name, {})
            with blaming(name):
                if memory.is_parked(place):
                    monitor.versions.adopt(model_version, stored, blocks)
                else:
                    monitor.version(model_version).restore(stored, blocks)
        with blaming(_model_entry(model_id)):
            monitor.restore(state)
        yield model_id, monitor, state["clock"]


def _below(entries: Mapping[str, bytes], prefix: str) -> dict[str, bytes]:
    return {name.removeprefix(prefix): value for name, value in entries.items() if name.startswith(prefix)}
