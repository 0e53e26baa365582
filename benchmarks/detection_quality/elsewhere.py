"""frouros and MOA, each in a place of its own: libraries to compare with, which the project does not depend on.

frouros lives in a virtual environment under `.cache` (it wants other versions of numpy and scipy than we do), MOA and
the part of Weka that it calls are two jars that a small Java program drives. Where either cannot be had, tables name it
as absent.
"""

import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from benchmarks.detection_quality.contenders import Contender
from benchmarks.detection_quality.streams import Values

ROOT = Path(__file__).resolve().parent.parent.parent
CACHE = ROOT / ".cache"
HERE = Path(__file__).resolve().parent

FROUROS = "frouros==0.9.0"
JARS = ("nz.ac.waikato.cms.moa:moa:2024.07.0", "nz.ac.waikato.cms.weka:weka-dev:3.9.6")
"""STEPD asks Weka for a normal quantile."""

_INSTALL_S = 300
_RUN_S = 900


class ElsewhereError(RuntimeError):
    """A library that is compared with cannot be had, or its program failed."""


@lru_cache(maxsize=1)
def frouros_python() -> str | None:
    """Give the interpreter that has frouros, made at the first call; None where it cannot be installed."""
    python = CACHE / "frouros" / "bin" / "python"
    if not _answers([str(python), "-c", "import frouros"]):
        uv = Path(sys.executable).with_name("uv")
        _answers([str(uv), "venv", "--quiet", str(CACHE / "frouros")], _INSTALL_S)
        _answers([str(uv), "pip", "install", "--quiet", "--python", str(python), FROUROS], _INSTALL_S)
    return str(python) if _answers([str(python), "-c", "import frouros"]) else None


@lru_cache(maxsize=1)
def moa_classpath() -> str | None:
    """Give where MOA's classes lie, fetched at the first call; None where Java or Maven is missing."""
    jars = [CACHE / "moa" / "{1}-{2}.jar".format(*artifact.split(":")) for artifact in JARS]
    goal = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy"
    for artifact, jar in zip(JARS, jars, strict=True):
        if not jar.exists() and shutil.which("mvn"):
            _answers(["mvn", "-q", goal, f"-Dartifact={artifact}", f"-DoutputDirectory={jar.parent}"], _INSTALL_S)
    there = shutil.which("java") and all(jar.exists() for jar in jars)
    return os.pathsep.join(map(str, jars)) if there else None


def available(family: str) -> bool:
    """Say whether detectors of that family can run here."""
    if family == "frouros":
        return frouros_python() is not None
    return family != "moa" or moa_classpath() is not None


def alarms_elsewhere(contender: Contender, streams: Sequence[Values], *, together: bool = False) -> list[list[int]]:
    """Give the indices of the alarms in each stream. Raises ElsewhereError where the library cannot be had.

    `together` (MOA only) feeds all streams at once, each to a detector of its own, in one process.
    """
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "streams"
        path.write_bytes(_packed(streams))
        if contender.family == "frouros":
            text = json.dumps(dict(contender.parameters))
            command = [_there(frouros_python()), str(HERE / "frouros_program.py"), contender.name, str(path), text]
        else:
            command = ["java", "-cp", _there(moa_classpath()), str(HERE / "Detect.java"), contender.name, str(path)]
            command += ["together"] if together else []
        found: list[list[int]] = json.loads(output(command))
        return found


def output(command: Sequence[str]) -> str:
    """Run a program and give what it prints. Raises ElsewhereError with its complaint where it fails."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=_RUN_S, check=False)  # noqa: S603
    if done.returncode:
        raise ElsewhereError(f"{command[0]} failed: {done.stderr.strip()[-2000:]}")
    return done.stdout


def _there(path: str | None) -> str:
    if path is None:
        raise ElsewhereError("the library is not there and cannot be installed here")
    return path


def _packed(streams: Sequence[Values]) -> bytes:
    """Give the number of streams, then for each its length and values, big-endian as Java reads them."""
    parts = [struct.pack(">i", len(streams))]
    for stream in streams:
        parts += [struct.pack(">i", len(stream)), np.asarray(stream, dtype=">f8").tobytes()]
    return b"".join(parts)


def _answers(command: Sequence[str], limit_s: float = 60) -> bool:
    """Say whether a program can be run and ends well."""
    try:
        done = subprocess.run(command, capture_output=True, timeout=limit_s, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
