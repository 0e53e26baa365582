"""Streams that are made up: stable ones, whose every alarm is false, and ones that shift once."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

Values = NDArray[np.float64]


class Stable(NamedTuple):
    """A kind of stream without any change, and which detectors can read it."""

    label: str
    binary: bool
    independent: bool
    draw: Callable[[np.random.Generator, int], Values]


def errors(rate: float) -> Callable[[np.random.Generator, int], Values]:
    """Errors at random, independent."""
    return lambda rng, n: (rng.random(n) < rate).astype(np.float64)


def autoregressive(rng: np.random.Generator, n: int, phi: float) -> Values:
    """AR(1) of variance 1: y_t = phi y_(t-1) + sqrt(1 - phi^2) e_t."""
    noise = rng.normal(size=n) * np.sqrt(1.0 - phi * phi)
    noise[0] /= np.sqrt(1.0 - phi * phi)
    values = np.empty(n)
    level = 0.0
    for i, e in enumerate(noise.tolist()):
        level = phi * level + e
        values[i] = level
    return values


def dependent_errors(rate: float, phi: float) -> Callable[[np.random.Generator, int], Values]:
    """Errors where an AR(1) process is above its quantile: they come in clusters, at the given rate."""
    limit = -float(ndtri(rate))
    return lambda rng, n: (autoregressive(rng, n, phi) > limit).astype(np.float64)


def dependent_losses(phi: float) -> Callable[[np.random.Generator, int], Values]:
    """Give a loss in [0, 1] with mean .3 and deviation .1 that follows an AR(1) process."""
    return lambda rng, n: np.clip(0.3 + 0.1 * autoregressive(rng, n, phi), 0.0, 1.0)


def imbalanced_losses(rng: np.random.Generator, n: int) -> Values:
    """Give the log loss, clipped at 4 and divided by it, of a classifier of a class that 2 % of the events have.

    Scores are s = sigmoid(-4 + 3 z) for a latent z whose mean is 1.5 where the class is there.
    """
    positive = rng.random(n) < 0.02
    logit = -4.0 + 1.5 * (rng.normal(size=n) + 1.5 * positive)
    loss = np.logaddexp(0.0, np.where(positive, -logit, logit))
    return np.minimum(loss, 4.0) / 4.0


STABLE = [
    *(Stable(f"p0 {rate:g}", True, True, errors(rate)) for rate in (0.02, 0.05, 0.1, 0.2, 0.3, 0.4)),
    Stable("imbalanced, p0 .005", True, True, errors(0.005)),
    Stable("imbalanced, log loss", False, True, imbalanced_losses),
    Stable("AR(1) .5 errors, p0 .1", True, False, dependent_errors(0.1, 0.5)),
    Stable("AR(1) .9 errors, p0 .1", True, False, dependent_errors(0.1, 0.9)),
    Stable("AR(1) .5 loss", False, False, dependent_losses(0.5)),
]


def stable_streams(kind: Stable, count: int, events: int, seed: int) -> list[Values]:
    """Draw `count` streams. The first ones are the same whatever the count."""
    return [kind.draw(np.random.default_rng([seed, i]), events) for i in range(count)]


def shifting(before: float, after: float, stable: int, shifted: int, count: int, seed: int) -> list[Values]:
    """Errors at one rate, then at another."""
    rates = np.concatenate([np.full(stable, before), np.full(shifted, after)])
    return [(np.random.default_rng([seed, i]).random(len(rates)) < rates).astype(np.float64) for i in range(count)]
