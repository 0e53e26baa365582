"""Warnings of libraries, such as numpy's: one line that names the program, not a path and a line of source code."""

import sys
import warnings
from typing import TextIO


def say_warnings_in_one_line() -> None:
    """Let warnings be written as this program writes; `configure_logging` sends them to the log instead."""
    warnings.showwarning = _write


def _write(
    message: Warning | str,
    category: type[Warning],
    filename: str,  # noqa: ARG001  # as the warnings module calls it
    lineno: int,  # noqa: ARG001
    file: TextIO | None = None,
    line: str | None = None,  # noqa: ARG001
) -> None:
    (file or sys.stderr).write(f"tidegauge: warning: {category.__name__}: {' '.join(str(message).split())}\n")
