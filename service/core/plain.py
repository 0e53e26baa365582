"""Structs to plain versioned data and back: the snapshots of what is small and rarely changes."""

from typing import Any, TypeVar

import msgspec

from service.core.state import CorruptStateError, NewerStateError

Saved = TypeVar("Saved")


def to_plain(saved: msgspec.Struct) -> dict[str, Any]:
    """Give a struct as dicts, lists, strings, numbers, booleans and None, sharing nothing with it.

    Through MessagePack, so that the snapshot is what it will be when it is read back (lists, where tuples went in).
    """
    plain: dict[str, Any] = msgspec.msgpack.decode(msgspec.msgpack.encode(saved))
    return plain


def from_plain(state: dict[str, Any], layout: type[Saved], version: int, where: str) -> Saved:
    """Read a struct back; `version` is the newest that this program knows, `where` names the state in errors.

    Raises NewerStateError when a newer program wrote it, CorruptStateError when it has another layout.
    """
    written = state.get("version")
    if isinstance(written, int) and written > version:
        raise NewerStateError(f"{where}: version {written} was written by a newer program; this one knows {version}")
    try:
        return msgspec.convert(state, layout)
    except msgspec.ValidationError as error:
        raise CorruptStateError(f"{where}: {error}") from error
