"""What all settings share: the struct that they are, and the types of their fields."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Count = Annotated[int, Meta(ge=1)]
Millis = Annotated[int, Meta(ge=0)]
MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS

Problem = Literal["auto", "binary", "multiclass", "regression"]


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A group of settings. Unknown names are errors, so that a typing mistake cannot be silent."""
