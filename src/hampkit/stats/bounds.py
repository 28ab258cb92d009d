"""Lower bounds on the privacy parameters epsilon and mu from the guesses of an attack on canaries.

Of m canaries each was put into the training data by a fair coin of its own. An attacker guesses for r of them whether it is in,
and v guesses are right. A mechanism with a small epsilon (or mu) makes many right guesses unlikely; the bound is the largest
parameter that the observed number refutes at the level. Without fair coins none of these numbers means anything.

Sources: Steinke, Nasr, Jagielski 2023 (arXiv 2305.08846), theorem 5.2; Mahloujifar, Melis, Chaudhuri 2024 (arXiv 2410.22235);
Dong, Roth, Su 2022 (Gaussian differential privacy).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats
from scipy.special import log_ndtr, ndtr, ndtri

from hampkit.stats.intervals import Interval, clopper_pearson

SHARES = (
    0.01,
    0.02,
    0.05,
    0.10,
    0.20,
    0.30,
    0.50,
)  # of the canaries that are guessed, declared before the scores are seen
_MOST = 60.0  # a bound above it is not looked for: e^60 cannot be observed
_TOLERANCE = 1e-9


def one_run_epsilon(canaries: int, guesses: int, correct: int, delta: float = 0.0, level: float = 0.95) -> float:
    """A lower bound on epsilon at ``delta`` from one training.

    With q = e^ε / (1 + e^ε), f(v) = P[Bin(r, q) ≥ v] and m canaries, r guesses, v of them correct:
    p(ε) = min(1, f(v) + 2mδ max_{i=1..v} (f(v − i) − f(v)) / i), and the bound is sup{ε : p(ε) < 1 − level}, at least 0.

    Raises: `ValueError` for counts that cannot be, and for a level or delta out of their ranges.

    >>> round(one_run_epsilon(1000, 1000, 600, 1e-5), 6)
    0.297227
    """
    _check(canaries, guesses, correct, delta, level)

    def refuted(epsilon: float) -> bool:
        tails = _tails(guesses, correct, 1 / (1 + math.exp(-epsilon)))
        steps = (tails[1:] - tails[0]) / np.arange(1, correct + 1)
        return tails[0] + 2 * canaries * delta * float(steps.max(initial=0.0)) < 1 - level

    return _largest(refuted)


def one_run_mu(canaries: int, guesses: int, correct: int, level: float = 0.95) -> float:
    """A lower bound on mu of Gaussian differential privacy from one training.

    With τ = 1 − level and f̄⁻¹(x) = Φ(Φ⁻¹(x) − μ): h ← τ(r − v)/m and ρ ← τv/m; for i = v − 1, …, 0: h′ = max(h, f̄⁻¹(ρ)),
    ρ ← min(1, ρ + i/(r − i) (h′ − h)), h ← h′, until h′ = h. A value of μ is refuted iff ρ + h > r/m.

    Raises: `ValueError` for counts that cannot be, and for a level out of its range.

    >>> round(one_run_mu(1000, 600, 600), 6)
    2.083475
    """
    _check(canaries, guesses, correct, 0.0, level)
    if correct == 0:
        return 0.0

    def refuted(mu: float) -> bool:
        tau = 1 - level
        h, rho = tau * (guesses - correct) / canaries, tau * correct / canaries
        for i in range(correct - 1, -1, -1):
            higher = max(h, float(ndtr(ndtri(rho) - mu)))
            if higher == h:
                break
            rho, h = min(1.0, rho + i / (guesses - i) * (higher - h)), higher
        return rho + h > guesses / canaries

    return _largest(refuted)


def epsilon_of_mu(mu: float, delta: float) -> float:
    """The epsilon at ``delta`` of a mechanism with Gaussian differential privacy mu.

    It solves δ = Φ(−ε/μ + μ/2) − e^ε Φ(−ε/μ − μ/2) (Dong, Roth, Su 2022, corollary 1); 0 if ε = 0 gives at most ``delta``.

    Raises: `ValueError` for a mu below 0 or a delta outside (0, 1).

    >>> round(epsilon_of_mu(1.0, 1e-5), 4)
    4.3772
    """
    if not mu >= 0 or not 0 < delta < 1:
        raise ValueError(f"mu={mu} must be at least 0, and delta={delta} between 0 and 1")
    return _largest(lambda epsilon: mu > 0 and _delta(mu, epsilon) > delta)


def mu_of_epsilon(epsilon: float, delta: float) -> float:
    """The mu whose `epsilon_of_mu` at ``delta`` is ``epsilon``.

    Raises: `ValueError` for an epsilon below 0 or a delta outside (0, 1).

    >>> round(mu_of_epsilon(4.3772, 1e-5), 3)
    1.0
    """
    if not epsilon >= 0 or not 0 < delta < 1:
        raise ValueError(f"epsilon={epsilon} must be at least 0, and delta={delta} between 0 and 1")
    return _largest(lambda mu: mu == 0 or _delta(mu, epsilon) <= delta)


def clopper_pearson_epsilon(tp: int, n_in: int, fp: int, n_out: int, delta: float = 0.0, level: float = 0.95) -> float:
    """A lower bound on epsilon from the rates of one attack on n_in members and n_out non-members, all trained independently.

    max(0, ln((TPR_low − δ) / FPR_high), ln((TNR_low − δ) / FNR_high)), where each rate is a one-sided bound of Clopper and
    Pearson at half the error. It is a theorem only if every count is a training of its own; on canaries of one model it is an
    estimate.

    Raises: `ValueError` for counts that cannot be, and for a level or delta out of their ranges.

    >>> round(clopper_pearson_epsilon(160, 16000, 16, 16000, 1e-5), 4)
    1.6563
    """
    tpr, fpr = _rates(tp, n_in, fp, n_out, delta, level)
    pairs = ((tpr.low, fpr.high), (1 - fpr.high, 1 - tpr.low))
    return max(0.0, *(math.log((high - delta) / low) for high, low in pairs if high > delta and low > 0))


def clopper_pearson_mu(tp: int, n_in: int, fp: int, n_out: int, level: float = 0.95) -> float:
    """A lower bound on mu from the rates of one attack, max(0, Φ⁻¹(TPR_low) − Φ⁻¹(FPR_high)), as `clopper_pearson_epsilon`.

    Raises: `ValueError` for counts that cannot be, and for a level out of its range.

    >>> round(clopper_pearson_mu(500, 500, 0, 500), 4)
    4.8793
    """
    tpr, fpr = _rates(tp, n_in, fp, n_out, 0.0, level)
    found = float(ndtri(tpr.low) - ndtri(fpr.high))
    return max(0.0, found) if math.isfinite(found) else 0.0


@dataclass(frozen=True)
class Guesses:
    """The guesses for a share of the canaries, and what they prove."""

    share: float  # of the canaries that are guessed
    guesses: int
    correct: int
    epsilon: float  # one_run_epsilon
    mu: float  # one_run_mu


@dataclass(frozen=True)
class OneRun:
    """The bounds of one audit: the best of all shares, at a level that allows for their number."""

    canaries: int
    delta: float
    level: float
    epsilon: float  # Steinke et al.
    mu: float  # Mahloujifar et al.
    epsilon_of_mu: float  # of that mu, at delta; 0 for a delta of 0
    tried: tuple[Guesses, ...]


def audit_scores(
    scores: Any,
    included: Any,
    delta: float = 1e-5,
    level: float = 0.95,
    seed: int = 0,
    shares: Sequence[float] = SHARES,
) -> OneRun:
    """One-run bounds from the scores (m,) of an attack on canaries; included: (m,) bool, a fair coin for each.

    Of k guesses the ⌈k/2⌉ highest scores are guessed to be in and the ⌊k/2⌋ lowest to be out. A seeded order that does not
    depend on ``included`` breaks ties at the cuts. k is each of ``shares`` times m, and each bound is computed at the level
    1 − (1 − level) / number of shares, so that the highest of them holds at ``level``.

    Raises: `ValueError` for scores that are not finite, other shapes, and a level or delta out of their ranges.
    """
    values, inside = np.asarray(scores, dtype=np.float64), np.asarray(included)
    if values.ndim != 1 or values.shape != inside.shape or not len(values):
        raise ValueError(
            f"scores {values.shape} and included {inside.shape} must be two arrays of one value per canary"
        )
    if not np.isfinite(values).all() or not np.isin(inside, (0, 1)).all():
        raise ValueError("scores must be finite, and included must be true or false for each canary")
    m, each = len(values), 1 - (1 - level) / len(shares)
    order = np.lexsort((np.random.default_rng(seed).permutation(m), values))  # from the lowest to the highest
    tried = []
    for share in shares:
        k = max(1, round(share * m))
        low, high = order[: k // 2], order[m - (k - k // 2) :]
        correct = int(inside[high].astype(bool).sum() + (~inside[low].astype(bool)).sum())
        bounds = one_run_epsilon(m, k, correct, delta, each), one_run_mu(m, k, correct, each)
        tried.append(Guesses(share, k, correct, *bounds))
    mu = max(g.mu for g in tried)
    of_mu = epsilon_of_mu(mu, delta) if delta else 0.0
    return OneRun(m, delta, level, max(g.epsilon for g in tried), mu, of_mu, tuple(tried))


def unlikely_coins(included: Any) -> str:
    """Why fair coins did not decide on records (m,); empty if their number is possible: a two-sided p of at least 1e-6.

    >>> unlikely_coins([True] * 60 + [False] * 40), unlikely_coins([True] * 90 + [False] * 10)
    ('', '90 of 100 records are members, which fair coins give with a probability below 1e-6')
    """
    from scipy.special import bdtr

    n, inside = len(included), int(np.asarray(included).sum())
    if 2 * bdtr(min(inside, n - inside), n, 0.5) >= 1e-6:
        return ""
    return f"{inside:,} of {n:,} records are members, which fair coins give with a probability below 1e-6"


def _check(canaries: int, guesses: int, correct: int, delta: float, level: float) -> None:
    if not 0 <= correct <= guesses <= canaries or canaries < 1:
        raise ValueError(
            f"{correct} correct of {guesses} guesses on {canaries} canaries cannot be: each is at most the next one"
        )
    if not 0 <= delta < 1 or not 0 < level < 1:
        raise ValueError(f"delta={delta} must lie in [0, 1), and level={level} between 0 and 1")


def _tails(guesses: int, correct: int, q: float) -> Any:
    """P[Bin(r, q) ≥ j] for j = v, v − 1, …, 0."""
    return stats.binom.sf(np.arange(correct, -1, -1) - 1, guesses, q)


def _delta(mu: float, epsilon: float) -> float:
    """The delta at epsilon of mu-Gaussian differential privacy."""
    return float(ndtr(-epsilon / mu + mu / 2) - math.exp(epsilon + log_ndtr(-epsilon / mu - mu / 2)))


def _rates(tp: int, n_in: int, fp: int, n_out: int, delta: float, level: float) -> tuple[Interval, Interval]:
    """TPR and FPR with two-sided intervals at ``level``: each end is a one-sided bound at half the error."""
    if not (0 <= tp <= n_in and 0 <= fp <= n_out and n_in and n_out):
        raise ValueError(f"{tp} of {n_in} members and {fp} of {n_out} non-members cannot be")
    if not 0 <= delta < 1:
        raise ValueError(f"delta={delta} must lie in [0, 1)")
    return tuple(Interval(k / n, *clopper_pearson(k, n, level)) for k, n in ((tp, n_in), (fp, n_out)))  # pyright: ignore[reportReturnType]


def _largest(refuted: Callable[[float], bool]) -> float:
    """The largest value that is refuted, by bisection; 0 if 0 is not. All below a refuted value count as refuted."""
    if not refuted(0.0):
        return 0.0
    low, high = 0.0, 1.0
    while high < _MOST and refuted(high):
        low, high = high, min(2 * high, _MOST)
    while high - low > _TOLERANCE:
        middle = (low + high) / 2
        low, high = (middle, high) if refuted(middle) else (low, middle)
    return low
