"""Of which class a model's scores speak, as far as its profile or its events say so."""

from typing import Literal, TypedDict

from service.core.metrics.scores import ScoreReading


class SaidScoresState(TypedDict):
    """The snapshot of SaidScores."""

    said: str | None
    style: Literal["class", "answer"] | None


class SaidScores:
    """The class that was said first is the model's: a score that speaks of another one gets a minus sign.

    A model may say the same class each time, which then is its positive one, or the class that it answered. Which of
    the two is known once a class was said that was not the answer, or once a second class was said. Whoever asks in the
    middle of a step asks for what was known before a record. `positive`: the positive class of the profile.
    """

    def __init__(self, positive: str | None) -> None:
        self._positive = positive
        self._said: str | None = None
        self._style: Literal["class", "answer"] | None = None
        self._said_at = self._style_at = -1
        """Number of the record that said it; -1: of an earlier step."""

    @property
    def name(self) -> str | None:
        """The class that scores without a minus sign speak of."""
        return self._positive if self._said is None else self._said

    def turns(self, name: str, answered: str | None, sequence: int) -> bool:
        """Take note of the class that a record's score speaks of; say whether its score gets a minus sign.

        `answered`: None where the answer had no part in the choice of the class. Numbers must not fall.
        """
        if self._said is None:
            self._said, self._said_at = self.name or name, sequence
        if self._style is None:
            if name != answered:
                self._style, self._style_at = "class", sequence
            elif name != self._said:
                self._style, self._style_at = "answer", sequence
        return name != self._said

    def reading(self, sequence: int) -> ScoreReading | None:
        """Say how scores are read, as known before the record with this number; None where nobody has said."""
        if self._said is None or self._said_at >= sequence:
            why = "positive_label of the profile"
            return None if self._positive is None else ScoreReading(self._positive, self._positive, why)
        style = None if self._style_at >= sequence else self._style
        if self._positive is not None or style == "class":
            return ScoreReading(self._positive or self._said, self._said, "said by events")
        if style == "answer":
            return ScoreReading(None, self._said, "said by events, of each answer anew", is_of_answers=True)
        return ScoreReading(None, self._said, "said by events, so far only of the class answered", undecided=True)

    def snapshot(self) -> SaidScoresState:
        """Give it as plain data."""
        return {"said": self._said, "style": self._style}

    def restore(self, state: SaidScoresState) -> None:
        """Take over a snapshot. Signs were given by what was said then, whatever the profile says now."""
        self._said, self._style = state["said"], state["style"]
