"""The version check that all snapshots of input monitors share."""

from collections.abc import Mapping

from detectors.protocol import StateError


def require_version(state: Mapping[str, object], version: int, what: str) -> None:
    """Refuse a snapshot that newer code has written."""
    found = state.get("version")
    if not isinstance(found, int) or not 1 <= found <= version:
        raise StateError(f"$.version: expected a {what} of version 1 to {version}, got {found!r}")
