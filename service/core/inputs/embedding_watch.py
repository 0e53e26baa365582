"""One embedding of one model version: its dimension, its detector, and what is told of its drift."""

from collections import deque
from collections.abc import Sequence
from typing import Any, Final, TypedDict

import numpy as np

from detectors.mmd import BLOCK, WARNING_SHARE, WINDOWS, Distance, EmbeddingDrift
from detectors.protocol import State, Verdict
from schemas.outputs import ChangePoint, Evidence, FeatureContribution
from service.core.columns import Float, Int
from service.core.findings import Finding, Level
from service.core.inputs.blocks import BlockStart, Moment, RowTimes
from service.core.inputs.vectors import Vector, lengths_of, read
from service.core.inputs.versions import require_version
from service.core.settings import EmbeddingDriftSettings

_VERSION = 1

_PIECE: Final = 4 * BLOCK
"""Events looked at together, so that what is unpacked at a time is bounded: 8 MB at 8,192 numbers a vector."""


class EmbeddingWatchState(TypedDict):
    """The snapshot of an EmbeddingWatch."""

    version: int
    name: str
    detector: dict[str, Any] | None
    dimension: int
    votes: int
    wrong_dimension: int
    not_finite: int
    first: BlockStart
    starts: list[BlockStart]
    active: bool
    needed: int
    calm: int


class EmbeddingWatch:
    """Watches one embedding against its first `reference_vectors` vectors, or a stored reference.

    The dimension is that of most vectors of the reference window (Boyer and Moore's vote, 1981, so one stray vector at
    the beginning decides nothing); from then on it stands, and vectors of another are counted.
    """

    def __init__(self, name: str, settings: EmbeddingDriftSettings) -> None:
        self.name = name
        self._settings = settings
        self._detector: EmbeddingDrift | None = None
        self._dimension = 0
        self._votes = 0
        self.wrong_dimension = 0
        self.not_finite = 0
        self._first = BlockStart(0, 0, 0)
        self._starts: deque[BlockStart] = deque(maxlen=max(WINDOWS))
        """First event of each block in the detector's windows."""
        self._active = False
        self._needed = 0
        self._calm = 0

    @property
    def is_open(self) -> bool:
        """Whether the vectors have drifted and not come back."""
        return self._active

    @property
    def label(self) -> str:
        """What it is called where features are named too."""
        return f"embedding {self.name}"

    # -- events

    def observe(self, values: Sequence[Vector], times: RowTimes) -> tuple[Float, list[Finding]]:
        """Take what events in order have of it, None where nothing; give a code of each and what was found."""
        lengths = lengths_of(values)
        codes, findings = [], []
        start = 0
        while start < len(values):
            stop = self._end_of_piece(lengths, start)
            found = read(values[start:stop], lengths[start:stop], self._dimension)
            codes.append(found.codes)
            self.wrong_dimension += found.wrong_dimension
            self.not_finite += found.not_finite
            if len(found.rows):
                findings += self._take(found.rows, RowTimes(*(column[start:stop][found.at] for column in times)))
            start = stop
        return np.concatenate(codes), findings

    def _end_of_piece(self, lengths: Int, start: int) -> int:
        """Say where a piece ends: behind the vector that makes the block whole, or before the dimension changes.

        Nothing that a piece decides (that the reference is whole, which dimension counts) can fall within it, so
        pieces may be cut anywhere.
        """
        ahead = lengths[start : start + _PIECE]
        if self._is_open and self._votes == 0 and ahead[0]:
            self._begin(int(ahead[0]))
        if self._detector is None:
            voters = np.flatnonzero(ahead)
            return start + (int(voters[0]) if len(voters) else len(ahead))
        same = ahead == self._dimension
        count = min(int(np.searchsorted(np.cumsum(same), self._detector.room)) + 1, len(ahead))
        if self._is_open:
            balance = self._votes + np.cumsum(np.where(same, 1, np.where(ahead > 0, -1, 0)))
            # Where no vote is left the next vector is the new candidate: look again from there.
            spent = np.flatnonzero(balance[:count] <= 0)
            count = int(spent[0]) + 1 if len(spent) else count
            self._votes = int(balance[count - 1])
        return start + count

    @property
    def _is_open(self) -> bool:
        """Whether the dimension is still voted on."""
        return self._detector is None or not self._detector.is_ready

    def _begin(self, dimension: int) -> None:
        if dimension != self._dimension:
            self._dimension = dimension
            self._detector = self._new_detector(dimension)

    def _new_detector(self, dimension: int) -> EmbeddingDrift:
        return EmbeddingDrift(
            dimension=dimension,
            features=self._settings.random_features,
            reference_size=self._settings.reference_vectors,
            expected_events_between_false_alarms=_share(self._settings),
        )

    def _take(self, rows: Float, times: RowTimes) -> list[Finding]:
        detector = self._detector
        assert detector is not None  # noqa: S101  # there is a dimension, else no row would fit it
        if detector.room == BLOCK:
            count = detector.verdict().sample_count
            self._first = BlockStart(count, int(times.time_ms[0]), int(times.offset[0]))
        if not detector.take(rows) or detector.distance is None:
            return []
        self._starts.append(self._first)
        return self._judge(detector.verdict(), detector.distance, times.last())

    # -- drift

    def _judge(self, verdict: Verdict, distance: Distance, end: Moment) -> list[Finding]:
        if not self._active:
            if verdict.level is not Level.DRIFT:
                return []
            self._active, self._calm, self._needed = True, 0, distance.vectors // BLOCK
            return [self._report(verdict, distance, end)]
        # As many blocks as it took to find the drift must be calm, or a small one would be called over and found again.
        self._calm = self._calm + 1 if verdict.statistic < WARNING_SHARE else 0
        if self._calm < self._needed:
            return []
        self._active = False
        return [
            Finding(
                sequence=end.sequence,
                time_ms=end.watermark_ms,
                kind="data_drift",
                subject=self.label,
                level=Level.STABLE,
                resolution=f"{self.label} agreed with the reference again over {self._needed * BLOCK:,} vectors",
            )
        ]

    def _report(self, verdict: Verdict, distance: Distance, end: Moment) -> Finding:
        start = self._starts[-(distance.vectors // BLOCK)]
        evidence = Evidence(
            detector=EmbeddingDrift.name,
            subject=self.label,
            statistic=verdict.statistic,
            threshold=verdict.threshold,
            sample_count=distance.vectors,
            reference_count=self._detector.reference_count if self._detector else None,
            change_point=ChangePoint(
                sample_index=start.row, event_time_ms=start.time_ms, prediction_offset=start.offset
            ),
            before=distance.usual,
            after=distance.now,
            features=(
                FeatureContribution(
                    feature=self.label,
                    statistic=verdict.statistic,
                    threshold=verdict.threshold,
                    before=distance.usual,
                    after=distance.now,
                ),
            ),
        )
        return Finding(
            sequence=end.sequence,
            time_ms=end.watermark_ms,
            kind="data_drift",
            subject=self.label,
            level=Level.DRIFT,
            evidence=(evidence,),
            summary=f"{self.label} moved away from the reference: its distance (MMD) over the last "
            f"{distance.vectors:,} vectors is {distance.now:.4g}, {distance.usual:.4g} is usual",
            change_time_ms=start.time_ms,
        )

    def drift(self) -> float | None:
        """Give the statistic divided by its threshold, as of the last whole block; None before there is one."""
        detector = self._detector
        return None if detector is None or detector.distance is None else detector.verdict().statistic

    # -- reference and state

    def close_reference(self) -> None:
        """End the reference with the whole blocks that came; nothing where it is whole, or none came."""
        if self._detector is not None:
            self._detector.close_reference()

    def reference(self) -> State | None:
        """Give the reference as plain data; None until it is whole."""
        if self._detector is None or not self._detector.is_ready:
            return None
        return {"name": self.name, **self._detector.reference()}

    def adopt(self, reference: State) -> None:
        """Watch against a given reference."""
        self._dimension = reference["dimension"]
        self._detector = self._new_detector(self._dimension)
        self._detector.adopt(reference)

    @property
    def size_bytes(self) -> int:
        """Bytes of sums and pending vectors. The random directions are shared by all of a dimension."""
        numbers = self._settings.random_features
        learning = numbers * numbers + BLOCK * self._dimension if self._is_open else 0
        return 8 * (numbers * (BLOCK + max(WINDOWS) + 2) + learning)

    def snapshot(self) -> EmbeddingWatchState:
        """Give everything that is needed to go on elsewhere."""
        return {
            "version": _VERSION,
            "name": self.name,
            "detector": None if self._detector is None else self._detector.snapshot(),
            "dimension": self._dimension,
            "votes": self._votes,
            "wrong_dimension": self.wrong_dimension,
            "not_finite": self.not_finite,
            "first": self._first,
            "starts": list(self._starts),
            "active": self._active,
            "needed": self._needed,
            "calm": self._calm,
        }

    def restore(self, state: EmbeddingWatchState) -> None:
        """Take over a snapshot. Raises StateError when it is newer than this code or damaged.

        The budget of the settings holds; random features and the reference's size wait for a reset.
        """
        require_version(state, _VERSION, "embedding watch")
        self.name = state["name"]
        self._dimension, self._votes = state["dimension"], state["votes"]
        self._detector = None
        if (kept := state["detector"]) is not None:
            self._detector = self._new_detector(self._dimension)
            budget = {"expected_events_between_false_alarms": _share(self._settings)}
            self._detector.restore(kept | {"parameters": kept["parameters"] | budget})
        self.wrong_dimension, self.not_finite = state["wrong_dimension"], state["not_finite"]
        self._first = BlockStart(*state["first"])
        self._starts.clear()
        self._starts.extend(BlockStart(*start) for start in state["starts"])
        self._active, self._needed, self._calm = state["active"], state["needed"], state["calm"]


def _share(settings: EmbeddingDriftSettings) -> float:
    """Give one embedding's share of the budget of false incidents that all of a model version have together.

    Where each of K raises one in K A vectors, all together raise one in A (the union bound, whatever the dependence).
    """
    return settings.expected_events_between_false_incidents * settings.max_embeddings
