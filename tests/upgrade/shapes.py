"""What each kind of entry holds, in words that can be compared: keys and types, down to the last.

Layouts are described beside the code that writes them (TypedDicts and msgspec structs, numpy's row types); their
schema is the shape. That of each published version is kept beside its state (states/version-N.json).
"""

import json
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from detectors import registry
from detectors.mmd import EmbeddingDrift
from schemas.outputs import Evidence
from service.core.alerting import policy as alerting
from service.core.columns import LABEL_ROW, PREDICTION_ROW
from service.core.finetuning import policy as finetuning
from service.core.join import blocks as join
from service.core.join.rows import JOINED_ROW, ORPHAN_ROW, WAITING_ROW
from service.core.metrics import blocks, recent
from service.core.task_state import LAYOUTS, VERSIONS
from service.runtime.changelog import CUT_VERSION, HEAD_VERSION, Cut, Head

STATES = Path(__file__).parent / "states"


def shapes() -> dict[str, dict[str, Any]]:
    """Give for each kind its version and its shape."""
    described: dict[str, tuple[int, list[Any]]] = {
        "task": (VERSIONS["task"], [LAYOUTS["task"], alerting._Saved]),
        "model": (VERSIONS["model"], [LAYOUTS["model"], alerting._Saved, finetuning._Saved]),
        "version": (VERSIONS["version"], [LAYOUTS["version"], Evidence, *_bodies()]),
        "outcomes": (
            VERSIONS["outcomes"],
            [blocks._PackedBlock, recent._PackedBlock, blocks.OUTCOME_ROW, *map(np.dtype, recent._TYPES)],
        ),
        "join": (join.VERSION, [WAITING_ROW, ORPHAN_ROW, JOINED_ROW, PREDICTION_ROW, LABEL_ROW]),
        "head": (HEAD_VERSION, [Head]),
        "cut": (CUT_VERSION, [Cut]),
    }
    return {kind: {"version": version, "shape": _shape(types)} for kind, (version, types) in described.items()}


def _bodies() -> list[Any]:
    """Give the types of the detectors' own states."""
    found = []
    for detector in [*registry.DETECTORS.values(), EmbeddingDrift]:
        made: Any = EmbeddingDrift(dimension=2) if detector is EmbeddingDrift else detector()
        rule = getattr(made, "_rule", None)
        body = type(rule.body) if hasattr(rule, "body") else sys.modules[_owner(detector)]._Body
        found.append((made.name, body))
    return found


def _owner(detector: type) -> str:
    """Name the module that holds the detector's body: its own, or that of the class it is made of."""
    return next(owner.__module__ for owner in detector.__mro__ if hasattr(sys.modules[owner.__module__], "_Body"))


def _shape(types: list[Any]) -> dict[str, Any]:
    shape: dict[str, Any] = {}
    for item in types:
        if isinstance(item, np.dtype):
            shape[f"row {len(shape)}"] = str(item)
            continue
        name, layout = item if isinstance(item, tuple) else (f"{item.__module__}.{item.__name__}", item)
        _, parts = msgspec.json.schema_components([layout], ref_template="#/{name}")
        shape[name] = {key: _fields(part) for key, part in parts.items()}
    return shape


def _fields(schema: Any) -> Any:
    """Say a schema in few words: `a | b` are alternatives, `key?` may be missing, `*` is any key."""
    if "anyOf" in schema:
        return " | ".join(sorted(_text(part) for part in schema["anyOf"]))
    if "properties" in schema:
        required = set(schema.get("required", ()))
        return {
            key if key in required else f"{key}?": _fields(part) for key, part in sorted(schema["properties"].items())
        }
    if "prefixItems" in schema:
        return [_fields(part) for part in schema["prefixItems"]]
    if schema.get("items"):
        return {"each": _fields(schema["items"])}
    if "additionalProperties" in schema:
        return {"*": _fields(schema["additionalProperties"])}
    return _kind(schema)


def _kind(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    return "bytes" if schema.get("contentEncoding") else str(schema.get("$ref", schema.get("type", "any")))


def _text(schema: Any) -> str:
    said = _fields(schema)
    return said if isinstance(said, str) else json.dumps(said)


def kept(name: str) -> dict[str, dict[str, Any]]:
    """Give the shapes of a published version."""
    shape: dict[str, dict[str, Any]] = json.loads((STATES / f"{name}.json").read_text())
    return shape


def keep(name: str) -> None:
    """Take down the present shapes as those of a version that is published now."""
    (STATES / f"{name}.json").write_text(json.dumps(shapes(), indent=1, sort_keys=True) + "\n")
