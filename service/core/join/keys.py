"""Join keys: 128-bit hashes of what names one prediction."""

from collections.abc import Sequence

import numpy as np
import xxhash
from numpy.typing import NDArray

Keys = NDArray[np.uint64]


def hash_keys(
    model_ids: Sequence[str],
    prediction_ids: Sequence[str],
    row_ids: Sequence[str | None],
    targets: Sequence[str | None],
) -> Keys:
    """Hash the four parts of each join key; shape (n, 2), the same in every process and on every machine.

    The encoding cannot be ambiguous: all parts but the last carry their length, so ("a", "bc") and ("ab", "c")
    differ, and an absent part differs from an empty one. 128 bits of XXH3: among 10^9 keys two collide with
    probability 10^18 / 2^129 = 1.5e-21, so that the join may take equal hashes for equal keys.
    """
    heads: dict[str, str] = {model_id: f"{len(model_id)}:{model_id}" for model_id in set(model_ids)}
    digest = xxhash.xxh3_128_digest
    # One comprehension: a call per key would cost as much as the hash itself. Most events have neither row nor target.
    digests = [
        digest(f"{heads[m]}.{p}".encode()) if r is None and t is None else digest((heads[m] + _tail(p, r, t)).encode())
        for m, p, r, t in zip(model_ids, prediction_ids, row_ids, targets, strict=True)
    ]
    # The canonical digest is big-endian; the halves are turned to native numbers once for all keys.
    return np.frombuffer(b"".join(digests), ">u8").astype(np.uint64).reshape(-1, 2)


def _tail(prediction_id: str, row_id: str | None, target: str | None) -> str:
    """Encode the rest of a key that has a row or a target: each part with its length, absent as a dash."""
    row = "-" if row_id is None else f"{len(row_id)}:{row_id}"
    output = "-" if target is None else f"{len(target)}:{target}"
    return f";{len(prediction_id)}:{prediction_id}{row}{output}"
