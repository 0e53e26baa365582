"""The NaN and Infinity that Python writes into its JSON, and how deep a record may nest.

RFC 8259 knows no NaN, but `json.dumps` writes it wherever a feature is missing, so that a strict decoder would
refuse much of what real Python producers send. Among features and in vectors it becomes null; elsewhere (a
score, a latency) nobody can say what it means, and the record is refused with the path. A number that no 64-bit
float holds, as 1e400, is Infinity written otherwise and is treated alike.
"""

import json
import math
from collections.abc import Iterable
from itertools import accumulate
from typing import Any, NamedTuple

MAX_NESTING = 512
"""Deepest nesting of arrays and objects in a record. What is deeper is a dead letter.

A limit of our own, far below the interpreter's recursion limit (1,000): that one depends on how deep the caller's
stack is, and a record must not be good in a live run and bad in its replay.
"""

HARMLESS_BYTES = 2 * MAX_NESTING
"""A record of no more bytes cannot nest deeper than MAX_NESTING, for every bracket must be closed too."""

# The largest float is 1.8e308, so every integer of 308 digits is below it; longer ones are judged as floats. This also
# keeps clear of the 4,300 digits above which `int` refuses, and of its quadratic time.
_MAX_INTEGER_DIGITS = 308
# Our own types are three mappings deep; a path into something foreign is cut there.
_MAX_PATH_STEPS = 8
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


class Repaired(NamedTuple):
    """Strict JSON, and how many values in it were made null."""

    value: bytes
    replaced: int


class NotFinite(NamedTuple):
    """A number that is not finite where that cannot be repaired."""

    path: str
    number: float


def repair(value: bytes, missing_allowed: Iterable[str]) -> Repaired | NotFinite | None:
    """Turn what is not finite under the top-level keys `missing_allowed` into null.

    None where the record is not JSON for another reason as well. The caller has made sure of MAX_NESTING.
    """
    try:
        # json.loads would guess UTF-16 and UTF-32 from bytes; a record is UTF-8.
        data = json.loads(value.decode(), parse_int=_integer)
        replaced = sum(_blank_not_finite(data.get(key)) for key in missing_allowed) if isinstance(data, dict) else 0
        # Escapes all but ASCII: a lone surrogate, which Python lets pass, comes to the strict decoder as it was.
        return find_not_finite(data) or Repaired(json.dumps(data).encode(), replaced)
    except (ValueError, RecursionError):
        return None


def find_not_finite(data: Any) -> NotFinite | None:
    """Find a number in plain data that is not finite. Iterative, so that depth does not matter."""
    pending: list[tuple[_Steps, Any]] = [(None, [data])]
    while pending:
        steps, node = pending.pop()
        for step, item in node.items() if isinstance(node, dict) else enumerate(node):
            if isinstance(item, float):
                if not math.isfinite(item):
                    return NotFinite(_path((steps, step)), item)
            elif isinstance(item, (dict, list, tuple)):
                pending.append(((steps, step), item))
    return None


def join(path: str, key: str) -> str:
    """Write one more step of a path: `$.features.age`, or `$.features["first name"]` where a dot would mislead."""
    shown = key if len(key) <= 80 else key[:80] + "…"
    return f"{path}.{shown}" if shown.isidentifier() else f"{path}[{json.dumps(shown)}]"


def literal(number: float) -> str:
    """Write a number that is not finite as Python's JSON does: NaN, Infinity, -Infinity."""
    return json.dumps(number)


def may_nest_deeply(value: bytes) -> bool:
    """Say quickly whether a record could nest deeper than MAX_NESTING: it has many opening brackets of one kind."""
    if len(value) <= HARMLESS_BYTES:
        return False
    half = MAX_NESTING // 2
    # Twice as fast as `count`, which looks at every byte: replacing looks for the next bracket with memchr.
    if len(value) - len(value.replace(b"{", b"")) > half:
        return True
    return b"[" in value and value.count(b"[") > half


def nesting(value: bytes) -> int:
    """Count the deepest nesting of arrays and objects outside of strings. Linear in time, iterative."""
    outside = value.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')[::2]
    brackets = b"".join(outside).translate(None, _NOT_BRACKETS)
    return max(accumulate((1 if bracket in b"[{" else -1 for bracket in brackets), initial=0))


_Steps = tuple[Any, str | int] | None


def _path(steps: _Steps) -> str:
    taken: list[str | int] = []
    while steps is not None:
        steps, step = steps
        taken.append(step)
    path = "$"
    # The first step leads from the list that `find_not_finite` wraps around the data.
    for step in taken[-2 : -2 - _MAX_PATH_STEPS : -1]:
        path = join(path, step) if isinstance(step, str) else f"{path}[{step}]"
    return path


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= _MAX_INTEGER_DIGITS else float(digits)


def _blank_not_finite(values: Any) -> int:
    """Make null what is not finite among the values of an object and in the arrays that are values of it."""
    if not isinstance(values, dict):
        return 0
    blank = [name for name, value in values.items() if isinstance(value, float) and not math.isfinite(value)]
    values.update(dict.fromkeys(blank))
    return len(blank) + sum(_blank_numbers(value) for value in values.values() if isinstance(value, list))


def _blank_numbers(vector: list[Any]) -> int:
    blank = [place for place, value in enumerate(vector) if isinstance(value, float) and not math.isfinite(value)]
    for place in blank:
        vector[place] = None
    return len(blank)
