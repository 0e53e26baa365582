"""Drift of columns against their reference window, block by block: features, predictions, labels.

Two ways to decide:

* by default the sequential test of `detectors.feature_drift`, whose mean time to a false incident holds for all columns
  together;
* with `fixed_threshold`, the customary way: the distance of a full current window is compared with a number.

Either way the distance called `statistic`, of the current window, ranks the columns and says how far each has moved.
"""

from collections import deque
from typing import Final

import numpy as np

from detectors.calibration import thresholds
from detectors.distances import distance
from detectors.feature_bets import bank_of
from detectors.feature_drift import NAME, FeatureDrift, FeatureDriftTest, MakeBank
from detectors.histogram import MISSING, Counts, ReferenceHistogram
from detectors.protocol import State
from schemas.outputs import ChangePoint, DriftKind, Evidence, FeatureContribution
from service.core.columns import Bool, Float
from service.core.findings import Finding, Level
from service.core.inputs.blocks import Block, BlockStart
from service.core.inputs.drift_state import DriftReference, DriftState
from service.core.inputs.levels import Moved, Schema, describe_columns, summarise_drift, usable
from service.core.inputs.loss_by_bin import Association, BlockSample, LossByBin
from service.core.inputs.moves import Move, move_of, swapped
from service.core.inputs.versions import require_version
from service.core.inputs.window import BlockWindow, Recovery, mask_to_list
from service.core.settings import FeatureDriftSettings

_VERSION = 1

THRESHOLD_ALPHA: Final = 0.001
"""The calibrated threshold of a distance is exceeded by one window in 1,000 of a column that does not drift."""

MAX_STARTS: Final = 256
"""Blocks whose first event is remembered; an older change point is given as the oldest of them."""

NAMED: Final = 3
"""Features named in a summary."""

TOP_FEATURES: Final = 10
"""Features named in one piece of evidence; a person reads no more."""


_TABLES: Final = 6
"""Tables of columns x bins: counts, positions, edges and bins of the reference; sums of the window, of recovery."""

_COLUMN_BYTES: Final = 500
"""What a column takes beside them: small arrays and their heads."""


class DriftMonitor:
    """Watches columns of numbers and category codes against a reference window. One cause for all columns."""

    def __init__(
        self,
        settings: FeatureDriftSettings,
        block_events: int,
        kind: DriftKind,
        subject: str,
        make_bank: MakeBank = bank_of,
    ) -> None:
        self._settings = settings
        self._make_bank = make_bank
        self._block_events = block_events
        self._kind = kind
        self._subject = subject
        self._histogram: ReferenceHistogram | None = None
        self._losses: LossByBin | None = None
        self._before: list[float | str | None] = []

    @property
    def is_ready(self) -> bool:
        """Whether there is a reference to compare with."""
        return self._histogram is not None

    @property
    def is_open(self) -> bool:
        """Whether columns have drifted and not come back."""
        return self._histogram is not None and bool(self._active.any())

    def has_values(self, column: int) -> bool:
        """Say whether the reference has a value in a column. Only where there is one."""
        return bool(self._reference_histogram.counts[column, :MISSING].any())

    # -- reference

    def learn(self, rows: Float, schema: Schema) -> None:
        """Take the reference window: rows (n, F), n > 0, with NaN or infinity for what is no value."""
        width = rows.shape[1]
        histogram = ReferenceHistogram.from_sample(
            usable(rows, width),
            categorical=[schema.is_categorical(column) for column in range(width)],
            n_bins=self._settings.bins,
            max_categories=self._settings.max_categories,
        )
        self._adopt(histogram, describe_columns(rows, schema, range(width)), self._new_test(histogram))

    def _new_test(self, histogram: ReferenceHistogram) -> FeatureDriftTest:
        return FeatureDriftTest(
            histogram,
            expected_events_between_false_incidents=self._settings.expected_events_between_false_incidents,
            block_events=self._block_events,
            make_bank=self._make_bank,
        )

    def _adopt(self, histogram: ReferenceHistogram, before: list[float | str | None], test: FeatureDriftTest) -> None:
        self._histogram = histogram
        self._before = before
        self._test = test
        shape = (histogram.counts.shape[0], histogram.width)
        self._window = BlockWindow(self._settings.window_blocks, shape)
        self._recovery = Recovery(shape)
        self._starts: deque[BlockStart] = deque(maxlen=MAX_STARTS)
        self._blocks = 0
        self._shown: Float | None = None
        """What `drift` said last: it stands until the next block."""
        self._active: Bool = np.zeros(shape[0], np.bool_)

    def reference(self) -> DriftReference:
        """Give the reference as plain data, for a stored profile. Only where there is one."""
        assert self._histogram is not None  # noqa: S101  # the caller's promise
        return {"histogram": self._histogram.snapshot(), "before": list(self._before)}

    def adopt(self, reference: State) -> None:
        """Watch against a given reference."""
        histogram = ReferenceHistogram.restore(reference["histogram"])
        self._adopt(histogram, list(reference["before"]), self._new_test(histogram))

    # -- blocks

    def bins_of(self, rows: Float) -> Counts:
        """Say in which bin of the reference each value of rows (n, width) is, shape (n, F). Only where there is one."""
        assert self._histogram is not None  # noqa: S101  # the caller's promise
        return self._histogram.bins_of(usable(rows, len(self._active)))

    @property
    def shape(self) -> tuple[int, int]:
        """Columns and bins of the reference; zero where there is none."""
        return (0, 0) if self._histogram is None else (len(self._active), self._histogram.width)

    def observe(
        self, block: Block, schema: Schema, sample: BlockSample | None = None, losses: LossByBin | None = None
    ) -> list[Finding]:
        """Judge one whole block. Columns behind the reference's are not looked at.

        `losses`: how the loss went by bin, where that is known; the block's sample is added to it.
        """
        if self._histogram is None or not len(self._active):
            return []
        bins = self.bins_of(block.rows)
        counts = self._histogram.count_bins(bins)
        if sample is not None and losses is not None:
            losses.insert(sample, bins)
        self._losses = losses
        self._starts.append(block.start)
        self._blocks += 1
        self._window.add(counts)
        self._shown = None
        verdict = self._test.update(counts)
        ratio = None
        drifted = verdict.drifted
        if self._settings.fixed_threshold is not None:
            ratio = self._ratios(self._window.counts)
            drifted = ratio >= 1.0 if self._window.is_full else np.zeros_like(self._active)
        drifted = drifted & schema.wanted[: len(drifted)]
        new = drifted & ~self._active
        if new.any():
            return [self._report(block, schema, verdict, new, drifted & self._active)]
        if self._active.any() and self._is_over(counts, ratio):
            return [self._settle(block)]
        return []

    def _is_over(self, counts: Counts, ratio: Float | None) -> bool:
        """Say whether the columns that drifted agree with the reference again."""
        ratio = self._ratios(self._window.counts) if ratio is None else ratio
        if not self._window.is_full or (ratio[self._active] >= 1.0).any():
            self._recovery.restart()
            return False
        if not self._recovery.add(counts):
            return False
        if (self._ratios(self._recovery.counts)[self._active] >= 1.0).any():
            self._recovery.restart()
            return False
        return True

    def _settle(self, block: Block) -> Finding:
        columns = int(self._active.sum())
        self._test.restart(self._active)
        self._active = np.zeros_like(self._active)
        return Finding(
            sequence=block.end.sequence,
            time_ms=block.end.watermark_ms,
            kind=self._kind,
            subject=self._subject,
            level=Level.STABLE,
            resolution=f"the current window agrees with the reference again in all {columns} that had drifted",
        )

    def _report(self, block: Block, schema: Schema, verdict: FeatureDrift, new: Bool, known: Bool) -> Finding:
        """Tell of columns that drifted; the ones that were known to, and still do, in a second piece of evidence."""
        ratio = self._statistics(self._window.counts)
        beyond = ratio[0] >= ratio[1]
        known = known & beyond
        first = self._evidence(block, schema, verdict, new, ratio)
        counts = int((new & beyond).sum()), int((new & ~beyond).sum())
        evidence = [first]
        if known.any():
            evidence.append(self._evidence(block, schema, verdict, known, ratio))
        assert first.change_point is not None  # noqa: S101  # evidence of drift always has one
        took = self._blocks - self._change_block(verdict, new)
        self._active = self._active | new
        self._recovery.begin(max(self._settings.window_blocks, took))
        return Finding(
            sequence=block.end.sequence,
            time_ms=block.end.watermark_ms,
            kind=self._kind,
            subject=self._subject,
            level=Level.DRIFT,
            evidence=tuple(evidence),
            summary=summarise_drift(self._moved(block, schema, first, counts, counts[0] + int(known.sum())), first),
            change_time_ms=first.change_point.event_time_ms,
        )

    def _moved(self, block: Block, schema: Schema, first: Evidence, new: tuple[int, int], total: int) -> Moved:
        """Put together what the summary says. `new`: how many columns are new, beyond their threshold and not."""
        columns = [schema.names.index(feature.feature) for feature in first.features]
        named = [
            (schema.names[column], self._move(block, schema, column).clause(schema.names[column]))
            for column in columns[: min(new[0], NAMED) or NAMED]
        ]
        pairs = swapped(self._reference_histogram, usable(block.rows, len(self._active)), columns)
        return Moved(named, *new, total, [(schema.names[one], schema.names[other]) for one, other in pairs])

    def _move(self, block: Block, schema: Schema, column: int) -> Move:
        return move_of(self._reference_histogram, schema, block.rows, column, self._before[column])

    @property
    def _reference_histogram(self) -> ReferenceHistogram:
        assert self._histogram is not None  # noqa: S101  # a block is judged against one
        return self._histogram

    def _evidence(
        self, block: Block, schema: Schema, verdict: FeatureDrift, columns: Bool, ratio: tuple[Float, Float]
    ) -> Evidence:
        chosen = mask_to_list(columns)
        change = self._change_block(verdict, columns)
        association = self._association(block, self._blocks - change)
        contributions = self._contributions(block, schema, chosen, ratio, association)
        start = self._start_of(change)
        statistic, threshold = contributions[0].statistic, contributions[0].threshold
        if self._settings.fixed_threshold is None:
            # The strongest of the k columns that e-BH rejected needed ln(A F / k).
            statistic = float(verdict.log_e[chosen].max())
            threshold = verdict.log_threshold - float(np.log(max(int(verdict.drifted.sum()), 1)))
        return Evidence(
            detector=NAME if self._settings.fixed_threshold is None else self._settings.statistic,
            subject=self._subject,
            statistic=statistic,
            threshold=threshold,
            sample_count=self._block_events * len(self._window),
            reference_count=self._histogram.sample_count if self._histogram else None,
            change_point=ChangePoint(
                sample_index=start.row, event_time_ms=start.time_ms, prediction_offset=start.offset
            ),
            before=contributions[0].before,
            after=contributions[0].after,
            features=contributions,
        )

    def _contributions(
        self,
        block: Block,
        schema: Schema,
        columns: list[int],
        ratio: tuple[Float, Float],
        association: Association | None,
    ) -> tuple[FeatureContribution, ...]:
        statistic, threshold = ratio
        ranked = sorted(columns, key=lambda column: (-statistic[column] / threshold[column], column))[:TOP_FEATURES]
        moves = [self._move(block, schema, column) for column in ranked]
        return tuple(
            FeatureContribution(
                feature=schema.names[column],
                statistic=float(statistic[column]),
                threshold=float(threshold[column]),
                before=move.before,
                after=move.after,
                beyond=bool(statistic[column] >= threshold[column]),
                loss_association=None if association is None else float(association.change[column]),
                loss_association_low=None if association is None else float(association.low[column]),
                loss_association_high=None if association is None else float(association.high[column]),
            )
            for column, move in zip(ranked, moves, strict=True)
        )

    def _association(self, block: Block, since: int) -> Association | None:
        """Give each column's association with the change in loss, by the blocks since the estimated change alone."""
        if self._losses is None or self._histogram is None:
            return None
        return self._losses.association(self._histogram.counts, self._window.latest(since), block.end.sequence)

    def _change_block(self, verdict: FeatureDrift, columns: Bool) -> int:
        """Say how many blocks came before the change of the column with the most evidence among these."""
        if self._settings.fixed_threshold is not None:
            return self._blocks - len(self._window)
        strongest = next(column for column in verdict.ranking.tolist() if columns[column])
        return int(verdict.change_block[strongest])

    def _start_of(self, blocks_before: int) -> BlockStart:
        oldest = self._blocks - len(self._starts)
        return self._starts[min(max(blocks_before - oldest, 0), len(self._starts) - 1)]

    # -- distances

    def _statistics(self, counts: Counts) -> tuple[Float, Float]:
        """Give the distance of counts from the reference and its threshold, shape (F,) each."""
        histogram, name = self._histogram, self._settings.statistic
        assert histogram is not None  # noqa: S101  # observe has looked
        statistic = distance(name, histogram.counts, counts, histogram)
        fixed = self._settings.fixed_threshold
        if fixed is not None:
            return statistic, np.full(len(statistic), fixed)
        limits = thresholds(name, histogram.counts, counts, histogram, THRESHOLD_ALPHA)
        # A column whose distance has no spread at all (a constant that stays one) has a threshold of 0 or infinity.
        return statistic, np.where(np.isfinite(limits) & (limits > 0), limits, np.finfo(np.float64).max)

    def _ratios(self, counts: Counts) -> Float:
        statistic, threshold = self._statistics(counts)
        return statistic / threshold

    def drift(self, schema: Schema) -> dict[str, float | None]:
        """Give per column the distance of the current window divided by its threshold; null where nothing is known."""
        if self._histogram is None:
            return {}
        wanted = mask_to_list(schema.wanted[: len(self._active)])
        if not len(self._window):
            return {schema.names[column]: None for column in wanted}
        if self._shown is None:
            self._shown = self._ratios(self._window.counts)
        # A column that had no value in the reference, and has none now, has no distance: 0 would say that it is near.
        both = self._histogram.counts + self._window.counts
        known = both[:, :MISSING].sum(axis=1) > 0
        return {schema.names[column]: float(self._shown[column]) if known[column] else None for column in wanted}

    # -- state

    @property
    def size_bytes(self) -> int:
        """Bytes of what is kept of the reference and the current window: columns x bins, several times."""
        if self._histogram is None:
            return 0
        columns, width = self.shape
        tables = _TABLES + len(self._window)
        return self._test.size_bytes + columns * (8 * width * tables + _COLUMN_BYTES)

    def snapshot(self) -> DriftState:
        """Give everything that is needed to go on elsewhere. `reference` changes only when it is learnt anew."""
        if self._histogram is None:
            return {"version": _VERSION, "reference": None}
        return {
            "version": _VERSION,
            "reference": self.reference(),
            "block_events": self._block_events,
            "test": self._test.snapshot(),
            "window": self._window.snapshot(),
            "recovery": self._recovery.snapshot(),
            "starts": list(self._starts),
            "blocks": self._blocks,
            "active": mask_to_list(self._active),
        }

    def restore(self, state: DriftState) -> None:
        """Take over a snapshot. Raises StateError when it is newer than this code.

        The settings of this monitor hold, save the size of a block, the number of bins and of categories, which belong
        to the reference and change when it is learnt anew.
        """
        require_version(state, _VERSION, "drift monitor")
        self._histogram = None
        if state["reference"] is None:
            return
        self._block_events = state["block_events"]
        histogram = ReferenceHistogram.restore(state["reference"]["histogram"])
        budget = self._settings.expected_events_between_false_incidents
        test = FeatureDriftTest.restore(state["test"] | {"expected_events_between_false_incidents": budget}, histogram)
        self._adopt(histogram, list(state["reference"]["before"]), test)
        self._window.restore(state["window"])
        self._recovery.restore(state["recovery"])
        self._starts.extend(BlockStart(*start) for start in state["starts"])
        self._blocks = state["blocks"]
        self._active[state["active"]] = True
