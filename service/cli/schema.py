"""`tidegauge schema`: what is on the wire, and which detectors there are."""

from typing import Any

from detectors import registry
from schemas import asyncapi, jsonschema
from schemas.catalog import PAYLOADS
from service.cli.errors import UsageError

SPECIAL = ("asyncapi", "detectors")


def names() -> list[str]:
    """Give what can be asked for."""
    return [*PAYLOADS, *SPECIAL]


def document(name: str) -> Any:
    """Give a schema, the AsyncAPI document, or the detectors with their parameters. Raises UsageError."""
    if name == "asyncapi":
        return asyncapi.document()
    if name == "detectors":
        return {detector: _parameters(detector) for detector in registry.names()}
    if name not in PAYLOADS:
        raise UsageError(f"no schema {name!r}; there are {', '.join(names())}")
    return jsonschema.schema(name)


def _parameters(detector: str) -> dict[str, dict[str, Any]]:
    return {
        name: {"expected": parameter.expected, "default": parameter.default}
        for name, parameter in registry.parameters(detector).items()
    }
