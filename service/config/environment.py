"""Texts with `${NAME}` in them: the value is used, and the text is what is shown.

A configuration remembers where such texts stood (`Config.placeholders`). Whatever writes a configuration down writes
`shown(config)`; whatever writes lines passes them through `Redaction`.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

_VARIABLE: Final = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")

SHORTEST_REDACTED: Final = 4
"""A shorter value is replaced where it is the whole text alone: within a text it would be found by chance."""


class Placeholder(msgspec.Struct, frozen=True):
    """One text of the file that took something from the environment."""

    path: tuple[str | int, ...]
    text: str
    """As it stands in the file."""


class MissingVariableError(ValueError):
    """A variable that is not set and has no default."""

    def __init__(self, path: tuple[str | int, ...], name: str) -> None:
        super().__init__(f"the environment variable {name} is not set")
        self.path = path


def substitute(data: Any, environment: Mapping[str, str]) -> tuple[Any, tuple[Placeholder, ...]]:
    """Replace `${NAME}` and `${NAME:-default}` in all texts of plain data; also give where they stood.

    A stored reference window is data and stays as it is. Raises MissingVariableError.
    """
    found: list[Placeholder] = []

    def value_of(text: str, path: tuple[str | int, ...]) -> str:
        def one(match: re.Match[str]) -> str:
            value = environment.get(match[1], match[2])
            if value is None:
                raise MissingVariableError(path, match[1])
            return value

        replaced = _VARIABLE.sub(one, text)
        if _VARIABLE.search(text):
            found.append(Placeholder(path, text))
        return replaced

    def walk(item: Any, path: tuple[str | int, ...]) -> Any:
        if isinstance(item, dict):
            if path[-1:] == ("data",) and path[-2:-1] == ("reference",):
                return item
            return {key: walk(value, (*path, key)) for key, value in item.items()}
        if isinstance(item, list | tuple):
            return [walk(value, (*path, index)) for index, value in enumerate(item)]
        return value_of(item, path) if isinstance(item, str) else item

    return walk(data, ()), tuple(found)


def put_back(plain: Any, placeholders: Iterable[Placeholder]) -> None:
    """Write the file's own texts into plain data again, in place."""
    for placeholder in placeholders:
        *way, last = placeholder.path
        target = plain
        for part in way:
            target = target[part]
        target[last] = placeholder.text


def values_of(placeholders: Iterable[Placeholder], environment: Mapping[str, str]) -> dict[str, str]:
    """Give every value that these texts took from the environment, with the `${NAME}` that stands for it."""
    names = {match[1] for placeholder in placeholders for match in _VARIABLE.finditer(placeholder.text)}
    return {environment[name]: f"${{{name}}}" for name in sorted(names) if environment.get(name)}


class Redaction:
    """Puts `${NAME}` for the values that a configuration took from the environment."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = dict(values)
        # The longest first: one value may hold another.
        long = sorted((value for value in values if len(value) >= SHORTEST_REDACTED), key=len, reverse=True)
        self._within = re.compile("|".join(map(re.escape, long))) if long else None

    def text(self, text: str) -> str:
        """Give a text without those values."""
        if text in self._values:
            return self._values[text]
        return self._within.sub(lambda match: self._values[match[0]], text) if self._within else text

    def plain(self, item: Any) -> Any:
        """Give plain data, such as the fields of a line of a log, without those values."""
        if isinstance(item, str):
            return self.text(item)
        if isinstance(item, Mapping):
            return {key: self.plain(value) for key, value in item.items()}
        if isinstance(item, list | tuple | set | frozenset):
            return [self.plain(value) for value in item]
        if item is None or isinstance(item, bool | int | float):
            return item
        # An exception, a path: what the renderer would write.
        told = str(item)
        redacted = self.text(told)
        return item if redacted == told else redacted
