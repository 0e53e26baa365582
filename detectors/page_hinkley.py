"""Page-Hinkley: a cumulative sum chart around the running mean.

Page, Biometrika 41, 1954; Hinkley, "Inference about the change-point from cumulative sum tests", Biometrika 58, 1971.
"""

from typing import Annotated, Any, ClassVar, Literal

import msgspec

from detectors.floored_sums import SumRule
from detectors.incremental import Incremental, Rule
from detectors.page_hinkley_classic import ClassicRule
from detectors.parameters import RunLength, checked
from detectors.protocol import Domain


class PageHinkley(Incremental):
    """Sums up how far values lie above the mean of all values before them, floored at zero.

    Values are divided by the standard deviation of the first `reference_size` of them, so that the scale of the stream
    does not matter (in river a shift of two deviations is never found at a hundredth of the scale, and gives 166 false
    alarms in 5,000 at a hundred times). The sum is S <- max(0, S + z - k), k the `allowance` plus 1.645 standard
    errors of the running mean: without the floor, as in MOA, a stable past must first be climbed out of. It drifts at
    the threshold calibrated to `run_length`, the mean number of values between false alarms, as in `CUSUM`. Unlike
    there, the mean goes on learning, so that a slow trend is followed and not reported. Statistic: S over the
    threshold; threshold 1.

    With `compat="river"` the rule is river 0.26's, index for index, with its parameters `min_instances`, `delta`,
    `threshold`, `alpha`, which mean nothing otherwise; `direction` is its `mode`, by default "both".

    State: two dozen numbers.
    """

    name: ClassVar[str] = "page_hinkley"
    domain: ClassVar[Domain] = "real"

    def __init__(
        self,
        *,
        reference_size: Annotated[int, msgspec.Meta(ge=30, le=1_000_000)] = 500,
        allowance: Annotated[float, msgspec.Meta(ge=0.01, le=5.0)] = 0.1,
        run_length: RunLength = 50_000.0,
        direction: Literal["up", "down", "both"] | None = None,
        compat: Literal["river"] | None = None,
        min_instances: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 30,
        delta: Annotated[float, msgspec.Meta(ge=0.0, le=1e6)] = 0.005,
        threshold: Annotated[float, msgspec.Meta(ge=0.0, le=1e9)] = 50.0,
        alpha: Annotated[float, msgspec.Meta(gt=0.0, le=1.0)] = 0.9999,
    ) -> None:
        given = {
            "reference_size": reference_size,
            "allowance": allowance,
            "run_length": run_length,
            "direction": direction or ("both" if compat == "river" else "up"),
            "compat": compat,
            "min_instances": min_instances,
            "delta": delta,
            "threshold": threshold,
            "alpha": alpha,
        }
        self._begin(checked(PageHinkley, given))

    def _rule_for(self, parameters: dict[str, Any]) -> Rule:
        return ClassicRule(parameters) if parameters["compat"] == "river" else SumRule(parameters, is_running=True)
