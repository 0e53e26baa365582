"""What a sweep tries: a grid and a list of changes to a configuration, as YAML.

    objective: [missed, false_alarms, delay_events]
    grid:                       # every combination
      core.default.concept_drift.reference_outcomes: [200, 500, 1000]
      core.default.alerts.pending_for_ms: [0, 60000]
    list:                       # and these
      - name: cautious
        set: {core.default.concept_drift.alert_on: majority}

A path's parts are parted by dots; a path that begins with a slash is parted by slashes, for names that hold dots.
"""

import copy
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple

import msgspec
from msgspec import Meta

from service.cli.errors import UsageError
from service.config import Config, ConfigError, parse_config, read_bounded, read_yaml

MAX_CONFIGURATIONS: Final = 1_000
"""More are refused: a grid grows quickly beyond what anybody means."""


class Change(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One configuration of the list."""

    set: dict[str, Any]
    name: str = ""


class SweepPlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file."""

    grid: Annotated[dict[str, list[Any]], Meta(description="path to the values to be tried")] = {}
    list: tuple[Change, ...] = ()
    objective: tuple[str, ...] | None = None


class Variant(NamedTuple):
    """One configuration to be tried."""

    name: str
    changes: dict[str, Any]
    raw: dict[str, Any]
    """As a file would hold it: the base's own text with the changes."""
    config: Config


def read_plan(path: Path) -> SweepPlan:
    """Read the file. Raises UsageError that names it."""
    try:
        plan = msgspec.convert(read_yaml(read_bounded(path)) or {}, SweepPlan)
    except (ConfigError, msgspec.ValidationError) as error:
        raise UsageError(f"{path}: {error}") from error
    if not plan.grid and not plan.list:
        raise UsageError(f"{path}: expected a grid, a list, or both")
    return plan


def variants(plan: SweepPlan, raw: dict[str, Any], base: Config) -> list[Variant]:
    """Give every configuration, the grid's first. `raw`: the base as its file holds it. Raises UsageError."""
    combinations = [dict(zip(plan.grid, values, strict=True)) for values in _product(plan)]
    named = [(_name(changes), changes) for changes in combinations]
    named += [(change.name or _name(change.set), change.set) for change in plan.list]
    full = msgspec.json.decode(msgspec.json.encode(base))  # lists, not tuples, as a file holds them
    return [_variant(name, changes, raw, full, base) for name, changes in named]


def _product(plan: SweepPlan) -> list[tuple[Any, ...]]:
    count = len(plan.list)
    size = 1
    for values in plan.grid.values():
        size *= len(values)
    if plan.grid:
        count += size
    if count > MAX_CONFIGURATIONS:
        raise UsageError(f"the sweep has {count:,} configurations; at most {MAX_CONFIGURATIONS:,} are run at once")
    return list(product(*plan.grid.values())) if plan.grid else []


def _name(changes: dict[str, Any]) -> str:
    return ", ".join(f"{_parts(path)[-1]}={value}" for path, value in changes.items())


def _variant(name: str, changes: dict[str, Any], raw: dict[str, Any], full: dict[str, Any], base: Config) -> Variant:
    changed = copy.deepcopy(raw)
    for path, value in changes.items():
        _set(changed, full, path, value)
    try:
        config = parse_config(changed)
    except ConfigError as error:
        raise UsageError(f"{name}: {error}") from error
    if msgspec.structs.replace(config, core=base.core) != msgspec.structs.replace(base, core=base.core):
        raise UsageError(f"{name}: a sweep varies core.* alone")
    return Variant(name, changes, changed, config)


def _parts(path: str) -> list[str]:
    return path[1:].split("/") if path.startswith("/") else path.split(".")


def _set(target: Any, full: Any, path: str, value: Any) -> None:
    """Set a value in plain data. Groups that the base's file leaves out are made; lists are those of the defaults."""
    *way, last = _parts(path)
    for part in way:
        default = _child(full, part)
        child = _child(target, part)
        if child is None:
            child = copy.deepcopy(default) if isinstance(default, list) else {}
            target[part] = child
        target, full = child, default
    if isinstance(target, list):
        if not last.isdecimal() or int(last) >= len(target):
            raise UsageError(f"{path}: expected a place in a list of {len(target)}, got {last}")
        target[int(last)] = value
    elif isinstance(target, dict):
        target[last] = value
    else:
        raise UsageError(f"{path}: {way[-1]} is no group of settings")


def _child(data: Any, part: str) -> Any:
    if isinstance(data, dict):
        return data.get(part)
    if isinstance(data, list) and part.isdecimal() and int(part) < len(data):
        return data[int(part)]
    return None
