"""What a person did wrong is one line and exit code 2; a traceback is for our own mistakes."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

MISUSE: Final = 2
"""Exit code, as of shells and of click: the command cannot be carried out as it was given."""
INTERRUPTED: Final = 130
"""128 + SIGINT, as of shells."""


class UsageError(ValueError):
    """Options that contradict each other, or a file that is not there."""


_hide: list[Callable[[str], str]] = []
"""Takes what the environment gave out of what is said; of the one command that this process carries out."""


def hide(redact: Callable[[str], str]) -> None:
    """Let errors of this command pass through a redaction."""
    _hide[:] = [redact]


@contextmanager
def plain_errors() -> Iterator[None]:
    """Say the errors that people can mend in one line, and exit."""
    _hide.clear()
    try:
        yield
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # Whoever read us has left (`| head`). Python would complain again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:
        # Imported only now: that costs a second, and most commands end well.
        if not isinstance(error, _mendable()):
            raise
        told = " ".join(str(error).split())
        for redact in _hide:
            told = redact(told)
        sys.stderr.write(f"tidegauge: {told}\n")
        sys.exit(MISUSE)


def _mendable() -> tuple[type[Exception], ...]:
    from service.config import ConfigError  # noqa: PLC0415
    from service.core.state import CorruptStateError, NewerStateError  # noqa: PLC0415
    from service.eventlog.errors import LogError  # noqa: PLC0415
    from service.replay.boundaries import BoundariesError  # noqa: PLC0415
    from service.replay.delay import DelayError  # noqa: PLC0415
    from service.replay.mapping import MappingError  # noqa: PLC0415
    from service.replay.names import TargetError  # noqa: PLC0415
    from service.replay.plan import RangeError  # noqa: PLC0415
    from service.replay.session import RunError  # noqa: PLC0415
    from service.replay.sources import SourceError  # noqa: PLC0415
    from service.replay.sweep.run import ObjectiveError  # noqa: PLC0415
    from service.replay.truth import TruthError  # noqa: PLC0415

    own = (UsageError, ConfigError, LogError, CorruptStateError, NewerStateError)
    # OSError: a port in use, a folder that may not be written, a full disk; its text says which.
    replay = (SourceError, MappingError, DelayError, BoundariesError, TargetError, RangeError, RunError, TruthError)
    return (*own, *replay, ObjectiveError, OSError)
