"""No field comes, goes or changes its type without a version, and without a conversion of what was stored before."""

import re
from typing import Any

import msgspec
import pytest

from service.core import migrations
from service.core.task_state import LAYOUTS, VERSIONS, read_entry
from tests.upgrade.reading import PUBLISHED, go_on, read, restored, store
from tests.upgrade.shapes import kept, shapes

SHAPES = shapes()
LAST = PUBLISHED[-1]


@pytest.mark.parametrize("kind", sorted(SHAPES))
def test_a_kind_that_holds_something_else_than_was_published_has_another_version(kind: str) -> None:
    now, published = SHAPES[kind], kept(LAST).get(kind, {"version": 0})
    assert now["shape"] == published.get("shape") or now["version"] > published["version"], (
        f"{kind} holds something else than in {LAST} (tests/upgrade/states/{LAST}.json): raise its version from "
        f"{published['version']}, once, and say in service/core/migrations.py what becomes of stored ones"
    )
    assert now["version"] in (published["version"], published["version"] + 1), f"{kind}: one version for each release"


@pytest.mark.parametrize("kind", sorted(VERSIONS))
def test_a_conversion_leads_from_every_version_to_the_next(kind: str) -> None:
    for version in range(1, VERSIONS[kind]):
        assert (kind, version) in migrations.MIGRATIONS, f"{kind} version {version} has nothing that leads on"


@pytest.mark.parametrize("name", PUBLISHED)
def test_what_is_stored_is_what_its_layout_says_and_nothing_else(name: str) -> None:
    """A field that a monitor stores and its layout does not name would be dropped by the check at restore."""
    recorded = read(name)
    task, entries = restored(recorded), dict(recorded.entries)
    go_on(task, recorded)
    task._changed.update(task.models)
    store(task, entries)
    for entry in entries:
        kind = _kind(entry)
        if kind is not None:
            stored = msgspec.msgpack.decode(_payload(entries, entry))[3]
            described = msgspec.to_builtins(read_entry(entries, entry, kind), builtin_types=(bytes,))
            assert _plain(described) == _plain(stored), f"{entry} holds what {LAYOUTS[kind]} does not describe"


def _kind(entry: str) -> str | None:
    if re.fullmatch(r"version/\d+", entry):
        return "version"
    return entry.partition("/")[0] if re.fullmatch(r"task|model/[^/]+", entry) else None


def _payload(entries: dict[str, bytes], entry: str) -> bytes:
    parts = sorted(name for name in entries if name.startswith(f"{entry}/parts/"))
    return (b"".join(entries[part] for part in parts) or entries[entry])[4:]


def _plain(value: Any) -> Any:
    """Make what is written alike look alike: 1 and 1.0 are one number, NaN is itself."""
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return "nan" if value != value else value  # noqa: PLR0124
