"""Pieces of pictures: scales, ticks, lines. All text is escaped here and nowhere else."""

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from html import escape
from typing import Final, NamedTuple

WIDTH: Final = 960
LEFT: Final = 116
RIGHT: Final = 16

_STEPS_MS: Final = tuple(
    count * unit
    for unit, counts in (
        (1_000, (1, 2, 5, 10, 20, 30)),
        (60_000, (1, 2, 5, 10, 20, 30)),
        (3_600_000, (1, 2, 3, 6, 12)),
        (86_400_000, (1, 2, 7, 14, 30, 61, 91, 182, 365, 730, 1825)),
    )
    for count in counts
)


class Scale(NamedTuple):
    """A straight line from values to pixels."""

    low: float
    high: float
    first: float
    last: float

    def __call__(self, value: float) -> float:
        """Give the pixel of a value; a scale without extent puts all in its middle."""
        if self.high == self.low:
            return (self.first + self.last) / 2
        return self.first + (value - self.low) / (self.high - self.low) * (self.last - self.first)


def time_scale(first_ms: int, last_ms: int) -> Scale:
    """Give the horizontal scale that all pictures of a model share."""
    return Scale(first_ms, max(last_ms, first_ms + 1), LEFT, WIDTH - RIGHT)


def ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Give round numbers within a span: steps of 1, 2 or 5 times a power of ten."""
    if not high > low:
        return [low]
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * 0.7)
    first = math.ceil(low / step - 1e-9)
    return [round(number * step, 12) for number in range(first, math.floor(high / step + 1e-9) + 1)]


def time_ticks(first_ms: int, last_ms: int, count: int = 7) -> list[int]:
    """Give round moments within a span."""
    span = max(last_ms - first_ms, 1)
    step = next((step for step in _STEPS_MS if span / step <= count), _STEPS_MS[-1] * max(span // _STEPS_MS[-1], 1))
    return list(range(-(-first_ms // step) * step, last_ms + 1, step))


def moment(time_ms: int, span_ms: int) -> str:
    """Write a moment as exactly as its axis needs."""
    at = datetime.fromtimestamp(time_ms / 1000, UTC)
    if span_ms >= 3 * 86_400_000:
        return f"{at:%Y-%m-%d}"
    return f"{at:%m-%d %H:%M}" if span_ms >= 3_600_000 else f"{at:%H:%M:%S}"


def number(value: float) -> str:
    """Write a number short."""
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        return f"{value:.4g}"
    return f"{value:.2e}"


def path(xs: Sequence[float], ys: Sequence[float | None]) -> str:
    """Draw a line that has gaps where there is no value."""
    parts, pen_down = [], False
    for x, y in zip(xs, ys, strict=True):
        if y is None:
            pen_down = False
            continue
        parts.append(f"{'L' if pen_down else 'M'}{x:.1f} {y:.1f}")
        pen_down = True
    return "".join(parts)


def text(x: float, y: float, words: str, css: str = "", anchor: str = "start") -> str:
    """Write words at a place."""
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{css}" text-anchor="{anchor}">{escape(words)}</text>'


def line(x1: float, y1: float, x2: float, y2: float, css: str) -> str:
    """Draw a line."""
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{css}"/>'


def rect(x: float, y: float, width: float, height: float, css: str, title: str = "") -> str:
    """Draw a box; its title is what a pointer over it reads."""
    told = f"<title>{escape(title)}</title>" if title else ""
    box = f'x="{x:.1f}" y="{y:.1f}" width="{max(width, 0):.1f}" height="{max(height, 0):.1f}"'
    return f'<rect {box} class="{css}">{told}</rect>'


def picture(height: float, parts: Sequence[str], label: str, css: str = "") -> str:
    """Put pieces into a picture that fits the page's width; `label` says what it shows to who cannot see it."""
    head = f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" class="{css}" aria-label="{escape(label)}">'
    return f"{head}{''.join(parts)}</svg>"
