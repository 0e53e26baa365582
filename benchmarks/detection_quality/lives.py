"""A deployed model's stream through the whole program, as a file of rows: what is published of it."""

import asyncio
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from schemas.outputs import Alert, Output
from service.config import Config
from service.core.intake import Positions
from service.core.settings import DAY_MS, CoreSettings, ModelProfile
from service.replay.file_feed import FILE_END, FileRequest
from service.replay.mapping import ColumnMapping
from service.replay.plan import TaskPlan
from service.replay.run import Origin
from service.replay.session import Settings, replay_tasks
from service.replay.sinks import CallSink, Marks, Sink

STEP_MS = 10_000
START_MS = 946_684_800_000
"""2000-01-01T00:00:00Z: row n has the event time START_MS + n * STEP_MS."""
LABEL_DELAY = 100
"""Rows between a prediction and its label."""

Column = NDArray[Any]


def published(columns: Mapping[str, Column], core: CoreSettings | None = None) -> list[Output]:
    """Give everything that is published of a model whose rows are these, in order.

    `columns`: prediction and label, and columns that are features; each of shape (n,).
    """
    found: list[Output] = []

    async def make(plan: TaskPlan, marks: Marks | None) -> Sink:  # noqa: ARG001 - one task, from its beginning
        return CallSink(found.extend)

    config = Config()
    # Rows are ten seconds apart: a metric snapshot a minute would cost more than all else, and nothing is read of it.
    quiet = CoreSettings(default=ModelProfile(snapshot_interval_ms=DAY_MS))
    settings = Settings(core or quiet, config.runtime, config.topics)
    mapping = ColumnMapping(
        model_id="m", start_ms=START_MS, step_ms=STEP_MS, prediction="prediction", label="label", score=None
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.parquet"
        pq.write_table(pa.table({name: pa.array(values) for name, values in columns.items()}), path)
        request = FileRequest(path=str(path), mapping=mapping, label_delay_events=LABEL_DELAY)
        plan = TaskPlan(partition=0, start=Positions(0, 0, 0), end=Positions(0, FILE_END, FILE_END))
        origin = Origin(config.topics.inputs, file=request)
        asyncio.run(replay_tasks(settings, origin, [plan], make, None, lambda _: None))
    return found


def alerts(outputs: list[Output], kind: str) -> list[Alert]:
    """Give the alerts of one kind, in order."""
    return [output for output in outputs if isinstance(output, Alert) and output.kind == kind]


def row_of(time_ms: int) -> int:
    """Give the row whose outcome is known at an event time."""
    return (time_ms - START_MS) // STEP_MS - LABEL_DELAY


def classifier(rng: np.random.Generator, error_rate: NDArray[np.float64]) -> dict[str, Column]:
    """Make the answers and labels of a balanced classifier that errs at these rates, shape (n,)."""
    truth = rng.random(len(error_rate)) < 0.5
    wrong = rng.random(len(error_rate)) < error_rate
    return {"prediction": truth ^ wrong, "label": truth}
