"""What the canaries of a run prove: their numbers, their hash, and lower bounds on epsilon and mu from their coins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hampkit.config.schema import build
from hampkit.config.sections import CanaryConfig
from hampkit.errors import UserError
from hampkit.judging.results import AttackResult
from hampkit.stats.strength import finding, side
from hampkit.workflows.bound import one_run_bounds
from hampkit.workflows.problem import Problem

DELTA = 1e-5  # of the bounds on epsilon
WITHOUT_MODELS = "loss"  # decides the bounds where leave-one-out cannot choose an attack


def canary_config(count: int, kind: str) -> CanaryConfig:
    """The options of so many canaries of a kind.

    Raises: `UserError` for an unknown kind or a number out of range, and for a kind without a number.
    """
    if not count and kind != CanaryConfig.kind:
        raise UserError(f"--canary-kind {kind} has no effect without canaries; add --canaries 500")
    return build(CanaryConfig, {"count": count, "kind": kind}, "canaries")


def canary_facts(
    problem: Problem, results: Sequence[AttackResult], scores: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """The canaries of a problem and the bounds; empty without canaries.

    results: all attacks, on the target and of leave-one-out. scores: attack → its scores.npz on the target.
    """
    found = problem.canaries
    if found is None:
        return {}
    return {**found.facts, "bounds": _bounds(problem, results, scores)}


def _bounds(
    problem: Problem, results: Sequence[AttackResult], scores: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """The bounds of all canaries of a run; the reason where there are none."""
    if not problem.once[problem.drawn].all():
        return {"reason": "not available: canaries with inputs that other records have do not have coins of their own"}
    known = problem.task.members[0].numpy()[problem.candidates().known]
    every = {name: np.r_[file["scores"], file["known_scores"]] for name, file in scores.items()}
    included = next((np.r_[file["member"], known] for file in scores.values()), known)
    return strongest_bounds(results, every, included, DELTA, problem.recipe.canaries.seed)


def strongest_bounds(
    results: Sequence[AttackResult], scores: Mapping[str, Any], included: Any, delta: float, seed: int
) -> dict[str, Any]:
    """The one-run bounds of one attack on canaries; the reason where there are none.

    The attack is the strongest of leave-one-out: the shadow models' canaries do not depend on the target's coins, so that the
    choice costs nothing. Without shadow models it is `WITHOUT_MODELS`. scores: attack → its scores of all canaries (K,), in the
    order of their coins, included (K,).
    """
    usable = [r for r in results if r.unit == "leave-one-out" and r.attack in scores and "known" not in r.needs]
    best = max(usable, key=lambda r: finding(**vars(r.deciding)), default=None)
    name = WITHOUT_MODELS if best is None else best.attack
    if name not in scores:
        return {"reason": f"not available: without shadow models {name} decides the bounds, and it was not made"}
    turned = -1.0 if best is not None and side(best.auc.low, best.auc.high) < 0 else 1.0
    return one_run_bounds(name, turned * scores[name], included, delta, seed)
