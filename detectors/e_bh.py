"""e-values: calibrators from p-values, and the e-BH procedure for many hypotheses at once.

An e-value has expectation at most 1 under its null; a large one is evidence against it. Averages of e-values are
e-values whatever their dependence, which is why features that move together need no correction.
"""

import numpy as np
from numpy.typing import NDArray

from detectors.special import Floats


def power_calibrator(p: Floats, kappa: float = 0.5) -> Floats:
    """Turn p-values into e-values: kappa p^(kappa - 1) (Vovk and Wang, arXiv 1912.06116). Infinite at p = 0."""
    if not 0.0 < kappa < 1.0:
        raise ValueError(f"$.kappa: expected a number in (0, 1), got {kappa}")
    _require_probabilities(p)
    with np.errstate(divide="ignore"):
        return np.asarray(kappa * p ** (kappa - 1.0), dtype=np.float64)


def mixture_calibrator(p: Floats) -> Floats:
    """Turn p-values into e-values with no parameter: (1 - p + p ln p) / (p ln(p)^2), `power_calibrator` over all kappa.

    Near p = 1 the formula is 0 / 0 and its expansion 1/2 - ln(p) / 6 is used. Infinite at p = 0.
    """
    _require_probabilities(p)
    inner = np.clip(p, 1e-300, 1.0 - 1e-4)
    log = np.log(inner)
    e = (1.0 - inner + inner * log) / (inner * log**2)
    # With x = ln p: (1 - e^x + x e^x) / (x^2 e^x) = (1/2 + x/3 + ...) / (1 + x + ...) = 1/2 - x/6 + ...
    e = np.where(p > 1.0 - 1e-4, 0.5 - np.log(np.maximum(p, 0.5)) / 6.0, e)
    return np.where(p == 0.0, np.inf, e)


def e_bh(e_values: Floats, alpha: float) -> NDArray[np.bool_]:
    """Say which of K null hypotheses to reject, shape (K,), false discovery rate at most `alpha`.

    Rejects the k largest e-values for the largest k with e_(k) >= K / (k alpha), whatever the dependence between them
    (Wang and Ramdas, arXiv 2009.02824).
    """
    if not 0.0 < alpha <= 1.0:
        raise ValueError(f"$.alpha: expected a number in (0, 1], got {alpha}")
    if np.isnan(e_values).any() or (e_values < 0.0).any():
        raise ValueError("$: expected e-values, numbers from 0 to infinity")
    with np.errstate(divide="ignore"):
        return e_bh_logarithms(np.log(e_values), float(np.log(1.0 / alpha)))


def e_bh_logarithms(log_e: Floats, log_threshold: float) -> NDArray[np.bool_]:
    """Do the same from ln e_k and ln(1 / alpha): rejects where ln e_(k) >= ln(1/alpha) + ln(K / k)."""
    total = log_e.size
    if not total or log_e.max() < log_threshold:  # the least limit, for k = K: the usual case, without sorting
        return np.zeros(total, dtype=np.bool_)
    order = np.argsort(-log_e, kind="stable")
    limits = log_threshold + np.log(total / np.arange(1, total + 1))
    passed = np.flatnonzero(log_e[order] >= limits)
    rejected = np.zeros(total, dtype=np.bool_)
    if passed.size:
        rejected[order[: passed[-1] + 1]] = True
    return rejected


def _require_probabilities(p: Floats) -> None:
    if not ((p >= 0.0) & (p <= 1.0)).all():
        raise ValueError("$: expected p-values, numbers from 0 to 1")
