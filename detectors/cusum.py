"""CUSUM, the cumulative sum chart: the fastest test of a known shift in mean, for its run length.

Page, "Continuous inspection schemes", Biometrika 41, 1954; Moustakides, Annals of Statistics 14, 1986, for its
optimality.
"""

from typing import Annotated, Any, ClassVar, Literal

import msgspec

from detectors.floored_sums import SumRule
from detectors.incremental import Incremental, Rule
from detectors.parameters import RunLength, checked
from detectors.protocol import Domain


class CUSUM(Incremental):
    """Sums up how far values lie above the reference's mean, floored at zero.

    Values are standardised by the first `reference_size` of them, then frozen: z. The sum is S <- max(0, S + z - k),
    with k the `allowance` (in standard deviations; half the shift that should be found fastest) plus 1.645 standard
    errors of the reference's mean. It drifts at the threshold that Siegmund's approximation gives for `run_length`,
    the mean number of values between false alarms, corrected for skewness. Statistic: S over that threshold; threshold
    1.

    State: two dozen numbers.
    """

    name: ClassVar[str] = "cusum"
    domain: ClassVar[Domain] = "real"

    def __init__(
        self,
        *,
        reference_size: Annotated[int, msgspec.Meta(ge=30, le=1_000_000)] = 1000,
        allowance: Annotated[float, msgspec.Meta(ge=0.01, le=5.0)] = 0.1,
        run_length: RunLength = 50_000.0,
        direction: Literal["up", "down", "both"] = "up",
    ) -> None:
        given = {
            "reference_size": reference_size,
            "allowance": allowance,
            "run_length": run_length,
            "direction": direction,
        }
        self._begin(checked(CUSUM, given))

    def _rule_for(self, parameters: dict[str, Any]) -> Rule:
        return SumRule(parameters, is_running=False)
