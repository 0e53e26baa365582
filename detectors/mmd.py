"""Drift of vectors (embeddings): maximum mean discrepancy with random Fourier features, O(D) an event.

Kalinke and Gavioli-Akilagun, "Optimal online change detection via random Fourier features" (arXiv 2505.17789): with
z(x) = [cos(x W), sin(x W)] / sqrt(R), W ~ N(0, 1/sigma^2), the Gaussian kernel is about z(x) . z(y), so the MMD of two
windows is the distance of their mean z, and sums of z are all that need be kept; candidates for the change lie on a
dyadic grid. Two departures: a reference window gives the mean and the covariance of z (a monitor has one), and
candidates are looked at each `BLOCK` vectors.

The threshold. Without drift, T = |mean z of m vectors - mean z of the n of the reference|^2 / (1/m + 1/n) is about a
quadratic form of a normal vector with the covariance C of z, and (Laurent and Massart 2000, lemma 1)

    P(T >= tr C + 2 sqrt(tr C^2 x) + 2 |C| x) <= e^-x.

With J windows looked at per block and A blocks between false alarms, x = ln(2 A J): by the union bound an alarm in the
first t blocks has probability at most t / (2 A), so the mean is at least A. The normal approximation makes that nominal
and not a theorem; `tests/detectors/test_mmd.py` measures it.
"""

from functools import lru_cache
from math import log
from typing import Annotated, Any, ClassVar, Final, NamedTuple

import msgspec
import numpy as np

from detectors.e_detector import ExpectedEvents
from detectors.parameters import checked
from detectors.protocol import Level, Progress, State, StateError, Verdict, require_finite
from detectors.sealing import opened_body, opened_parameters, sealed
from detectors.special import Floats

BLOCK: Final = 32
"""Vectors between two looks. Smaller blocks gain less than half a block of delay and cost more per vector."""
WINDOWS: Final = (1, 2, 4, 8, 16, 32, 64)
"""Blocks in a current window: the last 32 to 2,048 vectors. An older change has been seen by then, or is tiny."""
WARNING_SHARE: Final = 0.8
_FLOOR: Final = 1e-12
_KEPT_DIRECTIONS: Final = 16
"""Matrices of directions that detectors of the same size share; one more is drawn anew. 8 D R / 2 bytes each."""


class Distance(NamedTuple):
    """How far the current window with the most evidence is from the reference: |mean z - mean z|, 0 to 2."""

    now: float
    usual: float
    """The root of its mean square where nothing has changed."""
    vectors: int
    """How many are in that window."""


class _Body(msgspec.Struct, forbid_unknown_fields=True):
    """Arrays are little-endian doubles.

    `pending`: of the block that is not whole yet the rows z, in the first block (no bandwidth yet) the vectors.
    """

    count: int = 0
    pending: bytes = b""
    bandwidth: float = 0.0
    reference_count: int = 0
    reference_sum: bytes = b""
    reference_squares: bytes = b""
    """Sum of z z^T; empty once the reference is whole."""
    spectrum: tuple[float, float, float] | None = None
    """tr C, tr C^2 and the largest eigenvalue; known once the reference is whole."""
    recent: bytes = b""
    """Sum of z of each of the last blocks, oldest first: at most max(WINDOWS) rows."""
    statistic: float = 0.0
    begin: int = 0
    distance: tuple[float, float, int] | None = None


class EmbeddingDrift:
    """Watches vectors of `dimension` numbers against the first `reference_size`.

    The statistic is the largest T over its limit, the threshold 1; between blocks both stand. State: 8 bytes times
    (64 + 32 + 1) R, R = `features`, whatever D: 50 kB at R = 64. While the reference is learnt R^2 more instead of 64 R
    (33 kB), and in the first block 32 D (196 kB at D = 768). The directions, 8 D R / 2 bytes, are no state.
    """

    name: ClassVar[str] = "embedding_drift"

    def __init__(
        self,
        *,
        dimension: Annotated[int, msgspec.Meta(ge=1, le=65_536)],
        features: Annotated[int, msgspec.Meta(ge=2, le=1024)] = 64,
        reference_size: Annotated[int, msgspec.Meta(ge=64, le=1_000_000)] = 1000,
        expected_events_between_false_alarms: ExpectedEvents = 50_000.0,
        seed: Annotated[int, msgspec.Meta(ge=0, le=2**53)] = 0,
    ) -> None:
        """Set up. `features` is the number R of random features, even; the reference is whole blocks of 32."""
        parameters = {
            "dimension": dimension,
            "features": features,
            "reference_size": reference_size,
            "expected_events_between_false_alarms": expected_events_between_false_alarms,
            "seed": seed,
        }
        self._configure(checked(EmbeddingDrift, parameters))
        self.reset()

    def _configure(self, parameters: dict[str, Any]) -> None:
        if parameters["features"] % 2:
            raise ValueError(f"$.features: expected an even number, got {parameters['features']}")
        self._parameters = parameters
        self._dimension: int = parameters["dimension"]
        self._features: int = parameters["features"]
        # Whole blocks, so that the reference ends where a block does.
        self._reference_size = -(-parameters["reference_size"] // BLOCK) * BLOCK
        blocks = max(parameters["expected_events_between_false_alarms"] / BLOCK, 1.0)
        self._doubt = log(2.0 * blocks * len(WINDOWS))
        self._directions = _directions_of(self._dimension, self._features // 2, parameters["seed"])

    def reset(self) -> None:
        """Become as new."""
        size = self._features
        self._body = _Body()
        self._pending = np.empty((0, self._dimension))
        self._sum = np.zeros(size)
        self._squares = np.zeros((size, size))
        self._recent = np.empty((0, size))

    def rebase(self) -> None:
        """Learn the reference anew from what follows."""
        self.reset()

    def update_many(self, vectors: Floats) -> Progress:
        """Take vectors, shape (n, dimension), stopping behind the first at which the level is DRIFT.

        Raises ValueError on another shape, NaN or infinity; then nothing changed.
        """
        if vectors.ndim != 2 or vectors.shape[1] != self._dimension:
            raise ValueError(f"$: expected shape (n, {self._dimension}), got {vectors.shape}")
        require_finite(vectors.ravel())
        taken = 0
        while taken < len(vectors):
            piece = vectors[taken : taken + (1 if self._level() is Level.DRIFT else self.room)]
            self.take(piece)
            taken += len(piece)
            if self._level() is Level.DRIFT:
                break
        return Progress(taken, self._level())

    @property
    def room(self) -> int:
        """How many vectors the block still needs: at least 1."""
        return BLOCK - len(self._pending)

    def take(self, vectors: Floats) -> bool:
        """Take at most `room` finite vectors, and say whether the block is whole, so that the verdict is a new one.

        For an owner who goes on behind a drift: `update_many` stops at each vector there.
        """
        rows = np.ascontiguousarray(vectors, dtype=np.float64)
        self._pending = np.concatenate((self._pending, self._mapped(rows) if self._body.bandwidth else rows))
        self._body.count += len(rows)
        if len(self._pending) < BLOCK:
            return False
        self._take_block()
        return True

    @property
    def is_ready(self) -> bool:
        """Whether the reference is whole."""
        return self._body.spectrum is not None

    @property
    def reference_count(self) -> int:
        """Vectors in the reference."""
        return self._body.reference_count

    @property
    def distance(self) -> Distance | None:
        """How far the current window is from the reference; None before the first."""
        return None if self._body.distance is None else Distance(*self._body.distance)

    def close_reference(self) -> None:
        """End the reference with the whole blocks that came; nothing where it is whole, or none came."""
        if self._body.reference_count and not self.is_ready:
            self._body.spectrum = self._measured_spectrum()
            self._squares = np.empty((0, 0))

    def reference(self) -> State:
        """Give the reference as plain data that JSON can hold. Only where it is whole."""
        body = self._body
        assert body.spectrum is not None  # noqa: S101  # the caller's promise
        return {
            "dimension": self._dimension,
            "features": self._features,
            "seed": self._parameters["seed"],
            "bandwidth": body.bandwidth,
            "count": body.reference_count,
            "sum": self._sum.tolist(),
            "spectrum": list(body.spectrum),
        }

    def adopt(self, reference: State) -> None:
        """Begin anew against a given reference; its dimension, features and seed hold from now on."""
        self._configure(self._parameters | {name: reference[name] for name in ("dimension", "features", "seed")})
        self.reset()
        self._sum = np.array(reference["sum"], dtype=np.float64)
        self._squares = np.empty((0, 0))
        self._pending = np.empty((0, self._features))
        trace, square, largest = reference["spectrum"]
        self._body.bandwidth, self._body.reference_count = reference["bandwidth"], reference["count"]
        self._body.spectrum = (trace, square, largest)

    def verdict(self) -> Verdict:
        """Say level, statistic and threshold as of the last whole block."""
        level = self._level()
        begin = self._body.begin if level is not Level.STABLE else None
        return Verdict(level, self._body.statistic, 1.0, self._body.count, begin)

    def snapshot(self) -> State:
        """Give parameters and state."""
        body = msgspec.structs.replace(
            self._body,
            pending=_packed(self._pending),
            reference_sum=_packed(self._sum),
            reference_squares=_packed(self._squares),
            recent=_packed(self._recent),
        )
        return sealed(self.name, self._parameters, body)

    def restore(self, state: State) -> None:
        """Take over a snapshot. Raises StateError when it is another detector's, a newer version's, or damaged."""
        parameters = opened_parameters(state, EmbeddingDrift, self.name)
        body = opened_body(state, self.name, _Body)
        size, dimension = parameters["features"], parameters["dimension"]
        try:
            pending = np.frombuffer(body.pending, "<f8").reshape(-1, size if body.bandwidth else dimension)
            total = np.frombuffer(body.reference_sum, "<f8").reshape(size)
            left = 0 if body.spectrum is not None else size
            squares = np.frombuffer(body.reference_squares, "<f8").reshape(left, left)
            recent = np.frombuffer(body.recent, "<f8").reshape(-1, size)
        except ValueError as error:
            raise StateError(f"the snapshot of {self.name} is damaged: {error}") from error
        self._configure(parameters)
        self._body = msgspec.structs.replace(body, pending=b"", reference_sum=b"", reference_squares=b"", recent=b"")
        self._pending, self._sum, self._squares, self._recent = pending, total.copy(), squares.copy(), recent

    def _level(self) -> Level:
        if self._body.statistic >= 1.0:
            return Level.DRIFT
        return Level.WARNING if self._body.statistic >= WARNING_SHARE else Level.STABLE

    def _take_block(self) -> None:
        body = self._body
        z = self._pending
        if not body.bandwidth:
            body.bandwidth = _median_distance(self._pending)
            z = self._mapped(self._pending)
        self._pending = np.empty((0, self._features))
        if body.spectrum is None:
            self._sum += z.sum(axis=0)
            self._squares += z.T @ z
            body.reference_count += BLOCK
            if body.reference_count >= self._reference_size:
                self.close_reference()
            return
        self._recent = np.concatenate((self._recent, z.sum(axis=0)[None, :]))[-max(WINDOWS) :]
        self._look(body.spectrum)

    def _mapped(self, vectors: Floats) -> Floats:
        # One product for each vector: of many rows at once the order of additions, and so the last bit, would depend
        # on how many come together, and batches are cut anywhere.
        products = np.matmul(vectors[:, None, :], self._directions)[:, 0, :]
        angles: Floats = products / self._body.bandwidth
        # R / 2 directions: the squares of a pair add up to 1, so |z| = 1 as k(x, x) is.
        return np.asarray(np.concatenate((np.cos(angles), np.sin(angles)), axis=1) / np.sqrt(self._features / 2.0))

    def _measured_spectrum(self) -> tuple[float, float, float]:
        """Give tr C, tr C^2 and the largest eigenvalue of the covariance of z in the reference."""
        count = self._body.reference_count
        mean = self._sum / count
        values = np.linalg.eigvalsh(self._squares / count - np.outer(mean, mean))
        values = np.maximum(values, 0.0)
        return float(values.sum()), float((values**2).sum()), float(values[-1])

    def _look(self, spectrum: tuple[float, float, float]) -> None:
        trace, square, largest = spectrum
        limit = max(trace + 2.0 * (square * self._doubt) ** 0.5 + 2.0 * largest * self._doubt, _FLOOR)
        mean = self._sum / self._body.reference_count
        ratios, distances = [], []
        for blocks in WINDOWS:
            if blocks > len(self._recent):
                break
            size = blocks * BLOCK
            gap = self._recent[-blocks:].sum(axis=0) / size - mean
            spread = 1.0 / size + 1.0 / self._body.reference_count
            ratios.append(float(gap @ gap) / spread / limit)
            distances.append((float(gap @ gap) ** 0.5, (trace * spread) ** 0.5, size))
        self._body.statistic = max(ratios)
        self._body.distance = distances[ratios.index(self._body.statistic)]
        self._body.begin = self._body.count - self._body.distance[2]


@lru_cache(maxsize=_KEPT_DIRECTIONS)
def _directions_of(dimension: int, count: int, seed: int) -> Floats:
    """Draw the directions, shape (dimension, count): a function of its arguments, so that they need not be stored."""
    # Philox is a counter: the same numbers for a seed on every machine.
    draw = np.random.Generator(np.random.Philox(seed))
    directions: Floats = draw.standard_normal((dimension, count))
    directions.flags.writeable = False
    return directions


def _median_distance(vectors: Floats) -> float:
    """Give the median distance of two of the vectors (the usual bandwidth of the kernel), 1 where all are equal."""
    upper = np.triu_indices(len(vectors), 1)
    distances = np.linalg.norm(vectors[upper[0]] - vectors[upper[1]], axis=1)
    return float(np.median(distances)) or 1.0


def _packed(array: Floats) -> bytes:
    return np.ascontiguousarray(array, dtype="<f8").tobytes()
