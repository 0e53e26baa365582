"""The features of one model version: their drift and their quality, from one pass over the events."""

from typing import TypedDict

import numpy as np

from detectors.feature_bets import bank_of
from detectors.feature_drift import MakeBank
from detectors.protocol import State
from schemas.events import FeatureValue
from service.core.columns import Float, Int, Outcomes, Predictions
from service.core.findings import Finding
from service.core.inputs.blocks import Block, PendingRows, PendingState, RowTimes
from service.core.inputs.drift import DriftMonitor
from service.core.inputs.drift_state import DriftState
from service.core.inputs.feature_table import FeatureTable, FeatureTableState
from service.core.inputs.loss_by_bin import BlockSample, LossByBin, LossByBinState
from service.core.inputs.no_features import NoFeature, recognise, told
from service.core.inputs.quality import QualityMonitor, QualityState
from service.core.inputs.quality_reference import reference_from_state, reference_to_state
from service.core.inputs.versions import require_version
from service.core.layout import inside
from service.core.metrics.catalogue import ResolvedProblem
from service.core.settings import DataQualitySettings, FeatureDriftSettings

_VERSION = 1

Features = list[dict[str, FeatureValue] | None]


class FeaturesState(TypedDict):
    """The snapshot of a FeatureMonitor; `offsets`: int64, little-endian.

    `left_out`: columns that are no features; `wrong`: an example of each feature's values of the wrong type.
    """

    version: int
    table: FeatureTableState
    pending: PendingState
    offsets: bytes
    losses: LossByBinState
    drift: DriftState
    quality: QualityState
    left_out: list[str]
    wrong: dict[str, str]


class FeatureMonitor:
    """Watches the features of one model version.

    The reference window is the first `reference_events` events, or a stored one (`reference`). Behind it each whole
    block of `block_events` is judged; between blocks events are only put by, so that no finding depends on how
    batches were cut. Events before the first that has a feature to watch are not looked at, nor are failed serving
    calls without features; any other event without features counts as one in which all are missing. Columns that are
    no features, as the reference window shows them, are left out behind it (see `no_features`), unless `include` names
    them.

    Sampling rates are not looked at: a share of the traffic taken at random has the traffic's distribution.
    `make_bank` makes the bets against a reference.
    """

    def __init__(
        self,
        settings: FeatureDriftSettings,
        quality: DataQualitySettings,
        reference: State | None = None,
        make_bank: MakeBank = bank_of,
    ) -> None:
        self._settings = settings
        self._quality_settings = quality
        self._stored = reference
        self._make_bank = make_bank
        self.reset()

    def reset(self) -> None:
        """Become as new: learn names, reference and all anew (or take the stored reference again)."""
        settings = self._settings
        self.table = FeatureTable(settings)
        self._pending = PendingRows(settings.reference_events, settings.block_events)
        self._losses = LossByBin()
        self._offsets: list[Int] = []
        """Of the rows that are put by."""
        self._drift = DriftMonitor(settings, settings.block_events, "data_drift", "features", self._make_bank)
        self._quality = QualityMonitor(
            self._quality_settings, settings.block_events, settings.expected_events_between_false_incidents
        )
        if self._stored is not None:
            self._adopt(self._stored)

    def accept(self) -> bool:
        """Learn the reference anew from the next events where it has drifted; say whether it had.

        A stored reference is not taken again: the present is what is normal now.
        """
        if not self._drift.is_open:
            return False
        stored, self._stored = self._stored, None
        self.reset()
        self._stored = stored
        return True

    def observe(self, predictions: Predictions) -> list[Finding]:
        """Take predictions in order and give the findings of the blocks that they complete."""
        if not (self._settings.enabled or self._quality_settings.enabled):
            return []
        features, times = self._select(predictions)
        findings: list[Finding] = []
        start = 0 if self.table.width else self._skip_unknown(features)
        while start < len(features):
            # Cut before encoding: what the table learns behind a block's end must not reach that block.
            end = min(start + self._pending.room, len(features))
            self._offsets.append(times.offset[start:end].copy())
            block = self._pending.append(self._encode(features, start, end), times.part(start, end))
            if block is not None:
                findings += self._judge(block)
            start = end
        return findings

    def _encode(self, features: Features, start: int, end: int) -> Float:
        return self.table.encode(features[start:end])

    def _select(self, predictions: Predictions) -> tuple[Features, RowTimes]:
        """Leave out failed calls that say nothing of their input."""
        features = predictions.features
        times = RowTimes(predictions.sequence, predictions.watermark_ms, predictions.time_ms, predictions.offset)
        if not np.count_nonzero(predictions.error):
            return features, times
        bare = [row for row in np.flatnonzero(predictions.error).tolist() if not features[row]]
        keep = np.delete(np.arange(len(features)), bare)
        return [features[row] for row in keep.tolist()], RowTimes(*(column[keep] for column in times))

    def _skip_unknown(self, features: Features) -> int:
        """Find the first event that has a feature to watch."""
        for row, event in enumerate(features):
            if event and self.table.has_wanted(event):
                return row
            if event:
                self.table.learn([event])
        return len(features)

    def _judge(self, block: Block) -> list[Finding]:
        sample = BlockSample(np.concatenate(self._offsets), block.end.sequence)
        self._offsets.clear()
        wrong, self.table.wrong = self.table.wrong, {}
        if block.number > 0:
            block = block._replace(rows=self.table.blanked(block.rows))
            found = self._drift.observe(block, self.table, sample, self._losses)
            return found + self._quality.observe(block, self.table, wrong)
        told_of = self._learn(block.rows)
        if self._drift.is_ready:
            self._losses.insert(sample, self._drift.bins_of(self.table.blanked(block.rows)))
        return [told(told_of, block)] if told_of else []

    def note_outcomes(self, outcomes: Outcomes, problem: ResolvedProblem) -> None:
        """Take outcomes in order, before the predictions of the same stretch: their losses go by the features' bins."""
        if self._settings.enabled:
            self._losses.note(outcomes, problem)

    def _learn(self, rows: Float) -> dict[str, NoFeature]:
        """Take the reference window; give what is left out of it."""
        asked_for = self._settings.include
        found = {} if asked_for else recognise(rows, self.table, self.table.other_code)
        found = {name: reason for name, reason in found.items() if name not in self._settings.exclude}
        self.table.leave_out(found)
        self.table.discount(rows)
        rows = self.table.blanked(rows)
        if self._settings.enabled:
            self._drift.learn(rows, self.table)
            self._losses.begin(self._drift.shape)
        if self._quality_settings.enabled:
            self._quality.learn(rows, self.table)
        return found

    def close_reference(self) -> None:
        """End the reference window with the events that came; nothing where it is whole, or none came."""
        if not self.is_ready and self._pending.count:
            self._offsets.clear()
            self.table.wrong = {}
            self._learn(self._pending.close_first())

    @property
    def is_ready(self) -> bool:
        """Whether the reference window is whole."""
        return self._pending.number > 0

    def drift(self) -> dict[str, float | None]:
        """Give per feature the distance of the current window divided by its threshold, for metric snapshots."""
        return self._drift.drift(self.table)

    def quality(self) -> dict[str, dict[str, float]]:
        """Give per feature the rates of missing, wrong_type, out_of_range and unseen in the last block."""
        return self._quality.rates(self.table)

    def limits(self) -> dict[str, int]:
        """Say how often each limit was hit."""
        # Of identifiers every text is one too many: only behind the reference window is it known that they are some.
        categories = self.table.categories_over_limit if self.is_ready else 0
        return {"max_features": self.table.features_over_limit, "max_categories": categories}

    # -- state

    def reference(self) -> State | None:
        """Give the reference window as plain data, to be stored and given to another monitor; None until it is whole.

        Settings that are off leave their part out.
        """
        if not self.is_ready:
            return None
        quality = self._quality.reference
        return {
            "version": _VERSION,
            "table": self.table.snapshot(),
            "left_out": self.table.left_out,
            "drift": self._drift.reference() if self._drift.is_ready else None,
            "quality": None if quality is None else reference_to_state(quality),
        }

    def _adopt(self, reference: State) -> None:
        require_version(reference, _VERSION, "feature reference")
        self.table.restore(reference["table"])
        self.table.leave_out(reference.get("left_out", ()))  # profiles of before left nothing out
        if self._settings.enabled and reference["drift"] is not None:
            self._drift.adopt(reference["drift"])
            self._losses.begin(self._drift.shape)
        if self._quality_settings.enabled and reference["quality"] is not None:
            self._quality.adopt(reference_from_state(reference["quality"]))
        self._pending.skip_first()

    @property
    def size_bytes(self) -> int:
        """Bytes of all of it: 9 kB a numeric feature of 20 bins, some 45 kB a text feature of 100 categories."""
        width = self.table.width
        rows = self._pending.size_bytes(width) + 8 * self._pending.count
        monitors = self._losses.size_bytes + self._drift.size_bytes + self._quality.size_bytes
        return self.table.size_bytes + rows + monitors

    def snapshot(self) -> FeaturesState:
        """Give everything that is needed to go on elsewhere.

        Large and unchanging once learnt: `drift.reference` and `quality.reference`. At most one block of raw rows (8
        bytes a value), or while it is learnt the reference window.
        """
        return {
            "version": _VERSION,
            "table": self.table.snapshot(),
            "pending": self._pending.snapshot(),
            "offsets": b"".join(part.astype("<i8").tobytes() for part in self._offsets),
            "losses": self._losses.snapshot(),
            "drift": self._drift.snapshot(),
            "quality": self._quality.snapshot(),
            "left_out": self.table.left_out,
            "wrong": dict(self.table.wrong),
        }

    def restore(self, state: FeaturesState) -> None:
        """Take over a snapshot. Raises StateError when it is newer than this code.

        Of settings that changed since, those that the reference was learnt with (sizes, bins, limits) wait for a
        reset; so does a part that was off when the reference was learnt.
        """
        require_version(state, _VERSION, "feature monitor")
        with inside("table"):
            self.table.restore(state["table"])
            self.table.leave_out(state["left_out"])
            self.table.wrong = dict(state["wrong"])
        with inside("pending"):
            self._pending.restore(state["pending"])
        with inside("offsets"):
            self._offsets = [np.frombuffer(state["offsets"], "<i8").astype(np.int64)]
        with inside("losses"):
            self._losses.restore(state["losses"])
        with inside("drift"):
            self._drift.restore(state["drift"])
        with inside("quality"):
            self._quality.restore(state["quality"])
