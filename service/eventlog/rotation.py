"""Whose turn it is: a reader that stops at `max_records` must not begin with the same partition each time."""

from collections.abc import Iterable, Sequence

from service.eventlog.protocol import TopicPartition


class Rotation:
    """The partitions of a reader, in an order that moves on by one each time."""

    def __init__(self, partitions: Sequence[TopicPartition]) -> None:
        self._partitions = list(partitions)
        self._known = frozenset(partitions)
        self._turns = 0

    def turn(self, only: Sequence[TopicPartition] | None) -> list[TopicPartition]:
        """Give the partitions that are asked for (None: all), beginning with another one than last time."""
        if only is not None:
            self.demand(only)
        wanted = self._partitions if only is None else list(dict.fromkeys(only))
        if not wanted:
            return []
        start = self._turns % len(wanted)
        self._turns += 1
        return wanted[start:] + wanted[:start]

    def demand(self, partitions: Iterable[TopicPartition]) -> None:
        """Raise ValueError if the reader was not opened for one of these."""
        strangers = sorted(set(partitions) - self._known)
        if strangers:
            raise ValueError(f"the reader was not opened for {strangers}")
