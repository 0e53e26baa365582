"""Ways in which plain data can be other than a program wrote it: one leaf at a time."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from service.core.state import decode_entry, encode_entry
from service.core.task_state import VERSIONS

Path = tuple[str | int, ...]


class Damage(NamedTuple):
    """What is done to a leaf: its replacement, or its removal."""

    name: str
    value: Any = None


GONE = Damage("removed")


def leaves(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Give every value that holds no other, with its path; an empty list or dict is one."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    empty = True
    for key, part in inner:
        empty = False
        yield from leaves(part, (*path, key))
    if empty:
        yield path, value


def damages(leaf: Any) -> list[Damage]:
    """Say what may become of a leaf: it goes, or is of another type, or bytes are too few.

    A value of the right type that is another is what the checksum of the entry is for.
    """
    made = [GONE, Damage("text", "oops"), Damage("list", [1, "a"]), Damage("object", {"x": 1}), Damage("null", None)]
    if isinstance(leaf, bytes) and leaf:
        made.append(Damage("shorter", leaf[:-1]))
    if isinstance(leaf, str):
        made.append(Damage("number", 7))
    if isinstance(leaf, int) and not isinstance(leaf, bool):
        made.append(Damage("fraction", leaf + 0.5))
    return [damage for damage in made if damage.name == "shorter" or type(damage.value) is not type(leaf)]


def damaged(entry: bytes, kind: str, path: Path, damage: Damage) -> bytes:
    """Seal an entry anew with one leaf that is other."""
    payload = msgspec.msgpack.decode(msgspec.msgpack.encode(decode_entry(entry, kind, VERSIONS[kind], "here")[1]))
    holder = payload
    for step in path[:-1]:
        holder = holder[step]
    if damage is GONE:
        del holder[path[-1]]
    else:
        holder[path[-1]] = damage.value
    return encode_entry(kind, VERSIONS[kind], payload)


def told_as(path: Path) -> str:
    """Write a path as errors do, without places in lists."""
    return "$" + "".join(f".{step}" for step in path if isinstance(step, str))
