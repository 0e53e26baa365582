"""When the inputs of Elec2 are found to drift: three of them stop being constant at row 17,424."""

from typing import Any

import numpy as np

from benchmarks.detection_quality.datasets import Labelled
from detectors.feature_drift import FeatureDriftTest
from detectors.histogram import ReferenceHistogram

REFERENCE = 2_000
BLOCK = 200
CHANGED = ("vicprice", "vicdemand", "transfer")


def input_drifts(stream: Labelled) -> dict[str, Any]:
    """Give the rows behind which each input is rejected for the first time, by one e-BH over all of them."""
    names = list(stream.rows[0])
    values = np.array([[row[name] for name in names] for row in stream.rows])
    reference = ReferenceHistogram.from_sample(values[:REFERENCE])
    test = FeatureDriftTest(reference, block_events=BLOCK)
    first: dict[str, int] = {}
    for start in range(REFERENCE, len(values) - BLOCK + 1, BLOCK):
        drifted = test.update(reference.count(values[start : start + BLOCK])).drifted
        for name in (name for name, is_drifted in zip(names, drifted, strict=True) if is_drifted):
            first.setdefault(name, start + BLOCK)
    return {"names": names, "first": first, "drift": stream.drifts[0], "rows": len(values)}


def markdown(inputs: dict[str, Any]) -> str:
    """Write when each input was found."""
    cells = [
        f"| {name} | {'yes' if name in CHANGED else 'no'} | "
        + (f"{inputs['first'][name]:,}" if name in inputs["first"] else "never")
        + " |"
        for name in inputs["names"]
    ]
    about = (
        f"Elec2's inputs, watched by `FeatureDriftTest` (reference: the first {REFERENCE:,} rows, blocks of {BLOCK}, "
        "one false incident in 1,000,000 events for all inputs together). Prices and demand have seasons, which "
        f"{REFERENCE:,} rows (six weeks) do not hold: those that moved before row {inputs['drift']:,} did move."
    )
    header = f"| input | constant before row {inputs['drift']:,} | found to drift at row |"
    return "\n".join([about, "", header, "|---|---|---|", *cells])
