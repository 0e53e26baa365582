"""A synthetic stream with a story: whether the visitors of a shop buy.

Up to `drift_at` a low price decides, and past visits help. Then a campaign begins: visitors come for the discount
whatever the price (concept drift: what features mean has changed), and discounts are larger (data drift: inputs move).
The same seed gives the same stream.
"""

from typing import NamedTuple

import numpy as np

MODEL_ID = "shop-conversion"
FEATURES = ("price", "discount", "visits", "basket", "minutes")

# Weights on features of mean 0 and deviation 1. Before, the price decides; afterwards the discount.
BEFORE = np.array([-2.2, 0.3, 1.2, 0.8, 0.0])
AFTER = np.array([-0.3, 2.4, 1.2, 0.2, 0.0])
SHIFT = np.array([0.0, 1.0, 0.0, 0.0, 0.0])
"""What the campaign adds to the features: discounts are larger by one deviation."""

NOISE = 0.5
"""Deviation of what no feature tells: keeps even the best model near 0.93."""


class Visit(NamedTuple):
    """One visitor: what is known, and whether they will have bought."""

    features: dict[str, float]
    buys: bool


def visits(count: int, drift_at: int, seed: int = 7) -> list[Visit]:
    """Give a stream of visitors, of which the first `drift_at` decide as before the campaign."""
    rng = np.random.default_rng(seed)
    drawn = rng.normal(size=(count, len(FEATURES)))
    noise = rng.normal(scale=NOISE, size=count)
    drifted = np.arange(count) >= drift_at
    weights = np.where(drifted[:, None], AFTER, BEFORE)
    inputs = drawn + drifted[:, None] * SHIFT
    # The campaign's larger discounts do not make everybody buy: the shift is taken out of the decision.
    buys = np.sum(drawn * weights, axis=1) + noise > 0.0
    rows = np.round(inputs, 4).tolist()
    return [
        Visit(dict(zip(FEATURES, row, strict=True)), bought) for row, bought in zip(rows, buys.tolist(), strict=True)
    ]
