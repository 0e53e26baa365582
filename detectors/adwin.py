"""ADWIN, an adaptive window: the longest recent window in which no two parts differ in mean.

Bifet and Gavalda, "Learning from time-changing data with adaptive windowing", SDM 2007.
"""

from typing import Annotated, Any, ClassVar, Literal

import msgspec
import numpy as np

from detectors.adwin_cut import Boundary, CutRule, check, check_many
from detectors.columns import accumulated, column, few, first_marked, number
from detectors.exponential_histogram import insert, insert_few, pooled
from detectors.parameters import Probability, checked
from detectors.protocol import Domain, Level, Progress, State, StateError, Values, Verdict
from detectors.sealing import opened_body, opened_parameters, sealed

MOST_CHECKS = 64
"""Checks judged in one go: 64 checks of at most 50 bucket boundaries are some 3,000 numbers, which fit the cache."""

FEW_CHECKS = 6
"""Below this many blocks plain Python is faster: a block costs it 40 us, and numpy 250 us for any small number."""


class _Body(msgspec.Struct, forbid_unknown_fields=True):
    """`totals[r]` and `spreads[r]`: sum and sum of squared deviations of each bucket of 2^r values, oldest first."""

    totals: list[list[float]] = []
    spreads: list[list[float]] = []
    pending: list[float] = []
    total: float = 0.0
    spread: float = 0.0
    width: int = 0
    sample_count: int = 0
    statistic: float = 0.0
    newer: int = 0
    mean: float | None = None


class ADWIN:
    """Compares the means on both sides of every bucket boundary each `clock` values.

    With W values in the window of variance v, a boundary n0|n1 is a change when the means differ by at least
    sqrt(2 m v d) + 2/3 d m, where m = 1/(n0 - l + 1) + 1/(n1 - l + 1), l = `min_window_length` and
    d = ln(2 ln W / delta): theorem 3.2's bound as MOA and river compute it. The statistic is the largest ratio of
    difference to bound and the threshold 1; between checks both stand. `delta` bounds false alarms per check and not
    per run: see docs/detectors.md for measured run lengths.

    `rebase` drops what is older than the boundary of the largest ratio, until no boundary is a change, so that the
    newer window stays. With `compat="river"` it drops everything as river 0.26 does, and the indices of the drifts are
    river's.

    State: at most `max_buckets` buckets per power of two, so 160 numbers for 10^8 values, and up to `clock` pending.
    """

    name: ClassVar[str] = "adwin"
    domain: ClassVar[Domain] = "real"

    def __init__(
        self,
        *,
        delta: Probability = 0.002,
        clock: Annotated[int, msgspec.Meta(ge=1, le=1024)] = 32,
        max_buckets: Annotated[int, msgspec.Meta(ge=2, le=64)] = 5,
        min_window_length: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 5,
        grace_period: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 10,
        compat: Literal["river"] | None = None,
    ) -> None:
        self._configure(
            checked(
                ADWIN,
                {
                    "delta": delta,
                    "clock": clock,
                    "max_buckets": max_buckets,
                    "min_window_length": min_window_length,
                    "grace_period": grace_period,
                    "compat": compat,
                },
            )
        )
        self.reset()

    def _configure(self, parameters: dict[str, Any]) -> None:
        self._parameters = parameters
        self._max_buckets: int = parameters["max_buckets"]
        self._rule = CutRule(
            parameters["delta"], parameters["clock"], parameters["min_window_length"], parameters["grace_period"]
        )

    def update(self, value: float) -> Level:
        """Take one value and say the level after it."""
        self._wait([number(value, self.domain)])
        return self._level()

    def update_many(self, values: Values | list[float]) -> Progress:
        """Take values (shape (n,)) in order, stopping behind the first that drifts."""
        consumed, count, clock = 0, len(values), self._rule.clock
        if isinstance(values, list) and count < clock - len(self._body.pending) and self._level() is Level.STABLE:
            self._wait(few(values, self.domain))  # no check falls due
            return Progress(count, Level.STABLE)
        values = column(values, self.domain)
        while consumed < count:
            whole = (count - consumed) // clock
            if whole >= FEW_CHECKS and not self._body.pending and self._level() is Level.STABLE:
                consumed += self._absorb(values[consumed : consumed + min(whole, MOST_CHECKS) * clock])
            else:
                # While a drift stands each value drifts anew, so they are taken one by one.
                room = clock - len(self._body.pending) if self._level() is Level.STABLE else 1
                take = min(room, count - consumed)
                self._wait(values[consumed : consumed + take].tolist())
                consumed += take
            if self._level() is Level.DRIFT:
                break
        return Progress(consumed, self._level())

    def verdict(self) -> Verdict:
        """Say what the last check found. `mean` is that of the window, and at a drift that of its newer part."""
        body = self._body
        level = self._level()
        # After a rebase the window may reach back behind the first sample that is counted: then the change is at 0.
        change_point = max(0, body.sample_count - len(body.pending) - body.newer)
        return Verdict(
            level=level,
            statistic=body.statistic,
            threshold=1.0,
            sample_count=body.sample_count,
            change_point=change_point if level is Level.DRIFT else None,
            mean=body.mean,
        )

    def reset(self) -> None:
        """Become as new."""
        self._body = _Body()

    def rebase(self) -> None:
        """Drop what is older than the change, until no boundary is one; with `compat="river"`, drop everything."""
        if self._parameters["compat"] == "river":
            self.reset()
            return
        while self._level() is Level.DRIFT:
            self._keep_newest(self._body.newer)
        self._body.sample_count = 0

    def snapshot(self) -> State:
        """Give everything that is needed to go on elsewhere."""
        return sealed(self.name, self._parameters, self._body)

    def restore(self, state: State) -> None:
        """Take over a snapshot. Raises StateError when it is another detector's, a newer version's, or damaged."""
        parameters = opened_parameters(state, ADWIN, self.name)
        body = opened_body(state, self.name, _Body)
        if [len(row) for row in body.totals] != [len(row) for row in body.spreads]:
            raise StateError("the snapshot of adwin is damaged: $.totals and $.spreads differ in shape")
        if sum(len(row) << r for r, row in enumerate(body.totals)) != body.width:
            raise StateError("the snapshot of adwin is damaged: its buckets do not add up to $.width")
        self._configure(parameters)
        self._body = body

    def _level(self) -> Level:
        return Level.DRIFT if self._body.statistic >= 1.0 else Level.STABLE

    def _wait(self, values: list[float]) -> None:
        """Keep values until there are `clock` of them, then put them into buckets and check."""
        self._body.pending.extend(values)
        self._body.sample_count += len(values)
        if len(self._body.pending) == self._rule.clock:
            block, self._body.pending = self._body.pending, []
            self._absorb_one(block)

    def _absorb_one(self, block: list[float]) -> None:
        """Put `clock` values into buckets and check: `_absorb` of one block, bit for bit."""
        body = self._body
        width, total, spread = float(body.width), body.total, body.spread
        for value in block:
            away = value - total / width if width else value
            spread += width * away * away / (width + 1.0)
            width += 1.0
            total += value
        insert_few(body.totals, body.spreads, block, self._max_buckets)
        body.width, body.total, body.spread = int(width), total, spread
        self._note(check(self._rule, body.totals, total, spread, width))

    def _absorb(self, values: Values) -> int:
        """Put whole blocks of `clock` values into buckets up to the first check that drifts; give how many values."""
        body, clock = self._body, self._rule.clock
        spans = insert(body.totals, body.spreads, values, clock, self._max_buckets)
        totals = accumulated(body.total, values)
        widths = body.width + np.arange(len(values), dtype=np.float64)
        # Welford's update of the window's sum of squared deviations, in river's order of operations.
        away = values - totals[:-1] / np.maximum(widths, 1.0)
        spreads = accumulated(body.spread, widths * away * away / (widths + 1.0))
        ends = np.arange(clock, len(values) + 1, clock)
        found = check_many(self._rule, spans, totals[ends], spreads[ends], (body.width + ends).astype(np.float64))
        first = first_marked(found.statistic >= 1.0)
        last = first if first >= 0 else len(ends) - 1
        taken = (last + 1) * clock
        body.totals, body.spreads = spans.held(last)
        body.total, body.spread = float(totals[taken]), float(spreads[taken])
        body.width += taken
        body.sample_count += taken
        self._note(found.at(last))
        return taken

    def _note(self, found: Boundary) -> None:
        """Remember what one check found: it stands until the next."""
        body = self._body
        body.statistic, body.newer = found.statistic, int(found.newer)
        body.mean = found.mean if found.statistic >= 1.0 else body.total / body.width

    def _keep_newest(self, count: int) -> None:
        """Drop the oldest buckets until at most `count` values are left, and check what is left."""
        body = self._body
        while body.totals and body.width > count:
            body.width -= 1 << (len(body.totals) - 1)
            del body.totals[-1][0], body.spreads[-1][0]
            while body.totals and not body.totals[-1]:
                body.totals.pop()
                body.spreads.pop()
        body.width, body.total, body.spread = pooled(body.totals, body.spreads)
        self._note(check(self._rule, body.totals, body.total, body.spread, float(body.width)))
