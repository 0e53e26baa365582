"""KSWIN: the newest values of a window against a random sample of the older ones, by Kolmogorov and Smirnov.

Raab, Heusinger and Schleif, "Reactive soft prototype computing for concept drift streams", Neurocomputing 416, 2020.
"""

import math
import random
from typing import Annotated, Any, ClassVar, Literal

import msgspec
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from detectors.columns import first_marked
from detectors.incremental import Incremental, Rule
from detectors.parameters import Probability, Seed, checked
from detectors.protocol import Domain, Level, Progress, StateError, Values, Verdict

MOST_ROWS = 256
"""Windows compared in one go: 256 windows of 300 keys and values are 1 MB of scratch memory."""

LEAST_DISTANCE = 0.1
"""KSWIN never calls a distance of at most this a drift, whatever its p-value."""


class Body(msgspec.Struct, forbid_unknown_fields=True):
    """The window, oldest first; in the river mode the state of its generator as well."""

    count: int = 0
    """Values since the last reset or rebase."""
    drawn: int = 0
    """Samples drawn since the reset: the position in the stream of random numbers."""
    window: list[float] = []
    distance: int = 0
    """The last distance, in steps of 1 / stat_size."""
    generator: list[int] = []


class SampleRule:
    """The rule of `KSWIN`."""

    def __init__(self, parameters: dict[str, Any]) -> None:
        self._body = Body()
        self._size: int = parameters["window_size"]
        self._recent: int = parameters["stat_size"]
        self._seed: int = parameters["seed"]
        self._clock: int = parameters["clock"]
        self._least = least_distance(self._recent, parameters["alpha"])
        self._random = random.Random(self._seed) if parameters["compat"] == "river" else None  # noqa: S311 - river's

    @property
    def body(self) -> Body:
        """The state. river's generator, where it is used, is written into it first."""
        if self._random is not None:
            self._body.generator = list(self._random.getstate()[1])
        return self._body

    @body.setter
    def body(self, body: Body) -> None:
        if self._random is not None:
            try:
                self._random.setstate((3, tuple(body.generator), None))
            except (ValueError, TypeError, OverflowError) as error:
                raise StateError(f"the snapshot of kswin is damaged: $.generator: {error}") from error
        self._body = body

    def scan(self, values: list[float]) -> Progress:
        """Take values, up to the first that drifts."""
        return self.block(np.array(values, dtype=np.float64))

    def block(self, values: Values) -> Progress:
        """Take a column, up to the first value that drifts."""
        consumed, level = 0, self._level()
        while consumed < len(values):
            # river's generator must not run ahead of a drift; and while a drift stands, each value drifts anew.
            single = self._random is not None or level is Level.DRIFT
            taken, level = self._take(values[consumed : consumed + (1 if single else MOST_ROWS * self._clock)])
            consumed += taken
            if level is Level.DRIFT:
                break
        return Progress(consumed, level)

    def verdict(self) -> Verdict:
        """Say the level. The change is put where the newest values begin; `mean` is theirs."""
        body, level = self._body, self._level()
        newest = body.window[-self._recent :]
        return Verdict(
            level=level,
            statistic=body.distance / self._recent,
            threshold=self._least / self._recent,
            sample_count=body.count,
            change_point=max(0, body.count - self._recent) if level is Level.DRIFT else None,
            p_value=p_value(self._recent, body.distance) if body.distance else None,
            mean=math.fsum(newest) / len(newest) if newest else None,
        )

    def keep_newest(self) -> None:
        """Forget all but the newest values, with which the next window begins."""
        body = self._body
        body.window, body.distance, body.count = body.window[-self._recent :], 0, 0

    def _level(self) -> Level:
        return Level.DRIFT if self._body.distance >= self._least else Level.STABLE

    def _take(self, values: Values) -> Progress:
        body = self._body
        held = np.concatenate((np.array(body.window, dtype=np.float64), values))
        counts = np.arange(1, len(values) + 1)
        due = np.flatnonzero((len(body.window) + counts >= self._size) & ((body.count + counts) % self._clock == 0))
        last, distance = len(values) - 1, body.distance
        if len(due):
            windows = sliding_window_view(held, self._size)[len(body.window) + due + 1 - self._size]
            distances = _distances(windows[:, -self._recent :], self._sample(windows))
            first = first_marked(distances >= self._least)
            kept = first if first >= 0 else len(due) - 1
            last, distance = int(due[first]) if first >= 0 else last, int(distances[kept])
            body.drawn += kept + 1
        end = len(body.window) + last + 1
        body.window, body.distance = held[max(0, end - self._size) : end].tolist(), distance
        body.count += last + 1
        return Progress(last + 1, self._level())

    def _sample(self, windows: Values) -> Values:
        """Draw `stat_size` of each window's older values, without replacement. Shape (rows, stat_size)."""
        older = windows[:, : self._size - self._recent]
        if self._random is not None:
            drawn = np.array([self._random.sample(range(older.shape[1]), self._recent)])
        else:
            keys = _hashed(self._seed, self._body.drawn, older.shape)
            drawn = np.argpartition(keys, self._recent - 1, axis=1)[:, : self._recent]
        return np.asarray(np.take_along_axis(older, drawn, axis=1))


class KSWIN(Incremental):
    """Compares the newest `stat_size` values with as many drawn at random from the rest of the last `window_size`.

    The statistic is the Kolmogorov-Smirnov distance D of the two samples; it drifts where the exact p-value is at most
    `alpha`, and D above .1, so that the threshold is a fixed distance. Tested every `clock` values, on nearly the same
    data, alpha is no rate of false alarms. Between tests the last one stands. The draw depends on `seed` and the count
    alone, by a hash.

    With `compat="river"` it draws as river's `KSWIN(seed=seed)` does and starts from nothing after a drift, so that the
    indices are river's; its defaults are then river's `alpha=.005, window_size=100, stat_size=30, clock=1`. Otherwise
    they are 1e-4, 300, 100 and 5, and `rebase` keeps the newest values, as the paper does.

    State: one window; with `compat="river"` 625 numbers of its generator more.
    """

    name: ClassVar[str] = "kswin"
    domain: ClassVar[Domain] = "real"

    def __init__(
        self,
        *,
        alpha: Probability | None = None,
        window_size: Annotated[int, msgspec.Meta(ge=10, le=4096)] | None = None,
        stat_size: Annotated[int, msgspec.Meta(ge=5, le=1024)] | None = None,
        clock: Annotated[int, msgspec.Meta(ge=1, le=1024)] | None = None,
        seed: Seed = 0,
        compat: Literal["river"] | None = None,
    ) -> None:
        usual = (0.005, 100, 30, 1) if compat == "river" else (1e-4, 300, 100, 5)
        given = {
            "alpha": usual[0] if alpha is None else alpha,
            "window_size": usual[1] if window_size is None else window_size,
            "stat_size": usual[2] if stat_size is None else stat_size,
            "clock": usual[3] if clock is None else clock,
            "seed": seed,
            "compat": compat,
        }
        parameters = checked(KSWIN, given)
        if parameters["window_size"] < 2 * parameters["stat_size"]:
            raise ValueError(
                f"$.window_size: expected at least twice stat_size, {2 * parameters['stat_size']}, "
                f"got {parameters['window_size']}"
            )
        if least_distance(parameters["stat_size"], parameters["alpha"]) > parameters["stat_size"]:
            raise ValueError(f"$.stat_size: expected enough for {alpha}: no distance of {stat_size} values reaches it")
        self._begin(parameters)

    def _rule_for(self, parameters: dict[str, Any]) -> Rule:
        return SampleRule(parameters)

    def rebase(self) -> None:
        """Keep the newest values alone; with `compat="river"`, forget everything."""
        if self._parameters["compat"] == "river" or not isinstance(self._rule, SampleRule):
            self.reset()
        else:
            self._rule.keep_newest()


def p_value(size: int, distance: int) -> float:
    """Give the exact probability that two samples of `size` values differ by `distance` / `size` or more by chance.

    Gnedenko and Korolyuk 1951: 2 sum_j (-1)^(j+1) C(2n, n - j h) / C(2n, n), in whole numbers until the last division.
    With ties the true probability is smaller.
    """
    terms = ((-1) ** (j + 1) * math.comb(2 * size, size - j * distance) for j in range(1, size // distance + 1))
    return min(1.0, float(2 * sum(terms) / math.comb(2 * size, size)))


def least_distance(size: int, alpha: float) -> int:
    """Give the least distance, in steps of 1 / `size`, that is a drift; `size` + 1 where none can be."""
    usable = (h for h in range(1, size + 1) if h / size > LEAST_DISTANCE and p_value(size, h) <= alpha)
    return next(usable, size + 1)


def _distances(first: Values, second: Values) -> Values:
    """Give the Kolmogorov-Smirnov distance of samples row by row, in steps of 1 / n. Shapes (rows, n)."""
    both = np.concatenate((first, second), axis=1)
    order = np.argsort(both, axis=1)
    values = np.take_along_axis(both, order, axis=1)
    apart = np.abs(np.cumsum(np.where(order < first.shape[1], 1, -1), axis=1))
    # Equal values step together: only the last of them counts.
    apart[:, :-1][values[:, 1:] == values[:, :-1]] = 0
    return np.asarray(apart.max(axis=1))


def _hashed(seed: int, start: int, shape: tuple[int, ...]) -> np.ndarray[tuple[int, ...], np.dtype[np.uint64]]:
    """Give random keys that depend on the seed and on each row's number from `start` on: splitmix64, Steele 2014."""
    rows = (np.arange(start, start + shape[0], dtype=np.uint64) << np.uint64(12))[:, None]
    keys = (
        rows + np.arange(shape[1], dtype=np.uint64) + np.full(1, seed, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    )
    keys = (keys + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    keys = (keys ^ (keys >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    keys = (keys ^ (keys >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(keys ^ (keys >> np.uint64(31)))
