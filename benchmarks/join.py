"""How fast and how small the join is: `python -m benchmarks.join [--json] [--entries 10000000]`.

A join is a prediction and its label, both applied. Goals (one core): 500,000 joins a second in batches of 1,000 to
5,000; at most 130 bytes of memory for a waiting prediction at 10 M of them; 10 M restored in at most 15 s.
"""

import argparse
import gc
import json
import resource
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from service.core.columns import LABEL_ROW, PREDICTION_ROW
from service.core.join import JoinBuffer, JoinOps, Spill, hash_keys
from service.core.settings import JoinSettings
from service.runtime.spill import spill_of

Keys = NDArray[np.uint64]
BATCH = 4096
PREDICTIONS, LABELS = False, True


def ops(keys: Keys, labels: bool, time_ms: int = 0) -> JoinOps:
    """Make operations of one sort."""
    count = len(keys)
    predictions = np.zeros(0 if labels else count, PREDICTION_ROW)
    label_rows = np.zeros(count if labels else 0, LABEL_ROW)
    (label_rows if labels else predictions)["time_ms"] = time_ms
    return JoinOps(np.full(count, labels), keys, np.full(count, time_ms), predictions, label_rows)


def keys_of(numbers: NDArray[np.uint64]) -> Keys:
    """Give numbered keys that look like hashes (splitmix64), so that 10 M of them need not be kept."""
    return np.stack((_mix(numbers), _mix(numbers + np.uint64(1 << 40))), axis=1)


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def resident_bytes() -> int:
    """Tell how much memory the process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def seconds(call: Callable[[], object]) -> float:
    """Time one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def hashing() -> dict[str, float]:
    """Measure key hashing."""
    count = 20_000
    models, none = ["fraud-model"] * count, [None] * count
    ids = [f"3f2c9a41-{i:012d}-a83c" for i in range(count)]
    plain = min(seconds(lambda: hash_keys(models, ids, none, none)) for _ in range(5))
    rows = min(seconds(lambda: hash_keys(models, ids, ["17"] * count, none)) for _ in range(5))
    return {"hash_us_per_key": plain / count * 1e6, "hash_us_per_key_with_row": rows / count * 1e6}


def batches(size: int) -> dict[str, float]:
    """Measure batches of predictions, each followed by a batch of their labels in another order."""
    rng, buffer, spent, rounds = np.random.default_rng(size), JoinBuffer(JoinSettings()), 0.0, max(20, 100_000 // size)
    for _ in range(rounds):
        keys = rng.integers(0, 1 << 64, (size, 2), dtype=np.uint64)
        pair = ops(keys, PREDICTIONS), ops(rng.permutation(keys), LABELS)
        spent += seconds(lambda: [buffer.apply(batch) for batch in pair])  # noqa: B023 - called at once
    joins = size * rounds
    return {"batch": size, "joins_per_s": joins / spent, "us_per_op": spent / joins / 2 * 1e6}


def mixed(size: int) -> dict[str, float]:
    """Measure batches in which every prediction is followed by its label, some way behind."""
    rng, buffer, spent, rounds = np.random.default_rng(size), JoinBuffer(JoinSettings()), 0.0, max(20, 100_000 // size)
    for _ in range(rounds):
        keys = rng.integers(0, 1 << 64, (size // 2, 2), dtype=np.uint64)
        order = np.concatenate((np.arange(size // 2) * 2, np.arange(size // 2) * 2 + 41)).argsort(kind="stable")
        predictions, labels = ops(keys, PREDICTIONS), ops(keys, LABELS)
        batch = JoinOps(
            np.concatenate((predictions.is_label, labels.is_label))[order],
            np.concatenate((keys, keys))[order],
            np.zeros(len(order), np.int64),
            predictions.predictions,
            labels.labels,
        )
        spent += seconds(lambda: buffer.apply(batch))  # noqa: B023 - called at once
    joins = size // 2 * rounds
    return {"batch": size, "joins_per_s": joins / spent, "us_per_op": spent / joins / 2 * 1e6}


def numbers(count: int) -> Iterator[NDArray[np.uint64]]:
    """Cut 0 .. count - 1 into batches."""
    for start in range(0, count, BATCH):
        yield np.arange(start, min(start + BATCH, count), dtype=np.uint64)


def waiting(count: int, spill: Spill | None) -> dict[str, float]:
    """Measure `count` waiting predictions: memory, labels in random order, commit, expiry, snapshot, restore."""
    settings = JoinSettings(max_entries=2 * count, max_bytes=400 * count)
    before, buffer = resident_bytes(), JoinBuffer(settings, spill=spill)
    times = [_applied(buffer, ops(keys_of(part), PREDICTIONS)) for part in numbers(count)]
    gc.collect()
    result = {
        "waiting": count,
        "bytes_per_entry": (resident_bytes() - before) / count,
        "predictions_per_s": count / sum(times),
        "longest_batch_s": max(times),
    }
    buffer.changed_blocks()
    order = np.random.default_rng(0).permutation(count)[: min(count // 4, 300 * BATCH)].astype(np.uint64)
    parts = [order[start : start + BATCH] for start in range(0, len(order), BATCH)]
    spent = sum(_applied(buffer, ops(keys_of(part), LABELS)) for part in parts)
    result["labels_per_s"] = len(order) / spent
    result["expire_nothing_us"] = min(seconds(lambda: buffer.expire(0)) for _ in range(5)) * 1e6
    buffer.changed_blocks()
    buffer.apply(ops(keys_of(np.arange(count, count + 500, dtype=np.uint64)), PREDICTIONS))
    buffer.apply(ops(keys_of(order[:0] if len(order) == count else _others(order, count)), LABELS))
    start = time.perf_counter()
    changed = dict(buffer.changed_blocks().blocks)
    result |= {"commit_s": time.perf_counter() - start, "commit_bytes": sum(map(len, changed.values()))}
    return result | _durable(settings, buffer)


def _others(joined: NDArray[np.uint64], count: int) -> NDArray[np.uint64]:
    """Give 500 numbers that have no label yet."""
    candidates = np.random.default_rng(1).permutation(count)[: 500 * 4].astype(np.uint64)
    return candidates[~np.isin(candidates, joined)][:500]


def _applied(buffer: JoinBuffer, batch: JoinOps) -> float:
    return seconds(lambda: buffer.apply(batch))


def _durable(settings: JoinSettings, buffer: JoinBuffer) -> dict[str, float]:
    start = time.perf_counter()
    blocks = dict(buffer.snapshot_blocks())
    snapshot_s = time.perf_counter() - start
    sizes = tuple(buffer.sizes())[:4]
    del buffer
    start = time.perf_counter()
    restored = JoinBuffer.restore(settings, blocks)
    restore_s = time.perf_counter() - start
    assert tuple(restored.sizes())[:4] == sizes
    total = sum(map(len, blocks.values()))
    return {"snapshot_s": snapshot_s, "snapshot_bytes": total, "restore_s": restore_s, "blocks": len(blocks)}


def measure(entries: int, spill: Spill | None = None) -> dict[str, object]:
    """Measure everything."""
    return {
        **hashing(),
        "predictions_then_labels": [batches(size) for size in (16, 256, 1000, 2000, 4096, 5000)],
        "interleaved": [mixed(size) for size in (256, 4096)],
        "waiting": [waiting(count, spill) for count in sorted({min(entries, 1_000_000), entries})],
    }


def main() -> None:
    """Print the measurements."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--entries", type=int, default=10_000_000, help="waiting predictions at most")
    parser.add_argument("--spill", type=Path, metavar="DIR", help="keep rows in files of this directory")
    options = parser.parse_args()
    spill = None if options.spill is None else spill_of(JoinSettings(spill_above_entries=0), options.spill)
    result = measure(options.entries, spill)
    if options.json:
        print(json.dumps(result))
        return
    for name, value in result.items():
        for row in value if isinstance(value, list) else [{name: value}]:
            print(name if isinstance(value, list) else "", *(f"{key}={number:,.4g}" for key, number in row.items()))


if __name__ == "__main__":
    main()
