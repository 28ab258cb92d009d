"""Simulated audits whose true AUC is known, many at a time, and what an interval of the AUC is computed from.

Non-members score N(0, 1) wherever nothing else is said. Members, of true AUC A:

``normal``, ``wider``, ``narrower``  N(mu, 1), N(mu, 3²), N(mu, 1/3²)
``binary``     1 with probability A, non-members with 1 − A: errors on both sides
``one-sided``  always 1, non-members with 2 (1 − A): a label-only attack on a model that is right on all members
``ties``       N(mu, 1), all scores rounded to whole numbers
``unexposed``  2 (1 − A) of them score as non-members do, the others above all
``below``      1 − A of them score below all non-members, the others above all: no distribution has a larger variance
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import norm

Array = NDArray[np.float64]
Counts = NDArray[np.int64]
AUCS = (0.5, 0.75, 0.9, 0.99, 0.999, 0.9999)
SIZES = ((50, 50), (162, 648), (1_000, 1_000), (3_000, 10_000))  # members, non-members
SPREADS = {"normal": 1.0, "wider": 3.0, "narrower": 1 / 3}
DESIGNS = (*SPREADS, "binary", "one-sided", "ties", "unexposed", "below")
_AT_ONCE = 4_000_000  # scores in memory
_FAR = 100.0  # above or below all others


def moments(rng: np.random.Generator, design: str, auc: float, m: int, n: int, audits: int) -> tuple[Array, Array]:
    """The AUC and DeLong's variance of so many audits, (audits,) each."""
    if design in (*SPREADS, "unexposed"):
        found = [of_scores(s, m) for s in scores(rng, design, auc, m, n, audits)]
        return np.concatenate([f[0] for f in found]), np.concatenate([f[1] for f in found])
    return of_counts(*counts(rng, design, auc, m, n, audits))


def scores(rng: np.random.Generator, design: str, auc: float, m: int, n: int, audits: int) -> Iterator[Array]:
    """Scores (some audits, m + n), the members' first, no two equal."""
    step = max(1, _AT_ONCE // (m + n))
    for start in range(0, audits, step):
        s = rng.standard_normal((min(step, audits - start), m + n))
        if design == "unexposed":
            s[:, :m] += _FAR * (rng.random((len(s), m)) >= 2 * (1 - auc))
        else:
            spread = SPREADS[design]
            s[:, :m] = s[:, :m] * spread + norm.ppf(auc) * np.hypot(1, spread)
        yield s


def counts(rng: np.random.Generator, design: str, auc: float, m: int, n: int, audits: int) -> tuple[Counts, Counts]:
    """How many members and non-members have each of a few scores, from low to high, (audits, scores) each."""
    if design == "below":
        of_members, of_nonmembers = [1 - auc, 0, auc], [0, 1, 0]
    elif design == "ties":
        mu = brentq(lambda shift: _tied_auc(shift) - auc, 0, 15)
        of_members, of_nonmembers = _rounded(float(mu)), _rounded(0.0)  # pyright: ignore[reportArgumentType]
    else:
        right, wrong = (auc, 1 - auc) if design == "binary" else (1.0, 2 * (1 - auc))
        of_members, of_nonmembers = [1 - right, right], [1 - wrong, wrong]
    return rng.multinomial(m, of_members, audits), rng.multinomial(n, of_nonmembers, audits)


def of_scores(s: Array, m: int) -> tuple[Array, Array]:
    """The AUC and DeLong's variance of scores (audits, m + n) without ties, by their ranks."""
    audits, n = len(s), s.shape[1] - m
    member = np.argsort(s, axis=1) < m
    below = np.cumsum(member, axis=1, dtype=np.int32)  # members up to this rank
    others = np.arange(1, m + n + 1, dtype=np.int32) - below
    of_members = others[member].reshape(audits, m) / n
    of_nonmembers = 1 - below[~member].reshape(audits, n) / m
    return of_members.mean(1), of_members.var(1, ddof=1) / m + of_nonmembers.var(1, ddof=1) / n


def of_counts(members: Counts, nonmembers: Counts) -> tuple[Array, Array]:
    """The same of tied scores, from how many of each group have each score, from low to high."""
    m, n = int(members[0].sum()), int(nonmembers[0].sum())
    of_members = (np.cumsum(nonmembers, 1) - nonmembers / 2) / n
    of_nonmembers = 1 - (np.cumsum(members, 1) - members / 2) / m
    value = (members * of_members).sum(1) / m
    squares = (members * (of_members - value[:, None]) ** 2).sum(1) / (m - 1) / m
    return value, squares + (nonmembers * (of_nonmembers - value[:, None]) ** 2).sum(1) / (n - 1) / n


def _rounded(mu: float) -> Array:
    edges = np.r_[-np.inf, np.arange(-8, 24) + 0.5, np.inf]
    return np.diff(norm.cdf(edges - mu))


def _tied_auc(mu: float) -> float:
    members, others = _rounded(mu), _rounded(0.0)
    return float((members * (np.cumsum(others) - others / 2)).sum())


def repaired(rng: np.random.Generator, member: NDArray[np.bool_], order: str) -> tuple[Array, Array]:
    """The AUC and DeLong's variance while inverted pairs are repaired one at a time, up to AUC 1; (repairs + 1,) each.

    member: whose score is highest, second and so on. A repair exchanges a non-member and the member right below it: always the
    highest such pair (``top``), the lowest (``bottom``), or one at random.
    """
    wrong = np.where(member, np.cumsum(~member), member.sum() - np.cumsum(member)).tolist()
    inside, waiting = member.tolist(), _Waiting(rng, order)
    for place in range(len(inside) - 1):
        waiting.add(place, inside)
    pairs = sum(w for w, is_member in zip(wrong, inside, strict=True) if is_member)
    squares = [sum(w * w for w, i in zip(wrong, inside, strict=True) if i is side) for side in (True, False)]
    found = [(pairs, *squares)]
    while pairs:
        place = waiting.take()
        other, mine = wrong[place], wrong[place + 1]
        pairs, squares[0], squares[1] = pairs - 1, squares[0] - 2 * mine + 1, squares[1] - 2 * other + 1
        inside[place], inside[place + 1] = True, False
        wrong[place], wrong[place + 1] = mine - 1, other - 1
        for near in (place - 1, place + 1):
            waiting.add(near, inside)
        found.append((pairs, *squares))
    return _of_wrong(np.array(found, dtype=np.float64), int(member.sum()), int((~member).sum()))


class _Waiting:
    """Places where a non-member stands right above a member, taken in one of the three orders."""

    def __init__(self, rng: np.random.Generator, order: str) -> None:
        self.rng, self.order, self.places = rng, order, []
        self.sign = -1 if order == "bottom" else 1

    def add(self, place: int, inside: list[bool]) -> None:
        if not (0 <= place < len(inside) - 1 and inside[place + 1] and not inside[place]):
            return
        if self.order == "random":
            self.places.append(place)
        else:
            heapq.heappush(self.places, self.sign * place)

    def take(self) -> int:
        if self.order != "random":
            return self.sign * heapq.heappop(self.places)
        k = int(self.rng.random() * len(self.places))
        self.places[k], self.places[-1] = self.places[-1], self.places[k]
        return self.places.pop()


def _of_wrong(found: Array, m: int, n: int) -> tuple[Array, Array]:
    """From numbers of inverted pairs, and their squares summed over members and over non-members."""
    pairs, of_members, of_nonmembers = found.T
    wrong = pairs / (m * n)
    spread = (of_members / n**2 / m - wrong**2) / (m - 1) + (of_nonmembers / m**2 / n - wrong**2) / (n - 1)
    return 1 - wrong, np.maximum(spread, 0.0)
