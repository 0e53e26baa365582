"""JSON Schema (2020-12) of every payload, from the types.

The types say most; what relates two fields (a prediction is absent exactly where the call failed) is added here in
the same words as the codec checks it, and a test holds the two together.
"""

from collections.abc import Iterable
from typing import Any, Final, get_args

import msgspec

from schemas.catalog import EVENTS, PAYLOADS, schema_id
from schemas.instants import EXAMPLE, INSTANT_PATTERN
from schemas.relaxed import IDENTIFIERS, TIME, TIME_AS_TEXT

Schema = dict[str, Any]

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"

UNITS: Final = {"_ms": "ms", "_bytes": "By", "_ratio": "1", "_rate": "1", "_per_second": "1/s", "_total": "1"}
"""Last part of a field's name to its unit (UCUM, as OpenTelemetry writes them); names put the unit last."""

_PRESENT: Final[Schema] = {"not": {"type": "null"}}
_RULES: Final[dict[str, list[Schema]]] = {
    "Prediction": [
        {
            "if": {"properties": {"error": {"const": True}}, "required": ["error"]},
            "then": {"properties": {"prediction": {"type": "null"}}},
            "else": {"properties": {"prediction": _PRESENT}, "required": ["prediction"]},
        }
    ],
    "FineTuneStatus": [
        {
            "if": {"properties": {"status": {"const": "completed"}}, "required": ["status"]},
            "then": {"properties": {"model_version": _PRESENT}, "required": ["model_version"]},
        },
        {
            "if": {"properties": {"status": {"const": "failed"}}, "required": ["status"]},
            "then": {
                "properties": {"reason": {"type": "string", "minLength": 1}},
                "required": ["reason"],
            },
        },
    ],
}

_INSTANT: Final[Schema] = {"type": "string", "format": "date-time", "pattern": INSTANT_PATTERN, "examples": [EXAMPLE]}
_INTEGER_NAME: Final[Schema] = {"type": "integer"}
"""The bound, 128 bits, is beyond the integers that most readers of a schema hold."""
_SOME_TIME: Final[Schema] = {
    "anyOf": [{"required": [TIME]}, {"properties": {TIME_AS_TEXT: _INSTANT}, "required": [TIME_AS_TEXT]}]
}
_EVENT_NAMES: Final = frozenset(struct.__name__ for event in EVENTS.values() for struct in get_args(event) or (event,))


def schema(name: str) -> Schema:
    """Give the JSON Schema of one payload of the catalog, complete in itself. Raises KeyError on other names."""
    payload = PAYLOADS[name]
    (root,), components = msgspec.json.schema_components([payload], ref_template="#/$defs/{name}")
    definitions = {key: _enrich(key, part) for key, part in components.items()}
    head: Schema = {"$schema": DIALECT, "$id": schema_id(name)}
    if "$ref" in root:
        body = definitions.pop(payload.__name__)
    else:
        # OpenAPI's `discriminator` says nothing in JSON Schema: each type's own `type` field decides.
        body = {
            "title": name.capitalize(),
            "description": "One of these, told apart by `type`.",
            "anyOf": root["anyOf"],
        }
    return head | body | ({"$defs": definitions} if definitions else {})


def component_schemas(payloads: Iterable[Any], ref_template: str) -> dict[str, Schema]:
    """Give the schemas of structs and all that they hold, by type name, for a document that refers to them."""
    _, components = msgspec.json.schema_components(payloads, ref_template=ref_template)
    return {key: _enrich(key, part) for key, part in sorted(components.items())}


def _enrich(name: str, part: Schema) -> Schema:
    """Add units to the fields, the rules between them, and the other forms in which events may be written."""
    properties = {field: _with_unit(field, rule) for field, rule in part.get("properties", {}).items()}
    rules = _RULES.get(name, [])
    if name in _EVENT_NAMES:
        properties = {field: _loosened(field, rule) for field, rule in properties.items()}
        properties[TIME_AS_TEXT] = {"description": f"the event time as a text; read where {TIME} is absent"}
        part = part | {"required": [field for field in part["required"] if field != TIME]}
        rules = [*rules, _SOME_TIME]
    return part | {"properties": properties} | ({"allOf": rules} if rules else {})


def _loosened(field: str, rule: Schema) -> Schema:
    if field != TIME and field not in IDENTIFIERS:
        return rule
    other = _INSTANT if field == TIME else _INTEGER_NAME
    about = {key: rule[key] for key in ("description", "default", "x-unit") if key in rule}
    forms = rule.get("anyOf") or [{key: part for key, part in rule.items() if key not in about}]
    return about | {"anyOf": [*forms, other]}


def _with_unit(field: str, rule: Schema) -> Schema:
    unit = next((unit for suffix, unit in UNITS.items() if field.endswith(suffix)), None)
    return rule | {"x-unit": unit} if unit else rule
