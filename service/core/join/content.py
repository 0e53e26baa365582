"""A block of the join as plain data for people: what a program that inspects the state shows."""

from typing import Any

import msgspec
import numpy as np

from service.core.columns import LABEL_ROW, PREDICTION_ROW
from service.core.join.blocks import open_block
from service.core.join.departed import DEPARTED_ROW
from service.core.join.rows import KIND_NAMES, LABEL_BYTES, PREDICTION_BYTES, ROW_TYPES

_NESTED = {PREDICTION_BYTES: PREDICTION_ROW, LABEL_BYTES: LABEL_ROW}
_ROWS = {KIND_NAMES[kind]: row for kind, row in ROW_TYPES.items()}


def block_content(key: str, block: bytes) -> Any:
    """Give a block's content as dicts, lists, numbers and bytes: rows as columns, flags as one 0 or 1 a row.

    Raises JoinStateError that names the key.
    """
    payload = open_block({key: block}, key)
    owner, _, rest = key.partition("/")
    part = rest.rpartition("/")[2]
    if key == "meta":
        return msgspec.msgpack.decode(payload)
    if owner in _ROWS and part == "rows":
        return _columns(np.frombuffer(payload, _ROWS[owner]))
    if owner in _ROWS and part == "flags":
        return np.unpackbits(np.frombuffer(payload, np.uint8)).tolist()
    if owner == "departed" and "/" not in rest:
        return _columns(np.frombuffer(payload, DEPARTED_ROW))
    # Parts of expired rows and of extras may end within one; they are shown as they are.
    return bytes(payload)


def _columns(rows: np.ndarray[Any, np.dtype[np.void]]) -> dict[str, Any]:
    columns: dict[str, Any] = {}
    for name in rows.dtype.names or ():
        column = np.ascontiguousarray(rows[name])
        nested = _NESTED.get(column.dtype)
        columns[name] = column.tolist() if nested is None else _columns(column.view(nested))
    return columns
