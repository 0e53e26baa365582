"""What is wrong with a configuration, in the words of its settings: the whole path, and what is allowed there."""

import difflib
import re
from collections.abc import Iterator
from typing import Any, Final

import msgspec
from msgspec import inspect as types

_AT: Final = re.compile(r"^(?P<what>.*?)(?: - at (?P<key>`key` in )?`(?P<path>\$.*)`)?$", re.DOTALL)
_PART: Final = re.compile(r"\.([^.\[\]]+)|\[(\d+|\.\.\.)\]")
_FIELD_FIRST: Final = re.compile(r"^(\w+): (.*)$", re.DOTALL)

Path = tuple[str | int, ...]


def explain(error: msgspec.ValidationError, data: Any, kind: type[msgspec.Struct]) -> tuple[str, str]:
    """Give the path of what is wrong and what it is, from msgspec's message, the data, and the type it was to become.

    msgspec says neither which entry of a mapping is wrong nor what an enumeration allows; here both are found.
    """
    match = _AT.match(str(error))
    what, told = (match["what"], match["path"]) if match else (str(error), None)
    path = _exact(data, told or "$", str(error), kind)
    if match and match["key"]:
        name = next((key for key in _at(data, list(path)) if not isinstance(key, str)), None)
        return written(path), f"the name {name!r} is no text: put it in quotes"
    group = _type_at(types.type_info(kind), path)
    if named := re.match(r"^Object contains unknown field `(.*)`$", what):
        return written((*path, named[1])), _unknown(named[1], group)
    if what.startswith("Invalid enum value") and isinstance(group, types.LiteralType):
        return written(path), f"{what}; expected one of {', '.join(map(str, group.values))}"
    # A group's own check names the field that it is about, and a colon.
    inner = _FIELD_FIRST.match(what)
    if inner and isinstance(group, types.StructType) and inner[1] in {field.name for field in group.fields}:
        return written((*path, inner[1])), inner[2]
    return written(path), what


def written(path: Path) -> str:
    """Write a path as messages do: $.core.models.churn.problem."""
    return "$" + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)


def is_choice(kind: type[msgspec.Struct], path: Path) -> bool:
    """Say whether a path holds one of a few fixed words."""
    return isinstance(_type_at(types.type_info(kind), path), types.LiteralType)


def _unknown(name: str, group: types.Type | None) -> str:
    if not isinstance(group, types.StructType):
        return "unknown field"
    known = [field.name for field in group.fields]
    near = difflib.get_close_matches(name, known, n=1)
    return f"unknown field; did you mean {near[0]}?" if near else f"unknown field; there are {', '.join(known)}"


def _exact(data: Any, told: str, message: str, kind: type[msgspec.Struct]) -> Path:
    """Find which entry of a mapping `[...]` means: the one that, alone in it, is refused in the same words."""
    path: list[str | int] = []
    for name, place in _PART.findall(told):
        if place == "...":
            keys = list(_at(data, path))
            guilty = next((key for key in keys if _refusal(_with_only(data, path, key), kind) == message), keys[0])
            data = _with_only(data, path, guilty)
            path.append(guilty)
        else:
            path.append(int(place) if place else name)
    return tuple(path)


def _refusal(data: Any, kind: type[msgspec.Struct]) -> str:
    try:
        msgspec.convert(data, kind)
    except msgspec.ValidationError as error:
        return str(error)
    return ""


def _at(data: Any, path: list[str | int]) -> Any:
    for part in path:
        data = data[part]
    return data


def _with_only(data: Any, path: list[str | int], key: Any) -> Any:
    """Copy plain data, leaving one entry alone in the mapping at a path."""
    if not path:
        return {key: data[key]}
    first, rest = path[0], path[1:]
    if isinstance(data, list):
        return [_with_only(item, rest, key) if index == first else item for index, item in enumerate(data)]
    return {name: _with_only(item, rest, key) if name == first else item for name, item in data.items()}


def _type_at(kind: types.Type, path: Path) -> types.Type | None:
    """Give the type that a path has, without descriptions; None where there is no such path."""
    for option in _options(kind):
        if not path:
            return option
        first, rest = path[0], path[1:]
        inner: types.Type | None = None
        if isinstance(option, types.StructType):
            inner = next((field.type for field in option.fields if field.encode_name == first), None)
        elif isinstance(option, types.DictType):
            inner = option.value_type
        elif isinstance(option, types.VarTupleType | types.ListType):
            inner = option.item_type
        elif isinstance(option, types.TupleType) and isinstance(first, int) and first < len(option.item_types):
            inner = option.item_types[first]
        found = None if inner is None else _type_at(inner, rest)
        if found is not None:
            return found
    return None


def _options(kind: types.Type) -> Iterator[types.Type]:
    if isinstance(kind, types.Metadata):
        yield from _options(kind.type)
    elif isinstance(kind, types.UnionType):
        for option in kind.types:
            yield from _options(option)
    else:
        yield kind
