"""The records of one partition, in columns that only grow at the end and are cut at the front."""

from bisect import bisect_left
from collections.abc import Sequence
from typing import Any

import numpy as np

from service.eventlog.errors import OffsetOutOfRangeError
from service.eventlog.protocol import Chunk, Headers, NewRecord
from service.eventlog.records import record_bytes


class MemoryPartition:
    """Offsets rise by one as records come, and have gaps once a compaction went through."""

    def __init__(self, topic: str, number: int) -> None:
        self.topic = topic
        self.number = number
        self.begin = 0
        self.end = 0
        self.weight = 0
        """What the records weigh, in bytes."""
        self._offsets: list[int] = []
        self._timestamps_ms: list[int] = []
        self._keys: list[bytes | None] = []
        self._values: list[bytes | None] = []
        self._headers: list[Headers] = []

    def append(self, records: Sequence[NewRecord], now_ms: int) -> None:
        """Add records at the end; those without a timestamp get `now_ms`."""
        self._offsets.extend(range(self.end, self.end + len(records)))
        self._timestamps_ms.extend(now_ms if r.timestamp_ms is None else r.timestamp_ms for r in records)
        self._keys.extend(r.key for r in records)
        self._values.extend(r.value for r in records)
        self._headers.extend(r.headers for r in records)
        self.end += len(records)
        self.weight += sum(map(record_bytes, records))

    def skip(self) -> None:
        """Take an offset without a record, as the marker of a producer's transaction does in Kafka."""
        self.end += 1

    def chunk(self, position: int, max_records: int) -> Chunk | None:
        """Give what there is from a position on; None where that is nothing. Raises OffsetOutOfRangeError."""
        if not self.begin <= position <= self.end:
            raise OffsetOutOfRangeError(self.topic, self.number, position, self.begin, self.end)
        if position == self.end:
            return None
        first = bisect_left(self._offsets, position)
        cut = slice(first, first + max_records)
        offsets = self._offsets[cut]
        # Compaction may have emptied the rest: then the chunk is empty and its position is the end.
        reached_end = first + max_records >= len(self._offsets)
        return Chunk(
            self.topic,
            self.number,
            np.array(offsets, dtype=np.int64),
            np.array(self._timestamps_ms[cut], dtype=np.int64),
            self._keys[cut],
            self._values[cut],
            self._headers[cut],
            self.end if reached_end else offsets[-1] + 1,
        )

    def offset_for_time(self, timestamp_ms: int) -> int:
        """Give the first offset whose timestamp is at or after `timestamp_ms`, else the end."""
        pairs = zip(self._offsets, self._timestamps_ms, strict=True)
        return next((offset for offset, stamp in pairs if stamp >= timestamp_ms), self.end)

    def drop_before(self, offset: int) -> int:
        """Drop the records below an offset; give what they weighed."""
        self.begin = min(max(self.begin, offset), self.end)
        return self._keep(range(bisect_left(self._offsets, self.begin), len(self._offsets)))

    def compact(self) -> int:
        """Keep the last record of each key; give what the others weighed. Tombstones stay."""
        last = {key: place for place, key in enumerate(self._keys)}
        return self._keep([place for place, key in enumerate(self._keys) if key is None or last[key] == place])

    def _keep(self, places: Sequence[int]) -> int:
        before = self.weight
        columns: tuple[list[Any], ...] = (self._offsets, self._timestamps_ms, self._keys, self._values, self._headers)
        for column in columns:
            column[:] = [column[place] for place in places]
        kept = zip(self._keys, self._values, self._headers, strict=True)
        self.weight = sum(record_bytes(NewRecord(self.topic, self.number, *parts)) for parts in kept)
        return before - self.weight
