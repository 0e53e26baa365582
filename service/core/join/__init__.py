"""The join of predictions with their labels: the buffer of both, and the keys that tell which belong together."""

from service.core.join.blocks import BlockChanges, JoinStateError
from service.core.join.buffer import JoinBuffer
from service.core.join.content import block_content
from service.core.join.keys import hash_keys
from service.core.join.memory import Spill
from service.core.join.operations import (
    Gone,
    JoinedCorrections,
    JoinedOutcomes,
    JoinOps,
    JoinResult,
    JoinSizes,
    LabelFate,
    LateLabels,
)

__all__ = [
    "BlockChanges",
    "Gone",
    "JoinBuffer",
    "JoinOps",
    "JoinResult",
    "JoinSizes",
    "JoinStateError",
    "JoinedCorrections",
    "JoinedOutcomes",
    "LabelFate",
    "LateLabels",
    "Spill",
    "block_content",
    "hash_keys",
]
