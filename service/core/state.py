"""State at rest: plain, versioned, checked data. One entry is one record of the changelog.

Layout of an entry: 4 bytes CRC-32 of the rest, big-endian; then MessagePack of [format, kind, version, payload].
"""

import zlib
from typing import Any

import msgspec

from detectors.protocol import StateError
from service.core.migrations import MIGRATIONS, Migrations

FORMAT = 1
"""Layout of the envelope itself. It rises only if the bytes above change."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[int, str, int, Any]).decode


MISFITS = (AttributeError, LookupError, OverflowError, TypeError, ValueError)
"""What code raises where it meets plain data of another shape than it was written for."""


class CorruptStateError(ValueError):
    """An entry's bytes are damaged, or what they say is nothing that this program can have written."""

    entry: str | None = None
    """Name of the entry, where one is to blame."""


class NewerStateError(ValueError):
    """An entry was written by a newer version of the program."""

    entry: str | None = None
    """Name of the entry."""


def encode_entry(kind: str, version: int, payload: Any) -> bytes:
    """Seal a payload of plain data."""
    body = _encode((FORMAT, kind, version, payload))
    return zlib.crc32(body).to_bytes(4, "big") + body


def decode_entry(
    data: bytes, kind: str, version: int, where: str, migrations: Migrations = MIGRATIONS
) -> tuple[int, Any]:
    """Open a sealed payload: (the version that wrote it, the payload as `version` has it).

    `where` names the entry in errors. Raises CorruptStateError when the checksum or the layout is wrong or when no
    migration leads from an older version to this one, and NewerStateError when it was written by a version that this
    program does not know.
    """
    layout, found, written, payload = _open(data, where)
    if found != kind:
        raise CorruptStateError(f"{where}: expected an entry of kind {kind}, got {found}")
    if layout > FORMAT or written > version:
        raise NewerStateError(
            f"{where}: {kind} version {written} (format {layout}) was written by a newer program; "
            f"this one knows {version} (format {FORMAT}). Run the newer program, or rebuild the state from the inputs"
        )
    return written, _migrate(kind, written, version, payload, where, migrations)


def open_entry(data: bytes, where: str) -> tuple[str, int, Any]:
    """Open a sealed payload of whatever kind and version, to show it: (kind, version, payload as it was written).

    Raises CorruptStateError when the checksum or the layout is wrong.
    """
    return _open(data, where)[1:]


def _open(data: bytes, where: str) -> tuple[int, str, int, Any]:
    body = data[4:]
    if len(data) < 5 or zlib.crc32(body).to_bytes(4, "big") != data[:4]:
        raise CorruptStateError(f"{where}: checksum does not fit the {len(data)} bytes")
    try:
        return _decode(body)
    except msgspec.MsgspecError as error:
        raise CorruptStateError(f"{where}: {error}") from error


def _migrate(kind: str, written: int, version: int, payload: Any, where: str, migrations: Migrations) -> Any:
    for step in range(written, version):
        upgrade = migrations.get((kind, step))
        if upgrade is None:
            raise CorruptStateError(f"{where}: {kind} version {written} is too old: nothing leads on from {step}")
        try:
            payload = upgrade(payload)
        except MISFITS as error:
            raise CorruptStateError(f"{where}: version {step} of {kind} cannot be brought on: {told(error)}") from error
    return payload


def told(error: Exception) -> str:
    """Say in words what went wrong; of errors that have no sentence of their own, their kind too."""
    if isinstance(error, StateError | CorruptStateError | msgspec.ValidationError):
        return str(error)
    if isinstance(error, KeyError):
        return f"required field {error} is missing"
    return f"{type(error).__name__}: {error}"


def kind_of(data: bytes) -> str | None:
    """Read the kind of an entry; None where it cannot be read."""
    try:
        return str(_decode(data[4:])[1])
    except msgspec.MsgspecError:
        return None
