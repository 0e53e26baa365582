"""Whether the labels of a model come as they use to: none ever, no more, fewer, too late, or of other predictions.

Labels are judged by the predictions that wait for them. A prediction is *due* once it is as old as nearly all labels
are when they come: 1.5 times the usual delay (the 95th percentile of the delays of the last 10,000 to 20,000 labels),
never longer than the label horizon. Coverage is the share of due predictions that have a label.

Once USUAL_LABELS labels of due predictions have told the usual coverage c, an e-process stands against a fall: each due
prediction multiplies it by c1 / c0 if it has a label and by (1 - c1) / (1 - c0) if not, with c0 = .8 c and c1 = .4 c;
it begins anew where it falls below 1, and speaks at 1e9. The mean of the factor is 1 where labels come with probability
c0 and less where they come with more, so that, as long as each prediction has its label with a probability of at least
c0 given all before it, at least 1e9 predictions lie between two false alarms in the mean (the e-CUSUM of Shin, Ramdas
and Rinaldo, 2024): labels need not be independent. That c is an estimate costs at most a little: c0 is more than one
standard error of it below. What it takes to speak where labels stop is 19 due predictions at c = 1, 142 at c = .3, 487
at c = .1 (`needed`). Labels that stop at s leave what was made from s - delay on without: it is due from s + .5 delays
on. So the alarm comes within 2 usual delays of s if as many predictions were made in 1.5 of them, else once they were.

Before coverage is known, a run of predictions is judged that are as old as the label horizon (or 1.5 usual delays):
FEW = 20 of them without a label, or as many more as coverage so far makes 20 labels to be expected.

All is counted on the model's own clock, its watermark; decisions fall at ticks alone, so that cuts of batches change
nothing. That clock says nothing of how long predictions waited where a history is written at once, its labels behind
it. So while no usual delay is known, nothing is missing before the join has let FEW predictions go, by its own horizon.
State: cells, two histograms, and numbers.
"""

from typing import Any, Final, NamedTuple, TypedDict

import numpy as np

from service.core.columns import Int
from service.core.findings import Finding
from service.core.inputs.versions import require_version
from service.core.label_evidence import ALARM, evidence
from service.core.label_words import Cause, LabelFacts, missing, restored
from service.core.labels_due import Cell, DueLabels, DueLabelsState
from service.core.layout import checked
from service.core.loss_feed import NEVER
from service.core.metrics.quantiles import QuantileHistogram, QuantileState
from service.core.settings import HOUR_MS, LabelSettings

USUAL_LABELS: Final = 50
"""Labels of due predictions that tell the usual coverage: then its standard error is at most a seventh of it."""
MEMORY: Final = 10_000
"""Predictions (or labels) after which the usual coverage (or delay) weighs what came before half as much, or less."""
DELAYS: Final = 20
"""Labels that tell the usual delay."""
FEW: Final = 20
"""Predictions, or labels, below which nothing is said."""
_EXPECTED: Final = 40.0
"""So many labels were to be expected since the last one came: were a fifth still coming, none would with e^-8."""
_EXPECTED_AT_ALARM: Final = 15.0
"""Likewise at the moment of the alarm, which comes with 19 of them in a row where labels stop."""
_SOME: Final = 5
"""Labels without a prediction, or late ones, that say why others are missing."""
_DUE_DELAYS: Final = 1.5
_CELLS: Final = 32
_HORIZON_CELLS: Final = 128
_MOST_WAITING: Final = 64
"""Batches that wait to be counted, and the size from which one is counted at once."""
_VERSION: Final = 1
_STRENGTH: Final = {Cause.FEWER: 1, Cause.ABSENT: 2, Cause.STOPPED: 2, Cause.UNMATCHED: 3, Cause.LATE: 4}
"""A cause gives way to one that says more."""


class Unmet(NamedTuple):
    """Labels of a stretch that did not meet their prediction, in order."""

    sequence: Int
    watermark_ms: Int
    prediction_ids: list[str]
    """What they say that they belong to."""

    def behind(self, sequence: int) -> "Unmet":
        """Give those behind the record with this number."""
        start = int(np.searchsorted(self.sequence, sequence, side="right"))
        return Unmet(self.sequence[start:], self.watermark_ms[start:], self.prediction_ids[start:])


class LabelFlowState(TypedDict):
    """The snapshot of a LabelFlow; `facts`: LabelFacts."""

    version: int
    cells: DueLabelsState
    delays: list[QuantileState]
    usual: tuple[int, int]
    score: float
    run: int
    fallen: tuple[int, int]
    told: str | None
    told_labels: int
    facts: dict[str, Any]
    checked_labels: int
    due_ms: int
    maturity_ms: int
    median_delay_ms: int


class LabelFlow:
    """Watches the labels of one model.

    Notes may come in any order between two checks; `check` is to be called at each tick from `due_ms` on.
    """

    def __init__(self, settings: LabelSettings, horizon_ms: int) -> None:
        self._settings = settings
        self._horizon_ms = horizon_ms
        self.reset()

    def reset(self) -> None:
        """Become as new."""
        width = max(self._horizon_ms // _HORIZON_CELLS, 1)
        self._cells = DueLabels(width)
        self._delays = [QuantileHistogram(), QuantileHistogram()]
        """Of the labels before, and of the last ones."""
        self._usual = [0, 0]
        """Due predictions by which coverage is known, and labelled ones among them."""
        self._score = 0.0
        """Logarithm of the e-process."""
        self._run = 0
        """Due predictions without a label, since the last one with one."""
        self._fallen = [0, 0]
        """Due predictions, and labelled ones, since the e-process rose above 1."""
        self._median_delay_ms = 0
        self._told: Cause | None = None
        self._told_labels = 0
        self._facts = LabelFacts(horizon_ms=self._horizon_ms)
        self._checked_labels = 0
        self._due_ms = NEVER
        self._waiting: list[Int] = []
        self._waiting_labels: list[Int] = []
        self._waiting_delays: list[Int] = []
        self._maturity_ms = self._horizon_ms - min(2 * width, self._horizon_ms // 2)
        self._choose_maturity()

    # ---------------------------------------------------------------------------------------------------- notes

    def note_predictions(self, time_ms: Int, watermark_ms: Int, first: tuple[int, str]) -> None:
        """Take answered predictions by event time and watermark, shape (n,); `first`: number and id of the first."""
        if not self._settings.expected or not len(time_ms):
            return
        facts = self._facts
        facts.predictions += len(time_ms)
        facts.first_ms = min(int(watermark_ms[0]), facts.first_ms if facts.first_ms is not None else NEVER)
        # The versions' shares of a stretch do not come in order.
        facts.prediction_example = min(facts.prediction_example, first, key=lambda example: example[0])
        usable = time_ms[time_ms >= watermark_ms - self._maturity_ms]
        if len(usable):
            self._due_ms = min(self._due_ms, self._cells.end_of(int(usable.min())) + self._maturity_ms)
            self._waiting.append(usable)
            self._settle_if(len(self._waiting), len(usable))

    def note_labels(self, prediction_time_ms: Int, watermark_ms: Int, label_time_ms: Int) -> None:
        """Take labels that met their prediction: its event time, the watermark at which both were there, and their own.

        A label was as long in coming as the later of both times says: the clock is some records behind.
        """
        if not self._settings.expected or not len(watermark_ms):
            return
        self._facts.labels += len(watermark_ms)
        self._facts.last_ms = max(int(watermark_ms[-1]), self._facts.last_ms or 0)
        first_ms = self._facts.first_label_ms
        self._facts.first_label_ms = int(watermark_ms[0]) if first_ms is None else min(int(watermark_ms[0]), first_ms)
        self._waiting_labels.append(prediction_time_ms)
        if not self._cells.is_judged(oldest_ms := int(prediction_time_ms.min())):
            self._due_ms = min(self._due_ms, self._cells.end_of(oldest_ms) + self._maturity_ms)
        delay_ms = np.maximum(watermark_ms, label_time_ms) - prediction_time_ms
        self._waiting_delays.append(delay_ms)
        self._settle_if(len(self._waiting_labels), len(watermark_ms))
        known = self._delays[1].count + sum(map(len, self._waiting_delays))
        if self._facts.usual_delay_ms is None and known >= DELAYS:
            self._due_ms = min(self._due_ms, max(int(watermark_ms[-1]), self._facts.told_from_ms))

    def note_gone(self, predictions: int) -> None:
        """Take the number of predictions that have left the join without a label."""
        self._facts.gone += predictions
        if self._settings.expected and self._facts.usual_delay_ms is None and not self._patient():
            self._due_ms = 0

    def note_unmatched(self, labels: Unmet) -> None:
        """Take labels for which there is no prediction, so far."""
        facts = self._facts
        if not self._settings.expected or not labels.prediction_ids:
            return
        if not facts.unmatched:
            facts.unmatched_first_ms, facts.label_example = int(labels.watermark_ms[0]), labels.prediction_ids[0]
        facts.unmatched += len(labels.prediction_ids)
        if not facts.labels and facts.unmatched >= FEW:
            self._due_ms = min(self._due_ms, self._patience_ends_ms())

    def note_late(self, labels: Unmet, made_ms: Int, repeated: int = 0) -> None:
        """Take labels that came when their prediction, made at `made_ms`, was not waited for any more.

        They were noted as unmatched before, as were `repeated` ones that told nothing new.
        """
        facts = self._facts
        facts.unmatched = max(facts.unmatched - len(labels.prediction_ids) - repeated, 0)
        if not self._settings.expected or not labels.prediction_ids:
            return
        if not facts.late:
            facts.late_first_ms, facts.late_example = int(labels.watermark_ms[0]), labels.prediction_ids[0]
        facts.late += len(labels.prediction_ids)
        facts.late_age_ms = max(facts.late_age_ms, int((labels.watermark_ms - made_ms).max()))
        if not facts.labels and facts.late >= FEW:
            self._due_ms = min(self._due_ms, int(labels.watermark_ms[-1]))

    def _patience_ends_ms(self) -> int:
        return (self._facts.unmatched_first_ms or 0) + min(self._horizon_ms, HOUR_MS)

    def _settle_if(self, batches: int, rows: int) -> None:
        if batches >= _MOST_WAITING or rows >= _MOST_WAITING:
            self._settle()

    def _settle(self) -> None:
        """Count what waits; the predictions first, for theirs are the cells."""
        if self._waiting:
            self._cells.add_predictions(np.concatenate(self._waiting))
            self._waiting.clear()
        if self._waiting_labels:
            self._cells.add_labelled(np.concatenate(self._waiting_labels))
            delays_ms = np.concatenate(self._waiting_delays).astype(np.float64)
            self._delays[1].add(np.clip(delays_ms, 0.0, self._horizon_ms))
            self._waiting_labels, self._waiting_delays = [], []

    # --------------------------------------------------------------------------------------------------- checks

    def due_ms(self) -> int:
        """Say at which watermark there is something to decide."""
        return self._due_ms

    def check(self, now_ms: int, sequence: int) -> list[Finding]:
        """Judge what is due; give what is new: that labels are missing and why, or that they come again."""
        if now_ms < self._due_ms:
            return []
        self._settle()
        if self._facts.labels > self._checked_labels:
            if not self._checked_labels:
                # What was due before the first label tells nothing of the share that gets one.
                self._usual, self._fallen = [0, 0], [0, 0]
            self._checked_labels = self._facts.labels
            self._run = self._facts.gone = 0
            if not self._score:
                self._facts.forget_unmet()
        for cell in self._cells.take(now_ms - self._maturity_ms):
            self._judge(cell)
        if self._delays[1].count >= MEMORY:
            self._delays = [self._delays[1], QuantileHistogram()]
        self._choose_maturity()
        findings = self._tell(now_ms, sequence)
        oldest = self._cells.oldest_end_ms
        self._due_ms = NEVER if oldest is None else max(oldest + self._maturity_ms, now_ms + 1)
        if not self._facts.labels and self._facts.unmatched >= FEW and self._told is None:
            self._due_ms = min(self._due_ms, max(self._patience_ends_ms(), now_ms + 1))
        return findings

    def _usual_delay_ms(self) -> int | None:
        """Give the delay within which 95 % of labels come; None while that is not known.

        It is known once labels have come for twice as long: in the beginning only short delays can be seen, and of
        labels that come all of a while at once the first lot shows no more than what has passed so far.
        """
        if self._settings.usual_delay_ms is not None:
            self._median_delay_ms = self._settings.usual_delay_ms
            return self._settings.usual_delay_ms
        facts, both = self._facts, QuantileHistogram()
        for part in self._delays:
            both.merge(part)
        delay, median = (both.quantile(q) if both.count >= DELAYS else None for q in (0.95, 0.5))
        if delay is None or median is None:
            return None
        self._median_delay_ms = int(median)
        if facts.usual_delay_ms is None:
            facts.told_from_ms = (facts.first_label_ms or 0) + int(2 * delay)
            if (facts.last_ms or 0) < facts.told_from_ms:
                return None
        return int(delay)

    def _choose_maturity(self) -> None:
        delay = self._facts.usual_delay_ms = self._usual_delay_ms()
        if delay is None:
            return
        self._maturity_ms = max(min(int(_DUE_DELAYS * delay), self._horizon_ms), 1)
        self._cells.resize(max(self._maturity_ms // _CELLS, 1000))

    def _patient(self) -> bool:
        """Whether it is too early to miss a label."""
        return self._told is None and self._facts.usual_delay_ms is None and self._facts.gone < FEW

    def _usual_coverage(self) -> float | None:
        due, labelled = self._usual
        return labelled / due if labelled >= USUAL_LABELS else None

    def _judge(self, cell: Cell) -> None:
        labelled = min(cell.labelled, cell.predictions)
        self._run = 0 if labelled else self._run + cell.predictions
        usual = self._usual_coverage()
        if usual is not None:
            self._score = min(max(self._score + evidence(usual, cell.predictions, labelled), 0.0), ALARM)
        self._fallen = [self._fallen[0] + cell.predictions, self._fallen[1] + labelled]
        if not self._score:
            # Not cell by cell: those with fewer labels make it rise, and would be left out.
            self._learn(*self._fallen)
            self._fallen = [0, 0]

    def _learn(self, predictions: int, labelled: int) -> None:
        self._usual = [self._usual[0] + predictions, self._usual[1] + labelled]
        if self._usual[0] > MEMORY and self._usual[1] >= 2 * USUAL_LABELS:
            self._usual = [self._usual[0] // 2, self._usual[1] // 2]

    def _tell(self, now_ms: int, sequence: int) -> list[Finding]:
        cause = self._cause(now_ms) if self._settings.expected else None
        told = self._told
        if cause is not None and told is not None and _STRENGTH[cause] <= _STRENGTH[told]:
            return []
        self._told, self._told_labels = cause, self._facts.labels
        self._facts.run, self._facts.usual_coverage = self._run, self._usual_coverage()
        self._facts.fallen = (self._fallen[0], self._fallen[1])
        findings = []
        if told is not None:
            findings.append(restored(told, cause, self._facts, now_ms, sequence))
        if cause is not None:
            findings.append(missing(cause, self._facts, *self._statistic(), now_ms, sequence))
        return findings

    def _statistic(self) -> tuple[float, float]:
        """Give what spoke, and the line that it reached."""
        if self._score >= ALARM:
            return self._score, ALARM
        if self._run >= self._enough():
            return float(self._run), self._enough()
        return float(max(self._facts.late, self._facts.unmatched)), float(FEW)

    def _cause(self, now_ms: int) -> Cause | None:
        """Say what is wrong now."""
        facts, usual = self._facts, self._usual_coverage()
        unmet = facts.labels == 0 and max(facts.late, facts.unmatched) >= FEW and facts.predictions >= FEW
        unmet = unmet and (facts.late >= FEW or now_ms >= self._patience_ends_ms())
        if usual is not None:
            wrong = self._score >= ALARM or (self._told is not None and self._score > 0.0)
        else:
            wrong = self._run >= self._enough() or (self._told is not None and facts.labels == self._told_labels)
        if not (unmet or (wrong and not self._patient())):
            return None
        if usual is not None and not self._stopped(usual, now_ms):
            return Cause.FEWER if self._told is None else self._told
        if facts.late >= max(_SOME, facts.unmatched):
            return Cause.LATE
        if facts.unmatched >= _SOME:
            return Cause.UNMATCHED
        return Cause.ABSENT if facts.labels == 0 else Cause.STOPPED

    def _stopped(self, usual: float, now_ms: int) -> bool:
        """Whether no label came for so long that some had to be expected, of predictions of the median age."""
        last_ms, delay_ms = self._facts.last_ms or 0, self._median_delay_ms
        if self._told is None and usual * self._run >= _EXPECTED_AT_ALARM:
            return True
        expected = usual * max(self._cells.made_between(last_ms - delay_ms, now_ms - delay_ms), self._run)
        return expected >= _EXPECTED

    def _enough(self) -> float:
        """Say how many due predictions in a row without a label are too many, where coverage is not known well."""
        due, labelled = self._usual
        return FEW * max(due - self._run, 1) / labelled if labelled else FEW

    # ---------------------------------------------------------------------------------------------------- state

    def snapshot(self) -> LabelFlowState:
        """Give everything that is needed to go on elsewhere."""
        self._settle()
        return {
            "version": _VERSION,
            "cells": self._cells.snapshot(),
            "delays": [part.snapshot() for part in self._delays],
            "usual": (self._usual[0], self._usual[1]),
            "score": self._score,
            "run": self._run,
            "fallen": (self._fallen[0], self._fallen[1]),
            "told": None if self._told is None else self._told.value,
            "told_labels": self._told_labels,
            "facts": self._facts.snapshot(),
            "checked_labels": self._checked_labels,
            "due_ms": self._due_ms,
            "maturity_ms": self._maturity_ms,
            "median_delay_ms": self._median_delay_ms,
        }

    def restore(self, state: LabelFlowState) -> None:
        """Take over a snapshot. Raises StateError when it is newer than this code."""
        require_version(state, _VERSION, "watch of labels")
        self._cells.restore(state["cells"])
        for part, held in zip(self._delays, state["delays"], strict=True):
            part.restore(held)
        self._usual = list(state["usual"])
        self._score, self._run, self._fallen = state["score"], state["run"], list(state["fallen"])
        self._told = None if state["told"] is None else Cause(state["told"])
        self._told_labels = state["told_labels"]
        self._facts = checked(state["facts"], LabelFacts)
        self._facts.horizon_ms = self._horizon_ms
        self._checked_labels = state["checked_labels"]
        self._due_ms, self._maturity_ms = state["due_ms"], state["maturity_ms"]
        self._median_delay_ms = state["median_delay_ms"]
