"""The configuration's documentation, made from the settings themselves: a commented YAML file and a Markdown page."""

import inspect
import textwrap
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import msgspec
import yaml
from msgspec import inspect as types

from service.config import Config

UNITS: Final = {"_ms": "milliseconds", "_bytes": "bytes"}
"""Last part of a field's name to its unit; the other numbers are counts and ratios."""

NO_SETTINGS: Final = {"placeholders"}
"""Fields that a configuration holds and a file cannot give."""

WIDTH: Final = 100
INDENT: Final = "  "

_EXAMPLE_HEAD = """\
# Configuration of Tidegauge. Every field is here at its default: keep what you change and delete the rest.
# ${NAME} and ${NAME:-default} in a text are replaced from the environment.
"""
_REFERENCE_HEAD = """\
# Configuration

One YAML file, given with `--config`. Every field is optional unless it says *required*; unknown names and wrong types
are errors that name their path. `${NAME}` and `${NAME:-default}` in a text are replaced from the environment, so that
secrets stay out of the file. A model without a section of its own under `core.models` is watched as `core.default`
says.

`tidegauge config example` prints a file with every field at its default, and `tidegauge config check FILE` says what is
wrong with yours, in one line with path and line number; with `--connect` it also tries the log. A key that stands
twice, two topics of one name, and aliases that would expand beyond 500,000 values are errors. This page is made by
`tidegauge config reference`.
"""


class Setting(NamedTuple):
    """One field of the configuration."""

    name: str
    meaning: str
    expected: str
    """What it may be, in words, with its unit."""
    required: bool
    default: Any
    """Plain data."""
    group: types.StructType | None
    """Where the field is a group of settings."""
    members: types.StructType | None
    """Where the field is a list or a mapping of groups."""


def example() -> str:
    """Write the commented YAML file; read back it gives the defaults."""
    return _EXAMPLE_HEAD + "".join(f"{line}\n" for line in _example_lines(_struct(Config), Config(), ""))


def reference() -> str:
    """Write the Markdown page."""
    return _REFERENCE_HEAD + "".join(_sections(_struct(Config), Config(), ""))


def settings_of(group: types.StructType, values: msgspec.Struct | None) -> Iterator[Setting]:
    """Give the fields of a group, with their values where there are some, else with their own defaults."""
    for field in group.fields:
        if field.name in NO_SETTINGS:
            continue
        kind, meaning = _unwrap(field.type)
        required = field.required
        default = getattr(values, field.name) if values is not None else _default_of(field)
        nested = kind if isinstance(kind, types.StructType) else None
        unit = next((unit for suffix, unit in UNITS.items() if field.name.endswith(suffix)), None)
        expected = words(kind) + (f", {unit}" if unit else "")
        yield Setting(field.name, meaning, expected, required, default, nested, _members(kind))


def words(kind: types.Type) -> str:
    """Say in words what values a type allows."""
    match kind:
        case types.Metadata():
            text = words(kind.type)
        case types.IntType() | types.FloatType():
            text = ("integer" if isinstance(kind, types.IntType) else "number") + _bounds(kind)
        case types.LiteralType():
            text = f"one of {', '.join(map(str, kind.values))}"
        case types.UnionType():
            # null last, as people say it
            options = sorted(kind.types, key=lambda option: isinstance(option, types.NoneType))
            text = " or ".join(words(option) for option in options)
        case types.VarTupleType() | types.ListType():
            text = f"list of: {words(kind.item_type)}"
        case types.TupleType():
            text = f"[{', '.join(words(item) for item in kind.item_types)}]"
        case types.DictType():
            text = f"mapping of text to: {words(kind.value_type)}"
        case _:
            text = _SIMPLE.get(type(kind), "anything")
    return text


_SIMPLE: Final[dict[type[types.Type], str]] = {
    types.BoolType: "true or false",
    types.StrType: "text",
    types.NoneType: "null",
    types.StructType: "group",
}


def _bounds(kind: types.IntType | types.FloatType) -> str:
    limits = (("at least", kind.ge), ("above", kind.gt), ("at most", kind.le), ("below", kind.lt))
    told = ", ".join(f"{word} {_number(limit)}" for word, limit in limits if limit is not None)
    return f" ({told})" if told else ""


def _number(value: float) -> str:
    # 1 and 1.0 are one bound: which of them a type holds depends on what was imported first.
    return f"{int(value):,}" if float(value).is_integer() else f"{value:g}"


def _struct(cls: type[msgspec.Struct]) -> types.StructType:
    kind = types.type_info(cls)
    if not isinstance(kind, types.StructType):
        raise TypeError(f"{cls.__name__} is no struct")
    return kind


def _unwrap(kind: types.Type) -> tuple[types.Type, str]:
    """Give a type without its description, and that."""
    meaning = ""
    while isinstance(kind, types.Metadata):
        meaning = str((kind.extra_json_schema or {}).get("description", "")) or meaning
        kind = kind.type
    return kind, meaning.rstrip(".")


def _members(kind: types.Type) -> types.StructType | None:
    inner = kind.item_type if isinstance(kind, types.VarTupleType) else None
    inner = kind.value_type if isinstance(kind, types.DictType) else inner
    return inner if isinstance(inner, types.StructType) else None


def _default_of(field: types.Field) -> Any:
    if field.required:
        return None
    return field.default_factory() if field.default is msgspec.NODEFAULT else field.default


def _purpose(group: types.StructType) -> str:
    return " ".join((inspect.getdoc(group.cls) or "").split("\n\n")[0].split())


# The example ----------------------------------------------------------------------------------------------------------


def _example_lines(group: types.StructType, values: msgspec.Struct, indent: str) -> Iterator[str]:
    for setting in settings_of(group, values):
        if setting.group is not None:
            yield ""
            yield from _comment(_purpose(setting.group), indent)
            yield f"{indent}{setting.name}:"
            yield from _example_lines(setting.group, setting.default, indent + INDENT)
        else:
            yield from _comment(_explanation(setting), indent)
            yield f"{indent}{setting.name}: {_yaml(setting.default)}"


def _explanation(setting: Setting) -> str:
    text = "; ".join(part for part in (setting.meaning, setting.expected) if part)
    if setting.members is None:
        return text
    if setting.members.cls.__name__ == "ModelProfile":
        return f"{setting.meaning}; each has the fields of core.default"
    fields = "; ".join(f"{field.name} ({_field_words(field)})" for field in settings_of(setting.members, None))
    return f"{text}. {_purpose(setting.members)} Each has {fields}"


def _field_words(field: Setting) -> str:
    parts = (field.expected, field.meaning, "required" if field.required else f"default {_yaml(field.default)}")
    return ", ".join(part for part in parts if part)


def _comment(text: str, indent: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# ")


def _yaml(value: Any) -> str:
    dumped = yaml.safe_dump(msgspec.to_builtins(value), default_flow_style=True, width=float("inf"), sort_keys=False)
    return str(dumped).removesuffix("...\n").strip()


# The page -------------------------------------------------------------------------------------------------------------


def _sections(group: types.StructType, values: msgspec.Struct | None, path: str) -> Iterator[str]:
    settings = list(settings_of(group, values))
    leaves = [setting for setting in settings if setting.group is None]
    if path:
        yield f"\n## `{path}`\n\n{_purpose(group)}\n"
    if leaves:
        yield "\n| field | default | what it may be | what it means |\n| --- | --- | --- | --- |\n"
        for setting in leaves:
            default = "*required*" if setting.required else f"`{_cell(_yaml(setting.default))}`"
            yield f"| `{setting.name}` | {default} | {_cell(setting.expected)} | {_cell(setting.meaning)} |\n"
    for setting in settings:
        inner = f"{path}.{setting.name}".lstrip(".")
        if setting.group is not None:
            yield from _sections(setting.group, setting.default, inner)
        elif setting.members is not None and setting.members.cls.__name__ != "ModelProfile":
            yield from _sections(setting.members, None, f"{inner}[]")


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
