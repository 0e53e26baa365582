"""FHDDM, the fast Hoeffding drift detection method: a window of errors against the best such window.

Pesaranghader and Viktor, "Fast Hoeffding drift detection method for evolving data streams", ECML PKDD 2016.
"""

import math
from typing import Annotated, Any, ClassVar

import msgspec
import numpy as np

from detectors.columns import accumulated, first_marked
from detectors.incremental import Incremental, Rule
from detectors.parameters import Probability, checked
from detectors.protocol import Domain, Level, Progress, Values, Verdict


class Body(msgspec.Struct, forbid_unknown_fields=True):
    """The values in the window, oldest first, and the fewest errors that a full window ever held."""

    count: int = 0
    window: list[int] = []
    fewest: int = -1
    """-1 until a window is full."""
    level: Level = Level.STABLE


class WindowRule:
    """The rule of `FHDDM`: whole numbers only."""

    def __init__(self, parameters: dict[str, Any]) -> None:
        self.body = Body()
        self._size: int = parameters["window_size"]
        # The fewest errors more than the best window had that reach the threshold: comparisons are exact from here on.
        threshold = _threshold(parameters)
        self._excess = next(k for k in range(1, self._size + 1) if k / self._size >= threshold)

    def scan(self, values: list[float]) -> Progress:
        """Take values one after the other, up to the first that drifts."""
        return self.block(np.array(values, dtype=np.float64))

    def block(self, values: Values) -> Progress:
        """Take a column, up to the first value that drifts."""
        body, size = self.body, self._size
        held = np.concatenate((np.array(body.window, dtype=np.float64), values))
        sums = accumulated(0.0, held)
        before = len(body.window)
        ends = np.arange(before + 1, len(held) + 1)
        full = ends >= size
        errors = np.where(full, sums[ends] - sums[np.maximum(ends - size, 0)], np.inf)
        known = np.inf if body.fewest < 0 else float(body.fewest)
        fewest = np.minimum.accumulate(np.concatenate(([known], errors)))[1:]
        new = full & (errors <= fewest)
        drifts = full & ~new & (errors - np.where(full, fewest, 0.0) >= self._excess)
        first = first_marked(drifts)
        last = first if first >= 0 else len(values) - 1
        if np.isfinite(fewest[last]):
            body.fewest = int(fewest[last])
        body.count += last + 1
        body.window = held[max(0, before + last + 1 - size) : before + last + 1].astype(np.int64).tolist()
        body.level = Level.DRIFT if first >= 0 else Level.STABLE
        return Progress(last + 1, body.level)

    def verdict(self) -> Verdict:
        """Say the level. The change is put within the window, and `mean` is the window's error rate."""
        body = self.body
        full = len(body.window) == self._size
        errors = sum(body.window)
        return Verdict(
            level=body.level,
            statistic=(errors - body.fewest) / self._size if full else 0.0,
            threshold=self._excess / self._size,
            sample_count=body.count,
            change_point=self._change_point() if body.level is Level.DRIFT else None,
            mean=errors / len(body.window) if body.window else None,
        )

    def _change_point(self) -> int:
        """Put the change where the errors began to come faster than halfway between the best and the present rate."""
        body = self.body
        halfway = (body.fewest + sum(body.window)) / (2.0 * self._size)
        excess = accumulated(0.0, np.array(body.window, dtype=np.float64) - halfway)
        return body.count - len(body.window) + int(np.argmin(excess))


class FHDDM(Incremental):
    """A drift when the last `window_size` values hold that many more errors than the best such window did.

    The difference of the two error rates is the statistic, sqrt(ln(1/`confidence`) / (2 `window_size`)) the threshold,
    rounded up to a whole number of errors. river's `FHDDM` watches for a FALL of its input: fed with 1 for a correct
    prediction it is this rule, fed with errors as it asks it alarms when the model improves.

    State: one window of zeros and ones.
    """

    name: ClassVar[str] = "fhddm"
    domain: ClassVar[Domain] = "bernoulli"

    def __init__(
        self,
        *,
        window_size: Annotated[int, msgspec.Meta(ge=10, le=4096)] = 300,
        confidence: Probability = 1e-9,
    ) -> None:
        parameters = checked(FHDDM, {"window_size": window_size, "confidence": confidence})
        if _threshold(parameters) > 1.0:
            raise ValueError(f"$.window_size: expected enough for {confidence}: {window_size} errors would be no drift")
        self._begin(parameters)

    def _rule_for(self, parameters: dict[str, Any]) -> Rule:
        return WindowRule(parameters)


def _threshold(parameters: dict[str, Any]) -> float:
    """Give the difference of two error rates that Hoeffding's inequality allows."""
    size: int = parameters["window_size"]
    return math.sqrt(math.log(1.0 / parameters["confidence"]) / (2.0 * size))
