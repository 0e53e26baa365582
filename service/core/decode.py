"""From bytes to typed events of one input, a block at a time. What cannot be used stays in its place as a Rejection."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np

from schemas.codec import Decoded, decode_controls, decode_labels, decode_predictions
from schemas.instants import PLAUSIBLE_FROM_MS, PLAUSIBLE_TO_MS, likely_unit
from schemas.rejection import Problem, Rejection, reject
from service.core.columns import Bool
from service.core.intake import Block, Int, Role
from service.core.placement import Placement
from service.core.settings import CoreSettings
from service.core.units import by_unit
from service.core.verdicts import reason

_DECODERS: dict[Role, Callable[[Sequence[bytes | None], int], Decoded[Any]]] = {
    Role.CONTROL: decode_controls,
    Role.PREDICTIONS: decode_predictions,
    Role.LABELS: decode_labels,
}


class Rejected(NamedTuple):
    """A record that cannot be used, and as much of it as its dead letter shows."""

    rejection: Rejection
    payload: bytes
    size_bytes: int


def decode_block(
    role: Role,
    offsets: Int,
    timestamps_ms: Int,
    values: Sequence[bytes | None],
    next_position: int,
    settings: CoreSettings,
    keys: Sequence[bytes | None] = (),
    placement: Placement | None = None,
) -> Block:
    """Decode consecutive records of one input. `keys`, where `placement` judges them: as many as `values`.

    An event whose time is more than `max_future_ms` ahead of its record's timestamp is rejected: it would push the
    watermark past all that waits. So is one whose time is plausible in seconds alone: in 1970 if it were milliseconds,
    of a record that was written after 2000. A clock that counts from 0 and records stamped alike are left alone.
    """
    decoded = _decode(role, values, settings.max_record_bytes)
    times = np.full(len(values), -1, dtype=np.int64)
    events: list[Any] = decoded.events
    if decoded.rejections:
        events = [None] * len(values)
        for index, event in zip(decoded.indices, decoded.events, strict=True):
            events[index] = event
        for rejection in decoded.rejections:
            events[rejection.index] = _rejected(rejection, values, settings)
        times[decoded.indices] = [event.event_time_ms for event in decoded.events]
    else:
        times[:] = [event.event_time_ms for event in events]
    # A record without a timestamp (-1) tells nothing of its time, and what was refused (-1) has none.
    ahead = (times >= 0) & (timestamps_ms >= 0) & (times > timestamps_ms + settings.max_future_ms)
    if len(times) and (ahead.any() or int(times.min()) <= PLAUSIBLE_TO_MS // 1000):
        seconds = _look_like_seconds(times, timestamps_ms, settings.max_future_ms)
        for index in np.flatnonzero(ahead | seconds).tolist():
            rejection = _implausible(events[index], index, int(timestamps_ms[index]), settings.max_future_ms)
            events[index] = _rejected(rejection, values, settings)
            times[index] = -1
    size = sum(len(value) for value in values if value is not None)
    strays = () if placement is None else placement.strays(keys, events)
    if role is not Role.CONTROL:
        events = by_unit(events)
    return Block(offsets, timestamps_ms, times, events, next_position, size, strays)


def _decode(role: Role, values: Sequence[bytes | None], max_record_bytes: int) -> Decoded[Any]:
    """Decode; where a decoder raises, which none should, find the records at which it does, and go on without them.

    What comes of a record depends on its bytes alone, so whoever decodes it later finds the same.
    """
    try:
        return _DECODERS[role](values, max_record_bytes)
    except MemoryError:  # of the moment, not of the record
        raise
    except Exception as error:  # noqa: BLE001  # whatever it is: the partition must not stop
        if len(values) == 1:
            return Decoded([], [], [_undecodable(values[0], error)], 0)
    half = len(values) // 2
    first, second = (_decode(role, part, max_record_bytes) for part in (values[:half], values[half:]))
    return Decoded(
        [*first.events, *second.events],
        [*first.indices, *(index + half for index in second.indices)],
        [*first.rejections, *(msgspec.structs.replace(one, index=one.index + half) for one in second.rejections)],
        first.repaired + second.repaired,
    )


def _undecodable(value: bytes | None, error: Exception) -> Rejection:
    return reject(0, value, Problem("isolated", f"the decoder fails at this record: {reason(error)}"))


def rejected_block(offset: int, rejection: Rejection) -> Block:
    """Make the block of one record that the log itself could not read."""
    offsets = np.array([offset], dtype=np.int64)
    nothing = np.array([0], dtype=np.int64)
    return Block(offsets, nothing, np.array([-1], dtype=np.int64), [Rejected(rejection, b"", 0)], offset + 1, 0)


def _rejected(rejection: Rejection, values: Sequence[bytes | None], settings: CoreSettings) -> Rejected:
    value = values[rejection.index] or b""
    return Rejected(rejection, value[: settings.dead_letter_payload_bytes], len(value))


def _look_like_seconds(times: Int, timestamps_ms: Int, max_future_ms: int) -> Bool:
    """Find the times between 2000 and their records' timestamps if they were seconds, where those are real."""
    real = (timestamps_ms >= PLAUSIBLE_FROM_MS) & (timestamps_ms < PLAUSIBLE_TO_MS - max_future_ms)
    return real & (times >= PLAUSIBLE_FROM_MS // 1000) & (times <= (timestamps_ms + max_future_ms) // 1000)


def _implausible(event: Any, index: int, timestamp_ms: int, max_future_ms: int) -> Rejection:
    time_ms, unit = event.event_time_ms, likely_unit(event.event_time_ms)
    if time_ms > timestamp_ms:
        message = f"expected at most {max_future_ms} ms after the record's timestamp {timestamp_ms}, got {time_ms}"
        message += "" if unit is None else f"; {unit}"
    else:
        message = f"expected milliseconds since 1970; {unit}, and the record was written at {timestamp_ms}"
    return Rejection(
        index=index,
        reason="out_of_range",
        message=f"$.event_time_ms: {message}",
        path="$.event_time_ms",
        model_id=event.model_id,
        prediction_id=getattr(event, "prediction_id", None),
    )
