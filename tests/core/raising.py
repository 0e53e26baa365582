"""A core that raises, always at the same: at predictions and labels that say so, or in a model's timers."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import pytest
import structlog

from service.core.loss_feed import NEVER
from service.core.model import ModelMonitor
from service.core.task import Task
from service.core.version_batch import VersionBatch

POISON = 666.0
"""Latency of a prediction at which its model's monitor raises."""


class Burst(RuntimeError):  # noqa: N818  # what a bug raises is named as it likes
    """What a monitor raises."""


def raise_at_poison(patch: pytest.MonkeyPatch, ticks: Mapping[str, int] | None = None) -> None:
    """Let monitors raise at a prediction of the latency POISON, and in the timers of the models in `ticks`.

    `ticks`: by model, the event time from which on.
    """
    since = ticks or {}
    observe, tick = ModelMonitor.observe, ModelMonitor.tick

    def raising(self: ModelMonitor, model_version: str, batch: VersionBatch) -> object:
        if batch.predictions is not None and np.any(batch.predictions.latency_ms == POISON):
            raise Burst("poisoned")
        return observe(self, model_version, batch)

    def ticking(self: ModelMonitor, now_ms: int, sequence: int) -> object:
        if now_ms >= since.get(self._model.model_id, NEVER):
            raise Burst("out of time")
        return tick(self, now_ms, sequence)

    patch.setattr(ModelMonitor, "observe", raising)
    patch.setattr(ModelMonitor, "tick", ticking)


@contextmanager
def quiet() -> Iterator[None]:
    """Write no log: the pictures of failures that a test's log shows are slow to draw, and each failure is wanted."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        yield
    finally:
        structlog.configure(**before)


def observed(task: Task, model_id: str) -> int:
    """Count the predictions that a model's monitors have taken in."""
    monitor = task.models.get(model_id)
    return 0 if monitor is None else sum(version.counts.values["predictions"] for version in monitor.versions.values())
