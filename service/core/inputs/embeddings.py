"""The embeddings of one model version: their drift, each on its own, and their quality, all together."""

from collections.abc import Mapping, Sequence
from typing import TypedDict

import numpy as np

from detectors.protocol import State
from schemas.events import MAX_ID_CHARS
from service.core.columns import Bool, Float, Predictions
from service.core.findings import Finding
from service.core.inputs.blocks import PendingRows, PendingState, RowTimes
from service.core.inputs.embedding_watch import EmbeddingWatch, EmbeddingWatchState
from service.core.inputs.quality import QualityMonitor, QualityState
from service.core.inputs.quality_reference import reference_from_state, reference_to_state
from service.core.inputs.versions import require_version
from service.core.settings import ModelProfile

_VERSION = 1

Vectors = Mapping[str, list[float | None]] | None


class EmbeddingsState(TypedDict):
    """The snapshot of an EmbeddingMonitor."""

    version: int
    watches: list[EmbeddingWatchState]
    beyond: int
    pending: PendingState
    quality: QualityState


class EmbeddingMonitor:
    """Watches the embeddings of one model version.

    At most `max_embeddings` names are watched, the first that come; each vector of a further one (or of one with a
    name longer than 256 characters) is counted. An event without a vector, or with an empty one, counts as missing
    for data quality; one of another dimension, or with a number that is not finite, as of the wrong type, and is
    counted in `limits` as well. Events before the first that has an embedding are not looked at, nor are failed
    serving calls without any. `reference` is a stored one, as `reference()` gives.
    """

    def __init__(self, profile: ModelProfile, reference: State | None = None) -> None:
        self._settings = profile.embedding_drift
        self._sizes = profile.feature_drift
        self._quality_settings = profile.data_quality
        self._stored = reference
        self.reset()

    def reset(self) -> None:
        """Become as new: learn names, dimensions and references anew (or take the stored ones again)."""
        self._watches: dict[str, EmbeddingWatch] = {}
        self._beyond = 0
        self._pending = PendingRows(self._sizes.reference_events, self._sizes.block_events)
        self._quality = QualityMonitor(
            self._quality_settings,
            self._sizes.block_events,
            self._settings.expected_events_between_false_incidents,
            "embeddings",
        )
        if self._stored is not None:
            self._adopt(self._stored)

    def accept(self) -> None:
        """Learn the references of the embeddings that have drifted anew, from the next vectors."""
        for name in [name for name, watch in self._watches.items() if watch.is_open]:
            self._watches[name] = EmbeddingWatch(name, self._settings)

    @property
    def has_begun(self) -> bool:
        """Whether any embedding is watched, so that an event without one lacks it."""
        return bool(self._watches)

    # -- events

    def observe(self, predictions: Predictions) -> list[Finding]:
        """Take predictions in order and give what is found."""
        if not self._settings.enabled:
            return []
        events, times = _select(predictions)
        findings: list[Finding] = []
        start = 0 if self.has_begun else next((row for row, event in enumerate(events) if event), len(events))
        while start < len(events):
            # A name that comes behind a block's end must not reach the block.
            end = min(start + self._pending.room, len(events))
            findings += self._take(events[start:end], times.part(start, end))
            start = end
        return findings

    def _take(self, events: Sequence[Vectors], times: RowTimes) -> list[Finding]:
        self._learn_names(events)
        columns, findings = [], []
        for name, watch in self._watches.items():
            codes, found = watch.observe([event.get(name) if event else None for event in events], times)
            columns.append(codes)
            findings += found
        if not columns:
            return findings
        rows: Float = np.column_stack(columns)
        block = self._pending.append(rows, times)
        if block is None:
            return findings
        if block.number:
            return findings + self._quality.observe(block, self)
        if self._quality_settings.enabled:
            self._quality.learn(block.rows, self)
        return findings

    def _learn_names(self, events: Sequence[Vectors]) -> None:
        known = self._watches.keys()
        for event in events:
            if event and not event.keys() <= known:
                self._meet(event)

    def _meet(self, event: Mapping[str, list[float | None]]) -> None:
        for name in event:
            if name in self._watches:
                continue
            if len(self._watches) >= self._settings.max_embeddings or len(name) > MAX_ID_CHARS:
                self._beyond += 1
            else:
                self._watches[name] = EmbeddingWatch(name, self._settings)

    # -- as the schema of the columns of data quality

    @property
    def names(self) -> list[str]:
        """What each column is called."""
        return [watch.label for watch in self._watches.values()]

    @property
    def wanted(self) -> Bool:
        """Whether a column is to be reported on: all are."""
        return np.ones(len(self._watches), np.bool_)

    def is_categorical(self, column: int) -> bool:  # noqa: ARG002  # the signature of all schemas
        """Say whether it holds category codes."""
        return False

    def categories(self, column: int) -> list[str]:  # noqa: ARG002
        """Names of its categories: it has none."""
        return []

    # -- what is told

    def drift(self) -> dict[str, float | None]:
        """Give per embedding the statistic divided by its threshold, for metric snapshots."""
        return {_bracketed(watch.label): watch.drift() for watch in self._watches.values()}

    def quality(self) -> dict[str, dict[str, float]]:
        """Give per embedding the rates of missing and wrong_type in the last block."""
        rates = self._quality.rates(self)
        return {
            _bracketed(label): {problem: found[problem] for problem in ("missing", "wrong_type")}
            for label, found in rates.items()
        }

    def limits(self) -> dict[str, int]:
        """Say how often each limit was hit."""
        watches = self._watches.values()
        return {
            "max_embeddings": self._beyond,
            "embedding_dimension": sum(watch.wrong_dimension for watch in watches),
            "embedding_not_finite": sum(watch.not_finite for watch in watches),
        }

    # -- reference and state

    def close_reference(self) -> None:
        """End the reference window with the events that came; nothing where it is whole, or none came."""
        for watch in self._watches.values():
            watch.close_reference()
        if not self._pending.number and self._pending.count:
            rows = self._pending.close_first()
            if self._quality_settings.enabled:
                self._quality.learn(rows, self)

    def reference(self) -> State | None:
        """Give the reference as plain data, of the embeddings that have one; None where none has."""
        references = [watch.reference() for watch in self._watches.values()]
        if not any(references):
            return None
        quality = self._quality.reference
        # The columns of quality are those of the names: where one has no reference they are left to be learnt.
        whole = quality is not None and len(quality.low) == len(references) and all(references)
        return {
            "version": _VERSION,
            "embeddings": [reference for reference in references if reference is not None],
            "quality": reference_to_state(quality) if quality is not None and whole else None,
        }

    def _adopt(self, stored: State) -> None:
        require_version(stored, _VERSION, "embedding reference")
        for reference in stored["embeddings"]:
            watch = self._watches[reference["name"]] = EmbeddingWatch(reference["name"], self._settings)
            watch.adopt(reference)
        if stored["quality"] is not None:
            self._pending.skip_first()
            if self._quality_settings.enabled:
                self._quality.adopt(reference_from_state(stored["quality"]))

    @property
    def size_bytes(self) -> int:
        """Bytes of all embeddings."""
        watches = sum([watch.size_bytes for watch in self._watches.values()])
        return watches + self._pending.size_bytes(len(self._watches)) + self._quality.size_bytes

    def snapshot(self) -> EmbeddingsState:
        """Give everything that is needed to go on elsewhere. An embedding takes some 50 kB (see detectors.mmd)."""
        return {
            "version": _VERSION,
            "watches": [watch.snapshot() for watch in self._watches.values()],
            "beyond": self._beyond,
            "pending": self._pending.snapshot(),
            "quality": self._quality.snapshot(),
        }

    def restore(self, state: EmbeddingsState) -> None:
        """Take over a snapshot. Raises StateError when it is newer than this code or damaged."""
        require_version(state, _VERSION, "embedding monitor")
        self._watches = {}
        for watch in state["watches"]:
            self._watches[watch["name"]] = EmbeddingWatch(watch["name"], self._settings)
            self._watches[watch["name"]].restore(watch)
        self._beyond = state["beyond"]
        self._pending.restore(state["pending"])
        self._quality.restore(state["quality"])


def _bracketed(label: str) -> str:
    """Tell an embedding from a feature that may be called the same."""
    return f"({label})"


def _select(predictions: Predictions) -> tuple[Sequence[Vectors], RowTimes]:
    """Leave out failed calls that say nothing of their input."""
    count = len(predictions.sequence)
    events = predictions.embeddings or [None] * count
    times = RowTimes(predictions.sequence, predictions.watermark_ms, predictions.time_ms, predictions.offset)
    if not predictions.error.any():
        return events, times
    keep = [row for row in range(count) if events[row] or not predictions.error[row]]
    return [events[row] for row in keep], RowTimes(*(column[keep] for column in times))
