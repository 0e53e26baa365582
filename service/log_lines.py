"""Lines of libraries, written to a stream, each kind only so often."""

import logging
import re
import time
from collections.abc import Callable
from typing import Final, NamedTuple, TextIO

WINDOW_S: Final = 60.0
"""How long lines of a kind are counted together."""

MAX_LINES: Final = 5
"""Lines of a kind that are written in a window; the rest are counted."""

MAX_KINDS: Final = 500
"""Kinds that are told apart at a time; beyond it the window that began first ends early."""

_KIND_CHARS: Final = 200
_NUMBER: Final = re.compile(r"\d+")


class _Kind(NamedTuple):
    """What makes two lines the same but for their figures."""

    logger: str
    level: int
    template: str


class _Window:
    """What came of a kind since its first line."""

    def __init__(self, began_s: float) -> None:
        self.began_s = began_s
        self.lines = 0


class SparingStream(logging.StreamHandler[TextIO]):
    """Writes at most MAX_LINES lines a minute of one kind: same logger, same level, same text but for its numbers.

    When the minute is over (at the next line of any kind, or at the end of the program), one line says how many more
    there were. A client without its broker would else write a hundred lines a second.
    """

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(stream)
        self._clock = clock
        self._windows: dict[_Kind, _Window] = {}
        """In the order in which they began."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, or count it. The caller (`handle`) holds the lock."""
        now = self._clock()
        self._close_windows(now - WINDOW_S)
        template = _NUMBER.sub("#", str(record.msg)[:_KIND_CHARS])
        kind = _Kind(record.name, record.levelno, template)
        window = self._windows.get(kind)
        if window is None:
            if len(self._windows) >= MAX_KINDS:
                self._close(next(iter(self._windows)))
            window = self._windows[kind] = _Window(now)
        window.lines += 1
        if window.lines <= MAX_LINES:
            super().emit(record)

    def close(self) -> None:
        """Tell what is left to tell."""
        self.acquire()
        try:
            for kind in list(self._windows):
                self._close(kind)
        finally:
            self.release()
        super().close()

    def _close_windows(self, before_s: float) -> None:
        for kind, window in list(self._windows.items()):
            if window.began_s > before_s:
                return
            self._close(kind)

    def _close(self, kind: _Kind) -> None:
        left_out = self._windows.pop(kind).lines - MAX_LINES
        if left_out > 0:
            words = "%d more lines like this one within a minute: %s"
            note = logging.LogRecord(kind.logger, kind.level, __file__, 0, words, (left_out, kind.template), None)
            super().emit(note)
