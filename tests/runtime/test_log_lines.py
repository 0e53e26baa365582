"""Libraries' lines are written a few times a minute, and the rest counted."""

import io
import logging

from service.log_lines import MAX_KINDS, MAX_LINES, WINDOW_S, SparingStream


class Clock:
    """A clock that a test moves."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def lines(stream: io.StringIO) -> list[str]:
    return stream.getvalue().splitlines()


def say(handler: SparingStream, message: str, *args: object, name: str = "aiokafka") -> None:
    handler.handle(logging.LogRecord(name, logging.ERROR, "here", 1, message, args, None))


def test_lines_that_differ_in_their_figures_are_one_kind_and_the_rest_is_counted() -> None:
    stream, clock = io.StringIO(), Clock()
    handler = SparingStream(stream, clock)
    for number in range(1000):
        say(handler, "Unable connect to node with id %s: %s", number, "refused")
        say(handler, f"socket {number} is gone")
    assert len(lines(stream)) == 2 * MAX_LINES
    clock.now = WINDOW_S
    say(handler, "another matter")
    assert lines(stream)[-3:] == [
        f"{1000 - MAX_LINES} more lines like this one within a minute: Unable connect to node with id %s: %s",
        f"{1000 - MAX_LINES} more lines like this one within a minute: socket # is gone",
        "another matter",
    ]
    say(handler, "Unable connect to node with id %s: %s", 7, "refused")
    assert lines(stream)[-1] == "Unable connect to node with id 7: refused"


def test_what_was_left_out_is_told_at_the_end() -> None:
    stream = io.StringIO()
    handler = SparingStream(stream, Clock())
    for _ in range(MAX_LINES + 1):
        say(handler, "no broker")
    handler.close()
    assert lines(stream)[-1] == "1 more lines like this one within a minute: no broker"


def test_other_levels_and_loggers_are_other_kinds_and_memory_is_bounded() -> None:
    stream = io.StringIO()
    handler = SparingStream(stream, Clock())
    for number in range(3 * MAX_KINDS):
        say(handler, "no broker", name=f"logger-{number}")
    assert len(lines(stream)) == 3 * MAX_KINDS
    assert len(handler._windows) == MAX_KINDS


def test_a_line_of_any_text_is_never_taken_for_a_template_twice() -> None:
    stream = io.StringIO()
    handler = SparingStream(stream, Clock())
    for _ in range(MAX_LINES + 2):
        say(handler, "100 %s of %d")
    handler.close()
    assert lines(stream)[-1].endswith("# %s of %d")
