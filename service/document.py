"""YAML as files that people write are read: bounded, without duplicate keys, and with a line for every path.

The text is looked at once as a stream of events, which cannot recurse or expand, before anything is built of it: an
alias counts as often as it would be expanded, so a file of a few lines cannot become gigabytes, and one that holds
itself is refused.
"""

import re
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import yaml

MAX_DEPTH: Final = 64
"""Lists and mappings within each other; the deepest setting lies at 8."""
MAX_NODES: Final = 500_000
"""Values of one file, aliases as often as they stand for something; a reference window has some 10,000."""


class DocumentError(ValueError):
    """A text that is no configuration; the message names the path and the line."""


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # libyaml where it is there
    """YAML 1.2's booleans: true and false alone. In YAML 1.1 `on`, which is a setting, and the country `NO` are too."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|false)$", re.IGNORECASE), "tTfF")


class _Place(NamedTuple):
    path: str
    line: int


class _Group:
    """A list or mapping that is open: where it is, what it holds so far, and how large it is with aliases expanded."""

    def __init__(self, path: str, anchor: str | None, keys: dict[str, int] | None) -> None:
        self.path = path
        self.anchor = anchor
        self.keys = keys
        """Of a mapping: its keys and their lines."""
        self.key: str | None = None
        """Of a mapping: the key whose value comes next."""
        self.length = 0
        self.nodes = 1

    def take_key(self, text: str, line: int) -> None:
        keys = self.keys if self.keys is not None else {}
        if text in keys:
            first = keys[text]
            raise DocumentError(f"{self.path}.{text} (line {line}): stands twice, for the first time in line {first}")
        keys[text] = line
        self.key = text

    def next_path(self) -> str:
        """Give the path of the value that comes next, and count it."""
        if self.keys is None:
            self.length += 1
            return f"{self.path}[{self.length - 1}]"
        path, self.key = f"{self.path}.{self.key}", None
        return path


def read_yaml(text: bytes) -> Any:
    """Read plain data. Raises DocumentError with one line that says what is wrong and where."""
    for _ in _walk(text):
        pass
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506  (a safe loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: a date like 2026-13-45
        raise DocumentError(_plain(error)) from error


def line_of(text: bytes, path: str) -> int | None:
    """Give the line on which the value of a path begins ($.a.b[0].c), or the nearest group around it."""
    found: int | None = None
    longest = -1
    for place in _walk(text):
        holds = path == place.path or path.startswith((f"{place.path}.", f"{place.path}["))
        if holds and len(place.path) > longest:
            found, longest = place.line, len(place.path)
    return found


def _walk(text: bytes) -> Iterator[_Place]:
    """Go through a text once, within the bounds; give the place of each value."""
    groups: list[_Group] = []
    sizes: dict[str, int] = {}
    nodes = 0
    try:
        for event in yaml.parse(text, Loader=_Loader):
            if isinstance(event, yaml.CollectionEndEvent):
                _close(groups, sizes)
                continue
            if not isinstance(event, yaml.NodeEvent):
                continue
            line = event.start_mark.line + 1 if event.start_mark else 0
            size = _size(event, sizes, groups, line)
            nodes += size
            if nodes > MAX_NODES:
                raise DocumentError(f"line {line}: more than {MAX_NODES:,} values, with every alias written out")
            if groups:
                groups[-1].nodes += size
            if _is_key(groups):
                _take_key(groups[-1], event, line)
                continue
            path = groups[-1].next_path() if groups else "$"
            yield _Place(path, line)
            if isinstance(event, yaml.CollectionStartEvent):
                if len(groups) >= MAX_DEPTH:
                    raise DocumentError(f"line {line}: more than {MAX_DEPTH} groups within each other")
                keys: dict[str, int] | None = {} if isinstance(event, yaml.MappingStartEvent) else None
                groups.append(_Group(path, event.anchor, keys))
            elif isinstance(event, yaml.ScalarEvent) and event.anchor:
                sizes[event.anchor] = 1
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DocumentError(_plain(error)) from error


def _is_key(groups: list[_Group]) -> bool:
    return bool(groups) and groups[-1].keys is not None and groups[-1].key is None


def _take_key(group: _Group, event: yaml.NodeEvent, line: int) -> None:
    if not isinstance(event, yaml.ScalarEvent):
        raise DocumentError(f"{group.path} (line {line}): a key must be a word, not a list, a mapping or an alias")
    group.take_key(str(event.value), line)


def _size(event: yaml.NodeEvent, sizes: dict[str, int], groups: list[_Group], line: int) -> int:
    """Count the values that an event stands for. Raises DocumentError for an alias of what it lies in."""
    if not isinstance(event, yaml.AliasEvent):
        return 1
    if any(group.anchor == event.anchor for group in groups):
        raise DocumentError(f"line {line}: *{event.anchor} stands within &{event.anchor}, which would hold itself")
    return sizes.get(str(event.anchor), 1)


def _close(groups: list[_Group], sizes: dict[str, int]) -> None:
    """End the innermost group: the group around it has counted its values one by one, and so has its anchor."""
    group = groups.pop()
    if group.anchor:
        sizes[group.anchor] = group.nodes
    if groups:
        groups[-1].nodes += group.nodes - 1


def _plain(error: Exception) -> str:
    """Say in one line what the parser says in several, without the excerpt."""
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        return where + " ".join(part for part in (error.context, error.problem) if part)
    if isinstance(error, RecursionError):
        return "groups within each other without end"
    return " ".join(str(error).split())
