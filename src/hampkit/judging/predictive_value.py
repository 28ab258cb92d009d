"""What a prediction of membership is worth: the positive predictive value at a prior share of members."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hampkit.judging.flags import LEAST_SHOWN
from hampkit.stats.intervals import Interval, number
from hampkit.stats.intervals import rate as rate_of
from hampkit.stats.metrics import allowed

PRIORS = (0.5, 0.1, 0.01)
FPRS = (0.1, 0.01, 0.001)  # at which a threshold is chosen


@dataclass(frozen=True)
class Predictive:
    """The predictive value of one attack with one threshold, at several priors."""

    attack: str
    target_fpr: float  # by which the threshold was chosen, on known non-members
    tpr: Interval  # on the judged records
    fpr: Interval
    members: int
    nonmembers: int
    at: tuple[tuple[float, Interval], ...]  # prior → predictive value

    def to_json(self) -> dict[str, Any]:
        return {
            "attack": self.attack,
            "target_fpr": self.target_fpr,
            "tpr": vars(self.tpr),
            "fpr": vars(self.fpr),
            "members": self.members,
            "nonmembers": self.nonmembers,
            "ppv": [{"prior": prior, **vars(value)} for prior, value in self.at],
        }


def ppv(tpr: float, fpr: float, prior: float) -> float:
    """π·TPR / (π·TPR + (1 − π)·FPR): the probability that a record with a positive prediction is a member. NaN without any.

    >>> round(ppv(0.9, 0.01, 0.01), 3)
    0.476
    """
    found = prior * tpr + (1 - prior) * fpr
    return prior * tpr / found if found else float("nan")


def predictive(
    scores: Mapping[str, tuple[Any, Any]],
    member: Any,
    known_member: Any,
    priors: Sequence[float] = PRIORS,
    groups: tuple[Any, Any] = (None, None),
) -> list[Predictive]:
    """The predictive values at the thresholds of `FPRS`, as far as the known non-members resolve them.

    scores: attack → the scores of the judged records (N,) and of the known ones (K,). member: (N,), known_member: (K,). From the
    known records alone come the threshold, the lowest that at most the target FPR of the known non-members reach, and the
    attack, the one that finds most known members there; none where no attack finds any. The ends of a predictive value are those
    of TPR and FPR, each at 97.5 %, combined for the worst and the best case.

    groups: (N,) and (K,), rows that are not independent share a number. The intervals are then for the effective number of rows
    of either side, and a threshold needs as many independent known non-members.
    """
    known_member, member = np.asarray(known_member, dtype=bool), np.asarray(member, dtype=bool)
    outside = int((~known_member).sum())
    independent = number(None if groups[1] is None else np.asarray(groups[1])[~known_member], outside)
    found = []
    for rate in FPRS:
        errors = allowed(rate, outside)
        if allowed(rate, independent) < LEAST_SHOWN:
            continue
        cuts = {name: np.sort(np.asarray(known)[~known_member])[::-1][errors] for name, (_, known) in scores.items()}
        hits = {name: int((np.asarray(scores[name][1])[known_member] > cut).sum()) for name, cut in cuts.items()}
        best = max(hits, key=lambda name: hits[name])
        if hits[best]:
            found.append(_at(best, rate, np.asarray(scores[best][0]) > cuts[best], member, priors, groups[0]))
    return found


def _at(attack: str, rate: float, positive: Any, member: Any, priors: Sequence[float], group: Any) -> Predictive:
    sides = (member, ~member)
    tpr, fpr = (rate_of(positive[s], None if group is None else np.asarray(group)[s], 0.975) for s in sides)
    n1, n0 = (int(side.sum()) for side in sides)
    at = []
    for prior in priors:
        ends = ppv(tpr.low, fpr.high, prior), ppv(tpr.high, fpr.low, prior)
        value = ppv(tpr.value, fpr.value, prior)
        at.append((prior, Interval(prior if np.isnan(value) else value, *ends)))
    return Predictive(attack, rate, tpr, fpr, n1, n0, tuple(at))
