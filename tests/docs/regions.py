"""Parts of pages that are made from the code: `python -m tests.docs` writes them, a test fails when they are stale.

A region stands between `<!-- made: NAME -->` and `<!-- end -->`.
"""

import re
import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import msgspec
import orjson
from msgspec import inspect as types

from schemas import events, outputs, relaxed
from schemas.rejection import Reason
from service.cli.config_docs import reference
from service.http.metrics import registry_of
from tests.docs import access, scenario
from tests.docs.pages import PAGES, ROOT

GOLDEN = Path(__file__).parent / "golden" / "examples.json"
CONFIGURATION = ROOT / "docs" / "configuration.md"
WIDTH = 110

_REGION = re.compile(r"(<!-- made: ([\w ]+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
_INPUTS = {struct.__name__: struct for struct in (events.Prediction, events.Label, *get_args(events.Control))}
_OUTPUTS = {
    struct.__name__: struct
    for struct in (
        *get_args(outputs.Output),
        outputs.Evidence,
        outputs.ChangePoint,
        outputs.FeatureContribution,
        outputs.OffsetRange,
        outputs.LabelCoverage,
        outputs.WindowMetrics,
    )
}


def stale_pages() -> dict[Path, str]:
    """Give the pages whose regions are not what the code says, with the text that they should have."""
    wanted = {page: renewed(page.read_text()) for page in PAGES if page != CONFIGURATION}
    wanted[CONFIGURATION] = reference()
    return {page: text for page, text in wanted.items() if not page.exists() or page.read_text() != text}


def renewed(text: str) -> str:
    """Fill in all regions of a page."""
    return _REGION.sub(lambda match: f"{match[1]}\n{render(match[2])}\n{match[4]}", text)


def render(name: str) -> str:
    """Write one region."""
    kind, _, rest = name.partition(" ")
    if kind == "fields":
        return fields(_INPUTS.get(rest) or _OUTPUTS[rest])
    if kind == "example":
        return example(rest)
    return {"metrics": metrics, "access": access.table, "reasons": reasons, "scenario": _scenario}[name]()


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [tuple(head)]
    lines += [tuple("---" for _ in lines[0]), *map(tuple, rows)]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines) + "\n"


# Fields ---------------------------------------------------------------------------------------------------------------


def fields(struct: type[msgspec.Struct]) -> str:
    """Write a struct's fields as a table."""
    return _table(("field", "type", "meaning"), _field_rows(struct))


def _field_rows(struct: type[msgspec.Struct]) -> Iterator[tuple[str, str, str]]:
    info = types.type_info(struct)
    assert isinstance(info, types.StructType)
    if info.tag is not None:
        yield f"**`{info.tag_field}`**", f"`{info.tag}`", "says which of the control events this is"
    for field in info.fields:
        kind, meaning = field.type, ""
        while isinstance(kind, types.Metadata):
            meaning = meaning or str((kind.extra_json_schema or {}).get("description", ""))
            kind = kind.type
        name = f"**`{field.encode_name}`**" if field.required else f"`{field.encode_name}`"
        yield name, _forms(field.encode_name, words(kind)) if struct in _INPUTS.values() else words(kind), meaning


def _forms(name: str, text: str) -> str:
    """Add the other forms in which an event's field may be written."""
    if name == relaxed.TIME:
        return f"{text}, or text of ISO 8601 with its zone"
    return text.replace("string", "string or integer") if name in relaxed.IDENTIFIERS else text


def words(kind: types.Type) -> str:
    """Say in JSON's words what a type is."""
    match kind:
        case types.Metadata():
            text = words(kind.type)
        case types.UnionType():
            options = list(dict.fromkeys(words(option) for option in kind.types))
            # JSON knows no whole numbers apart.
            text = " or ".join(name for name in options if name != "integer" or "number" not in options)
        case types.LiteralType():
            text = ", ".join(f"`{value}`" for value in kind.values)
        case types.DictType():
            values = words(kind.value_type)
            text = f"object of ({values})" if " or " in values else f"object of {values}"
        case types.VarTupleType() | types.ListType():
            items = words(kind.item_type)
            text = f"array of ({items})" if " or " in items else f"array of {items}"
        case types.StructType():
            text = kind.cls.__name__
        case types.FloatType() if kind.le == 1.0:
            text = "number from 0 to 1"
        case _:
            text = _PLAIN[type(kind)]
    return text


_PLAIN: dict[type[types.Type], str] = {
    types.IntType: "integer",
    types.FloatType: "number",
    types.StrType: "string",
    types.BoolType: "boolean",
    types.NoneType: "null",
}


def reasons() -> str:
    """List the reasons that decoding gives."""
    text = ", ".join(f"`{reason}`" for reason in get_args(Reason))
    return textwrap.fill(f"{text}.", WIDTH) + "\n"


# Examples -------------------------------------------------------------------------------------------------------------


def as_golden(published: list[scenario.Published]) -> dict[str, Any]:
    """Turn the records of the run into what is kept."""
    return {
        name: {
            "topic": record.topic,
            "key": record.key,
            "headers": record.headers,
            "value": orjson.loads(record.value),
        }
        for name, record in scenario.examples(published).items()
    }


def golden() -> dict[str, Any]:
    """Read what is kept."""
    kept: dict[str, Any] = orjson.loads(GOLDEN.read_bytes())
    return kept


def example(name: str) -> str:
    """Write a record: key and headers, then its value."""
    record = golden()[name]
    head = "".join(f"{header}: {text}\n" for header, text in {"key": record["key"], **record["headers"]}.items())
    return f"```text\n{head}```\n\n```json\n{readable(record['value'])}\n```\n"


def readable(value: Any, indent: int = 0, room: int = WIDTH) -> str:
    """Write JSON so that what fits on a line stands on one."""
    flat = orjson.dumps(value).decode().replace('":', '": ').replace(',"', ', "')
    if len(flat) + indent <= room or not isinstance(value, dict | list) or not value:
        return _spaced(value)
    pad = " " * (indent + 2)
    if isinstance(value, dict):
        parts = [f"{pad}{orjson.dumps(key).decode()}: {readable(item, indent + 2)}" for key, item in value.items()]
        return "{\n" + ",\n".join(parts) + "\n" + " " * indent + "}"
    parts = [pad + readable(item, indent + 2) for item in value]
    return "[\n" + ",\n".join(parts) + "\n" + " " * indent + "]"


def _spaced(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{orjson.dumps(key).decode()}: {_spaced(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_spaced, value)) + "]"
    return orjson.dumps(value).decode()


def _scenario() -> str:
    return f"```yaml\n{scenario.CONFIG}```\n"


# Metrics --------------------------------------------------------------------------------------------------------------


def metric_families() -> dict[str, tuple[str, tuple[str, ...], str]]:
    """Collect what Prometheus would see: name to (type, labels, help)."""
    found: dict[str, tuple[str, tuple[str, ...], str]] = {}
    for family in registry_of(SimpleNamespace(stats={}), 1).collect():
        if family.name.startswith("process_"):  # the client library's own: which there are is the system's affair
            continue
        name = f"{family.name}_total" if family.type == "counter" else family.name
        # Without a task there are no samples to tell the labels; the family keeps them here.
        found[name] = (family.type, tuple(vars(family)["_labelnames"]), family.documentation)
    return found


def metrics() -> str:
    """Write the table of metrics."""
    rows = [
        (f"`{name}`", kind, ", ".join(f"`{label}`" for label in labels), text)
        for name, (kind, labels, text) in metric_families().items()
    ]
    return _table(("metric", "type", "labels", "meaning"), rows)
