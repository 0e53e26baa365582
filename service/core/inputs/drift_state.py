"""What is stored of a monitor of columns against their reference."""

from typing import NotRequired, TypedDict

from detectors.feature_drift import FeatureTestState
from detectors.histogram import HistogramState
from service.core.inputs.blocks import BlockStart
from service.core.inputs.window import RecoveryState, RingState


class DriftReference(TypedDict):
    """What the reference window taught."""

    histogram: HistogramState
    before: list[float | str | None]


class DriftState(TypedDict):
    """The snapshot of a DriftMonitor. All but the first two are there once there is a reference."""

    version: int
    reference: DriftReference | None
    block_events: NotRequired[int]
    test: NotRequired[FeatureTestState]
    window: NotRequired[RingState]
    recovery: NotRequired[RecoveryState]
    starts: NotRequired[list[BlockStart]]
    blocks: NotRequired[int]
    active: NotRequired[list[int]]
