"""What an `OutcomeWindow` gives: the columns of one window, and what is known since a change point."""

from typing import NamedTuple

from service.core.columns import Bool, Float, Int


class WindowColumns(NamedTuple):
    """Outcomes of one window, in the order in which they became whole. Shape (n,) each."""

    number: Int
    """Running number of the outcome in its window's life, from 0."""
    watermark_ms: Int
    """Event time at which the outcome became whole; never falls."""
    actual: Float
    predicted: Float
    score: Float
    """NaN where absent."""
    weight: Float
    loss: Float
    probabilities: Float | None
    """Shape (n, K), in the order of class codes, NaN where absent; None where no outcome has any."""
    truncated: bool
    """The window asked for outcomes that are no longer kept."""

    def where(self, keep: Bool) -> "WindowColumns":
        """Give the rows that are to be kept."""
        return WindowColumns(
            self.number[keep],
            self.watermark_ms[keep],
            self.actual[keep],
            self.predicted[keep],
            self.score[keep],
            self.weight[keep],
            self.loss[keep],
            None if self.probabilities is None else self.probabilities[keep],
            self.truncated,
        )


class Since(NamedTuple):
    """What a window knows of the outcomes from a change point on: what a training window is made of."""

    outcomes: int
    """Outcomes since then that are still kept."""
    first_number: int
    """The first of them; later than asked for where truncated."""
    whole_ms: int | None
    """Watermark at which the first of them became whole: when its label, or its prediction, came."""
    prediction_offsets: tuple[int, int] | None
    """Least and greatest; both are in use, so the end of an offset range is one more."""
    label_offsets: tuple[int, int] | None
    """Likewise. A correction brings the offset of its own label."""
    mean_loss: float | None
    """Mean of their losses, each outcome counting once; None where there is none."""
    truncated: bool
    """Some outcomes since then are no longer kept: the ranges begin too late."""
