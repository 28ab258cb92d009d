"""Lower bounds on epsilon and mu from an audit whose members were chosen by fair coins."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hampkit.judging.results import AttackResult
from hampkit.stats.bounds import unlikely_coins
from hampkit.workflows.audit_subject import Subject
from hampkit.workflows.bound import one_run_bounds
from hampkit.workflows.canaries import DELTA, strongest_bounds

NOT_RANDOMISED = "not available: membership was not randomised; bounds hold if each record's membership was a fair coin"
OF_GROUPS = (
    "not available: they need a coin for each record, and records of one person share theirs; leave the group out"
)
BOUND_ATTACKS = ("lira-online", "loss")  # the first that was made decides the bounds: chosen before its scores are seen

Scores = dict[str, NDArray[np.float64]]


class Made(NamedTuple):
    """The results and scores of the attacks of an audit."""

    results: list[AttackResult]  # on the target
    scores: Scores  # attack → its scores of the candidates (N,)
    known: Scores  # attack → its scores of the known records (K,)
    again: list[AttackResult]  # of leave-one-out


def audit_bounds(subject: Subject, made: Made, coins: bool, delta: float | None) -> dict[str, Any]:
    """The one-run bounds on epsilon and mu; the reason where there are none.

    Where the target was trained here, the strongest attack of leave-one-out decides, see `strongest_bounds`; else the first of
    `BOUND_ATTACKS`. Of copies, which share a coin, one is judged. coins: whether the user declares that a fair coin decided on
    each record. delta: the claimed one; None: `DELTA`.
    """
    case, trained = subject.case, subject.target.way == "train"  # there, coins decided whatever is declared
    copies = not subject.target.coins and subject.judge.copies == "keep" if trained else not subject.once.all()
    if not coins and not trained:
        return {"reason": NOT_RANDOMISED}
    if subject.target.pool.group is not None:
        return {"reason": OF_GROUPS}
    if copies:
        return {"reason": "not available: records with equal inputs do not have coins of their own"}
    if not trained and (why := unlikely_coins(subject.target.membership)):
        return {"reason": f"not available: {why}"}
    delta = DELTA if delta is None else delta
    every = {name: np.r_[scores, made.known[name]] for name, scores in made.scores.items()}
    included = np.r_[case.member, case.known_member]
    if trained:
        return strongest_bounds(made.again, every, included, delta, subject.seed)
    name = next((name for name in BOUND_ATTACKS if name in every), None)
    if name is None:
        return {"reason": f"not available: none of {', '.join(BOUND_ATTACKS)} was made, which decide the bounds"}
    return one_run_bounds(name, every[name], included, delta, subject.seed)
