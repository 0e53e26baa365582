"""Runs one of frouros' detectors over streams, in an environment that has frouros and nothing of ours.

`python frouros_program.py CLASS STREAMS PARAMETERS` prints the alarms as JSON; the formats are those of `Detect.java`.
"""

import importlib
import json
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np

concept_drift = importlib.import_module("frouros.detectors.concept_drift")


def streams_in(data: bytes) -> list[list[float]]:
    """Read the streams."""
    (count,) = struct.unpack_from(">i", data, 0)
    place, found = 4, []
    for _ in range(count):
        (length,) = struct.unpack_from(">i", data, place)
        found.append(np.frombuffer(data, ">f8", length, place + 4).tolist())
        place += 4 + 8 * length
    return found


def made(name: str, parameters: dict[str, Any]) -> Any:
    """Make a detector with its default configuration but for the parameters."""
    config = getattr(concept_drift, name + "Config")(**parameters)
    return getattr(concept_drift, name)(config=config)


def alarms(name: str, parameters: dict[str, Any], values: list[float]) -> list[int]:
    """Give the indices of the drifts, with a new detector after each."""
    detector, found = made(name, parameters), []
    for index, value in enumerate(values):
        detector.update(value=value)
        if detector.drift:
            found.append(index)
            detector = made(name, parameters)
    return found


def main() -> None:
    """Do what the arguments say."""
    np.random.seed(0)  # noqa: NPY002 - frouros' KSWIN draws from the global generator
    name, path, parameters = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
    print(json.dumps([alarms(name, parameters, values) for values in streams_in(Path(path).read_bytes())]))


if __name__ == "__main__":
    main()
