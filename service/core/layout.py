"""Snapshots against their described layouts: what does not fit is refused with its path, before anything reads it.

Each monitor describes its snapshot as a TypedDict beside `snapshot` and `restore`; a monitor that holds others names
their layouts in its own. So a kind of entry has one layout, which is checked as a whole (service/core/task_state.py).
What a type cannot say, as that bytes fit a shape, the parts check themselves, `inside` their names.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, TypeVar

import msgspec

from detectors.protocol import StateError
from service.core.state import MISFITS, NewerStateError, told

Natural = Annotated[int, msgspec.Meta(ge=0)]
"""A whole number that is not negative."""

Layout = TypeVar("Layout")


def checked(payload: Any, layout: type[Layout]) -> Layout:
    """Give plain data as its layout has it. Raises StateError that begins with the path of what does not fit."""
    try:
        return msgspec.convert(payload, layout)
    except msgspec.ValidationError as error:
        what, _, path = str(error).partition(" - at `")
        raise StateError(f"{path.removesuffix('`') or '$'}: {what[:1].lower()}{what[1:]}") from error


@contextmanager
def inside(part: str) -> Iterator[None]:
    """Let what goes wrong in a part of a snapshot say which: StateError with a path from here on."""
    try:
        yield
    except NewerStateError:
        raise
    except MISFITS as error:
        text = told(error)
        raise StateError(f"$.{part}{text[1:] if text.startswith('$') else f': {text}'}") from error
