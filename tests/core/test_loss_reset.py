"""After a person's reset the loss is watched as from a new beginning, but outcomes keep their numbers."""

import orjson

from schemas.outputs import Alert
from tests.core.stream import START_MS, Driver, Source, drifting


def test_a_change_behind_a_reset_is_estimated_where_it_was() -> None:
    stream = drifting(3000, 2300, after=0.6)
    reset = orjson.dumps({"type": "reset_monitor", "model_id": "m0", "event_time_ms": START_MS + 120_000})
    outputs = Driver(Source([reset], stream.predictions, stream.labels)).run()
    told = [found for found in outputs if isinstance(found, Alert) and found.kind == "concept_drift"]
    (alert,) = [found for found in told if found.notify]
    point = alert.evidence[0].change_point
    assert point is not None
    assert point.prediction_offset is not None
    assert 2200 < point.prediction_offset < 2350
    assert float(alert.evidence[0].after or 0) > 0.4
