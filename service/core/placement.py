"""Records that lie where their model's others do not: under another key, or in a partition that is not their key's.

A task sees one partition. Where predictions and labels of a model are keyed or partitioned by different rules they
never meet, and nobody would know before the labels' horizon. So each record's key is compared with its model, and
the model's partition with the task's: once for each pair of key and model, in one set for a whole block of records.
"""

from collections.abc import Sequence
from typing import Any, Final, Literal, NamedTuple

from service.core.partitioning import RULES, Partitioner, likely_partitioner

Fault = Literal["no_key", "other_key", "other_partition"]

_MAX_KNOWN: Final = 65_536
"""Pairs of key and model that are known to be in their place. Beyond it they are judged anew."""
_KEY_CHARS: Final = 60


class Stray(NamedTuple):
    """What is wrong with where one record lies. Depends on the record alone."""

    model_id: str
    fault: Fault
    words: str
    """How it is keyed and where it lies, for a person; continues "its labels ..."."""


class Placement:
    """Judges the keys of one partition's records. With one partition everything is in its place.

    `rule`: by which producers are to choose partitions; None: by their own, and only keys are judged.
    """

    def __init__(self, partition: int, partitions: int, rule: Partitioner | None = "murmur2") -> None:
        self.partition = partition
        self._partitions = partitions
        self._rule: Partitioner | None = rule
        self._known: set[tuple[bytes | None, str]] = set()

    def strays(self, keys: Sequence[bytes | None], events: Sequence[Any]) -> list[Stray | None]:
        """Judge records; empty where all are in place. What was not decoded has no model and is not judged."""
        if self._partitions < 2:
            return []
        models = [getattr(event, "model_id", None) for event in events]
        pairs = set(zip(keys, models, strict=True))
        if pairs <= self._known:
            return []
        found = {pair: self._judge(*pair) for pair in pairs if pair[1] is not None}
        if len(self._known) + len(found) > _MAX_KNOWN:
            self._known.clear()
        self._known.update((key, model) for (key, model), stray in found.items() if stray is None and model is not None)
        if not any(found.values()):
            return []
        return [found.get(pair) for pair in zip(keys, models, strict=True)]

    def _judge(self, key: bytes | None, model_id: str | None) -> Stray | None:
        if model_id is None:
            return None
        if key is None:
            return Stray(model_id, "no_key", "have no key, and lie in whatever partition the producer took")
        if key != model_id.encode():
            shown = key.decode("utf-8", "replace")
            shown = shown if len(shown) <= _KEY_CHARS else f"{shown[:_KEY_CHARS]}…"
            return Stray(model_id, "other_key", f"are keyed by {shown!r} instead of the model_id")
        right = self.partition if self._rule is None else RULES[self._rule](key, self._partitions)
        if right == self.partition:
            return None
        found = likely_partitioner(key, self.partition, self._partitions)
        where = (
            f"lie in partition {self.partition} of {self._partitions}, {found}; {self._rule} of the key says {right}"
        )
        return Stray(model_id, "other_partition", where)
