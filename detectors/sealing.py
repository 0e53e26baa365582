"""Snapshots of detectors: a typed body inside a plain envelope that names the detector, its version and parameters."""

from typing import Any, TypeVar

import msgspec

from detectors.parameters import checked
from detectors.protocol import State, StateError

VERSION = 1
"""The newest layout of a snapshot. Raise it, and migrate in `opened_body`, when a body changes its meaning."""

Body = TypeVar("Body", bound=msgspec.Struct)


def sealed(name: str, parameters: dict[str, Any], body: msgspec.Struct) -> State:
    """Give the snapshot: `version`, `detector`, `parameters`, and the body's fields as `body`."""
    plain = msgspec.to_builtins(body, builtin_types=(bytes,))
    return {"version": VERSION, "detector": name, "parameters": dict(parameters), "body": plain}


def opened_parameters(state: State, detector: type, name: str) -> dict[str, Any]:
    """Give the parameters in a snapshot. Raises StateError when it is another detector's, a newer one, or damaged."""
    require_envelope(state, name)
    try:
        return checked(detector, dict(state["parameters"]))
    except (KeyError, TypeError, ValueError) as error:
        raise StateError(f"the snapshot of {name} is damaged: {error}") from error


def opened_body(state: State, name: str, body: type[Body]) -> Body:
    """Give the body in a snapshot, every field checked against its type. Raises StateError when it is damaged."""
    try:
        return msgspec.convert(state["body"], body, builtin_types=(bytes,))
    except (KeyError, msgspec.ValidationError) as error:
        raise StateError(f"the snapshot of {name} is damaged: {error}") from error


def require_envelope(state: State, name: str) -> None:
    """Refuse a snapshot of another detector or of a newer version."""
    if state.get("detector") != name:
        raise StateError(f"$.detector: expected {name!r}, got {state.get('detector')!r}")
    version = state.get("version")
    if type(version) is not int or version < 1:
        raise StateError(f"$.version: expected an integer of at least 1, got {version!r}")
    if version > VERSION:
        raise StateError(
            f"$.version: this release reads snapshots up to {VERSION}, got {version}: a newer one wrote it"
        )
