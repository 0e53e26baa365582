"""Of which class a binary model's scores speak: what was said, else what its answers show.

Where nobody says, a score may be the probability of one class (scikit-learn's `predict_proba(X)[:, 1]`) or the
confidence in whatever was answered. Answers tell the three apart, at any threshold:

1. Of answers of both classes at least 98 % carry one half or more: confidence in the answer.
2. Let S be the chance that a score beside the greater class is above one beside the other (ties count half). S is at
   least 0.75: the greater class. At most 0.25: the other one.
3. Only one class is answered, and at least 90 % of its scores are below one half: the other class.
4. None of these for `MANY` answers: the class that alone is answered where its scores are never low, else the greater.

Counts are whole numbers of answers by class and bin, so that nothing depends on where batches were cut.
"""

from typing import Final, Literal, NamedTuple

import numpy as np

from service.core.columns import Float, Int

ENOUGH: Final = 5
"""Answers of each class from which rules 1 and 2 speak."""
ENOUGH_OF_ONE: Final = 20
"""Answers of the one class from which rule 3 speaks."""
MANY: Final = 200
"""Answers after which the rules have had their chance; as many must contradict what holds before that is told."""

_LOW_SHARE: Final = 0.02
_SEPARATED: Final = 0.75
_MOSTLY: Final = 0.9

ANSWER: Final = "(answer)"
"""Stands for the class that was answered, whichever that is."""

Speaks = int | Literal["answer"]
"""Code of the class that scores speak of, or that it is the class answered."""


class ScoreReading(NamedTuple):
    """How a binary model's scores are read, and which class is its positive one."""

    positive: str | None = None
    """The positive class; None: the greater of the first two names."""
    speaks_of: str | None = None
    """Name of the class that scores speak of, or ANSWER; None: the positive class."""
    reason: str = ""
    """Who says so, for a person."""
    is_of_answers: bool = False
    """Each event says anew of which class its score speaks, as it answers."""
    undecided: bool = False
    """Scores came, and nobody can say yet of which class: what hangs on that is null."""


USUAL: Final = ScoreReading()
"""The greater of two names is positive, and scores speak of it."""
UNDECIDED: Final = ScoreReading(reason="too few answers with a score so far to tell", undecided=True)


class Shown(NamedTuple):
    """What answers show, and why."""

    speaks: Speaks
    reason: str
    is_assumed: bool = False
    """By rule 4: they do not really tell."""


def shown_by_answers(counts: Int, greater: int) -> Shown | None:
    """Tell from answers of which class scores speak; None: too few so far, or they do not tell.

    `counts`: answers by code of the class answered (the first two) and bin of the score, shape (2, bins), bins even.
    `greater`: code of the class with the greater name, which is the usual positive one.
    """
    totals = counts.sum(axis=1)
    answers, low = int(totals.sum()), int(counts[:, : counts.shape[1] // 2].sum())
    lone = int(np.argmax(totals))
    if int(totals.min()) >= ENOUGH:
        if low <= _LOW_SHARE * answers:
            return Shown("answer", f"of {answers:,} answers of both classes {answers - low:,} score one half or more")
        above = _chance_above(counts[greater], counts[1 - greater])
        if not 1.0 - _SEPARATED < above < _SEPARATED:
            speaks = greater if above >= _SEPARATED else 1 - greater
            share = above if speaks == greater else 1.0 - above
            return Shown(speaks, f"of {answers:,} answers it scores the higher in {share:.0%} of pairs")
    elif answers >= ENOUGH_OF_ONE and low >= _MOSTLY * answers:
        return Shown(1 - lone, f"of {answers:,} answers of the other class {low:,} score below one half")
    if answers < MANY:
        return None
    if low <= _LOW_SHARE * answers:
        return Shown(lone, f"{answers:,} answers, nearly all of it, score one half or more", is_assumed=True)
    reason = f"assumed, as the greater of two names: {answers:,} answers do not tell"
    return Shown(greater, reason, is_assumed=True)


def _chance_above(scores: Int, others: Int) -> float:
    """Give the chance that one of `scores` is above one of `others`, both counts by bin; ties count half."""
    below = np.cumsum(others) - others
    won = int((scores * (2 * below + others)).sum())
    return won / (2 * int(scores.sum()) * int(others.sum()))


def positive_scores(score: Float, predicted: Float, reading: ScoreReading, positive: str, code: int) -> Float:
    """Give the probability of the positive class, shape (n,), NaN where absent.

    `score`: as it came, with a minus sign where it speaks of the other class than the reading's; `positive` and `code`
    name the positive class.
    """
    turned = np.signbit(score)
    value = np.abs(score)
    if reading.speaks_of == ANSWER:
        turned = turned ^ (predicted != code)
    elif reading.speaks_of not in (None, positive):
        turned = ~turned
    return np.where(turned, 1.0 - value, value) if turned.any() else value
