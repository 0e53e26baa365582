"""Outcomes packed in blocks of 512 rows: the unit in which a window grows, forgets and is written to the changelog."""

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from detectors.protocol import StateError
from service.core.columns import Float

OUTCOME_ROW = np.dtype(
    [
        ("watermark_ms", "<i8"),
        ("prediction_time_ms", "<i8"),
        ("prediction_offset", "<i8"),
        ("label_offset", "<i8"),
        ("actual", "<f8"),
        ("predicted", "<f8"),
        ("score", "<f8"),
        ("weight", "<f8"),
        ("loss", "<f8"),
    ]
)  # 72 bytes
Rows = NDArray[np.void]

BLOCK_ROWS = 512
"""Rows of a full block. With MAX_VECTOR_CLASSES probabilities a row has 72 + 200 x 8 = 1,672 bytes, so that a block
is at most 856 kB and fits in a Kafka record (1 MB by default)."""

MAX_VECTOR_CLASSES = 200
"""A longer vector of class probabilities is not kept, and is counted: its outcome has no score."""

_FIRST_ROWS = 32
_VERSION = 1


class _PackedBlock(msgspec.Struct, array_like=True, frozen=True):
    """A block in the changelog."""

    version: int
    block: int
    rows: bytes
    classes: int
    """Columns of the probabilities; 0: none."""
    probabilities: bytes


class OutcomeBlock:
    """Rows with the outcome numbers from `number` * BLOCK_ROWS on. Its bytes depend on nothing but its rows."""

    __slots__ = ("changed", "length", "number", "probabilities", "rows")

    def __init__(self, number: int) -> None:
        self.number = number
        self.length = 0
        """Rows in use; the arrays are longer, by at most the factor 2."""
        self.rows: Rows = np.zeros(_FIRST_ROWS, dtype=OUTCOME_ROW)
        self.probabilities: Float | None = None
        """Shape (rows, K), in the order of class codes; an outcome without has NaN. None until one has them."""
        self.changed = True
        """Differs from what was written last."""

    @property
    def start(self) -> int:
        """Outcome number of its first row."""
        return self.number * BLOCK_ROWS

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self.rows.nbytes + (0 if self.probabilities is None else self.probabilities.nbytes)

    @property
    def size_bytes(self) -> int:
        """Bytes of its rows in use."""
        return self.length * (OUTCOME_ROW.itemsize + 8 * self._classes())

    def append(self, rows: Rows, vectors: Float | None) -> None:
        """Add rows that fit, with their probabilities, shape (len(rows), K)."""
        stop = self.length + rows.size
        if stop > self.rows.size:
            self._grow(min(BLOCK_ROWS, max(stop, 2 * self.rows.size)))
        self.rows[self.length : stop] = rows
        if vectors is not None:
            held = self.probabilities
            if held is None or vectors.shape[1] > held.shape[1]:
                held = self.probabilities = self._resized(vectors.shape[1])
            held[self.length : stop] = widened(vectors, held.shape[1])
        self.length = stop
        self.changed = True

    def pack(self) -> bytes:
        """Give its rows as bytes."""
        held = self.probabilities
        vectors = b"" if held is None else held[: self.length].astype("<f8").tobytes()
        rows = self.rows[: self.length].tobytes()
        return msgspec.msgpack.encode(_PackedBlock(_VERSION, self.number, rows, self._classes(), vectors))

    @classmethod
    def unpack(cls, number: int, packed: bytes) -> "OutcomeBlock":
        """Read `pack`'s bytes of the block of that number. Raises StateError for any others."""
        try:
            content = msgspec.msgpack.decode(packed, type=_PackedBlock)
        except msgspec.DecodeError as error:
            raise StateError(f"damaged block {number} of outcomes: {error}") from error
        if content.version != _VERSION:
            raise StateError(f"expected a block of outcomes of version {_VERSION}, got {content.version}")
        length, rest = divmod(len(content.rows), OUTCOME_ROW.itemsize)
        whole = rest == 0 and length <= BLOCK_ROWS and 0 <= content.classes <= MAX_VECTOR_CLASSES
        if not whole or content.block != number or len(content.probabilities) != 8 * length * content.classes:
            raise StateError(f"damaged block {number} of outcomes: its parts do not fit together")
        block = cls(number)
        vectors = np.frombuffer(content.probabilities, dtype="<f8").reshape(length, content.classes)
        block.append(np.frombuffer(content.rows, dtype=OUTCOME_ROW), vectors if content.classes else None)
        block.changed = False
        return block

    def _classes(self) -> int:
        return 0 if self.probabilities is None else self.probabilities.shape[1]

    def _grow(self, capacity: int) -> None:
        """Move to arrays of this many rows."""
        rows = np.zeros(capacity, dtype=OUTCOME_ROW)
        rows[: self.length] = self.rows[: self.length]
        self.rows = rows
        if self.probabilities is not None:
            self.probabilities = self._resized(self._classes())

    def _resized(self, classes: int) -> Float:
        """Copy the probabilities to an array as long as the rows and of this many classes."""
        probabilities = np.full((self.rows.size, classes), np.nan)
        if self.probabilities is not None:
            probabilities[: self.length] = widened(self.probabilities[: self.length], classes)
        return probabilities


def widened(vectors: Float, classes: int) -> Float:
    """Add columns up to `classes`: a class that a vector does not know has probability 0; absent stays NaN."""
    missing = classes - vectors.shape[1]
    if missing <= 0:
        return vectors
    wide = np.zeros((vectors.shape[0], classes))
    wide[:, : vectors.shape[1]] = vectors
    wide[np.isnan(vectors[:, 0])] = np.nan
    return wide


def decode_vectors(vectors: Sequence[bytes | None], limit: int) -> Float | None:
    """Read float64 vectors into a matrix, shape (n, longest); NaN rows for absent, empty and too long ones.

    None where no row is left. Raises ValueError where the bytes are not whole float64 numbers.
    """
    lengths = np.array([0 if vector is None else len(vector) for vector in vectors], dtype=np.int64)
    if (lengths % 8).any():
        raise ValueError("expected probabilities as whole float64 numbers")
    lengths[lengths > 8 * limit] = 0
    longest = int(lengths.max(initial=0)) // 8
    if not longest:
        return None
    matrix = np.full((len(vectors), longest), np.nan)
    for length in np.unique(lengths[lengths > 0]).tolist():
        index = np.flatnonzero(lengths == length)
        joined = b"".join(vectors[i] or b"" for i in index.tolist())
        values = np.frombuffer(joined, dtype="<f8").reshape(index.size, length // 8)
        matrix[index] = widened(values, longest)
    return matrix
