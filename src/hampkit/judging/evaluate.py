"""Where membership meets scores: candidates, known examples, and what the scores of an attack amount to."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hampkit.attacks import Attack, Evidence, Known, Population, Shadows
from hampkit.config.recipe import JudgeConfig
from hampkit.data.candidates import candidates
from hampkit.judging import flags as checks
from hampkit.judging.results import ERROR, FPRS, AttackResult, Rate
from hampkit.rng import derive, numpy_rng
from hampkit.stats import grouped, metrics
from hampkit.stats.intervals import bonferroni_level
from hampkit.stats.roc import same_order
from hampkit.types import Dataset

Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Case:
    """An adversary's evidence, and beside it the truth that only the judge knows."""

    evidence: Evidence
    member: Bools  # (N,) of the candidates
    known_member: Bools  # (K,) of the known examples
    group: NDArray[np.int64] | None = None  # (N,) of the candidates: groups are independent, rows of one group are not

    def groups(self) -> dict[str, int]:
        """How many groups the judged members and non-members are; empty where there are no groups."""
        if self.group is None:
            return {}
        sides = {"members": self.member, "nonmembers": ~self.member}
        return {name: len(np.unique(self.group[side])) for name, side in sides.items()}


def build_case(
    pool: Dataset,
    members: int,
    logits: Tensor,
    judge: JudgeConfig,
    seed: int,
    shadows: Shadows | None = None,
    population: Population | None = None,
    once: NDArray[np.bool_] | None = None,
    units: NDArray[np.int64] | None = None,
) -> Case:
    """Candidates and known examples of a pool whose first ``members`` rows are members, in random order.

    once: (P,) the rows that take part, see `hampkit.data.candidates`; default: all.
    units: (P,) rows with one value are not independent, such as copies; default: the pool's groups. Members and non-members of
    one unit count as two groups: what they have in common raises both sides alike, which makes an AUC vary less, not more.
    """
    once = np.ones(len(pool), dtype=bool) if once is None else once
    everyone = judge.candidates == "all"
    chosen = candidates(once, members, judge.known_train, judge.known_val, everyone, pool.group)
    known, fit, rows = map(torch.from_numpy, chosen)
    # no attack may profit from the order of the candidates
    rows = rows[torch.from_numpy(numpy_rng(derive(seed, "candidates")).permutation(len(rows)))]
    told = Known(pool.x[known], pool.y[known], logits[known], known < members, fit, known)
    shadows = None if shadows is None else replace(shadows, rows=rows.numpy())
    evidence = Evidence(
        pool.x[rows], pool.y[rows], logits[rows], derive(seed, "attack"), told, shadows=shadows, population=population
    )
    member = (rows < members).numpy()
    group = None if pool.group is None else pool.group[rows].numpy()
    if units is not None:
        group = _of_one_side(units[rows.numpy()], member)
    return Case(evidence, member, told.member.numpy(), group)


def _of_one_side(units: NDArray[np.int64], member: Bools) -> NDArray[np.int64] | None:
    """(N,) groups of units (N,), each of members or of non-members alone; None where all have one row."""
    groups = 2 * units + member
    return groups if len(np.unique(groups)) < len(groups) else None


def score(attack: Attack, case: Case) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The attack's scores of the candidates and of the known examples (for a threshold), from one fit."""
    scores, n = attack(everyone(case)), len(case.member)
    return scores[:n], scores[n:]


def everyone(case: Case) -> Evidence:
    """The evidence about the candidates and, behind them, about the known examples."""
    e = case.evidence
    assert e.known is not None
    return replace(
        e,
        shadows=_shadows_of_everyone(e),
        x=torch.cat([e.x, e.known.x]),
        y=torch.cat([e.y, e.known.y]),
        logits=torch.cat([e.logits, e.known.logits]),
    )


def _shadows_of_everyone(e: Evidence) -> Shadows | None:
    if e.shadows is None:
        return None
    assert e.known is not None
    assert e.known.rows is not None
    return replace(e.shadows, rows=np.r_[e.shadows.rows, e.known.rows.numpy()])


def judge_scores(attack: Attack, scores: Any, known_scores: Any, case: Case, judge: JudgeConfig) -> AttackResult:
    """All numbers of one attack. The threshold of the balanced accuracy is the attack's own, or comes from the known part."""
    member, group = case.member, case.group
    of, others = int(member.sum()), int((~member).sum())
    threshold = (
        attack.threshold if attack.threshold is not None else metrics.best_threshold(known_scores, case.known_member)
    )
    auc, tpr, tnr = rates(scores, member, judge.strict, group)
    flags = {
        "unresolved": not (tpr[0].resolved and tnr[0].resolved),
        "tied": checks.tied(scores, member, FPRS[0], judge.strict),
        "inverted": checks.inverted(scores, member, group),
        "overlapping": judge.candidates == "all" and "known" in attack.needs,
    }
    shadows = _shadows_of_everyone(case.evidence) if "shadows" in attack.needs else None
    return AttackResult(
        attack=attack.name,
        needs=attack.needs,
        label_only=attack.label_only,
        members=of,
        nonmembers=others,
        auc=auc,
        tpr_at_fpr=tuple(tpr),
        tnr_at_fnr=tuple(tnr),
        balanced_accuracy=grouped.balanced_point(scores, member, threshold, group),
        flags=tuple(name for name, raised in flags.items() if raised),
        options=unusual(attack),
        left_out=0 if shadows is None else shadows.left_out(),
        variance="" if shadows is None else attack.variance_used(*shadows.sizes()),
    )


def judged_together(
    results: Sequence[AttackResult], scores: Mapping[str, NDArray[np.float64]], member: Bools, group: Any = None
) -> tuple[AttackResult, ...]:
    """The attacks of one model, each with the attack whose order it shares and its AUC at the level for the best of them.

    Of attacks with one order the one that needs least, and of these the first, gives its name to all.
    """
    names = [r.attack for r in sorted(results, key=lambda r: len(r.needs))]
    first = same_order({name: scores[name] for name in names})
    level = bonferroni_level(ERROR, len(set(first.values())))
    return tuple(
        replace(
            r,
            same_as=first[r.attack] if first[r.attack] != r.attack else "",
            corrected=grouped.auc_interval(scores[r.attack], member, group, level),
        )
        for r in results
    )


def rates(
    scores: Any, member: Bools, strict: bool = False, group: Any = None
) -> tuple[metrics.Interval, list[Rate], list[Rate]]:
    """AUC, and TPR and TNR at the target FPRs and FNRs, of scores (N,), with intervals by group (N,) where there are groups."""
    of, others = _independent(member, group)
    tpr = [_rate(*grouped.tpr_point(scores, member, r, strict, group), r, others) for r in FPRS]
    tnr = [_rate(*grouped.tnr_point(scores, member, r, strict, group), r, of) for r in FPRS]
    return grouped.auc_interval(scores, member, group), tpr, tnr


def _independent(member: Bools, group: Any) -> tuple[float, float]:
    """The effective number of groups of members and of non-members, or the numbers of rows if there are no groups."""
    sides = member, ~member
    each = [None if group is None else np.asarray(group)[side] for side in sides]
    of, others = (grouped.number(units, int(side.sum())) for units, side in zip(each, sides, strict=True))
    return of, others


def unusual(attack: Attack) -> dict[str, Any]:
    """The attack's options that are not its defaults."""
    fields = dataclasses.fields(attack)  # pyright: ignore[reportArgumentType]
    return {f.name: getattr(attack, f.name) for f in fields if getattr(attack, f.name) != f.default}


def shuffled(case: Case, seed: int) -> Case:
    """The same case with membership dealt anew, among the candidates and among the known examples: nothing can be found.

    Where there are groups it is dealt to whole groups, so that the numbers of members and non-members change a little.
    """
    rng = numpy_rng(derive(seed, "null"))
    known = case.evidence.known
    assert known is not None
    told = rng.permutation(case.known_member)
    evidence = replace(case.evidence, known=replace(known, member=torch.from_numpy(told)))
    return Case(evidence, _dealt(case, rng), told, case.group)


def _dealt(case: Case, rng: np.random.Generator) -> Bools:
    if case.group is None:
        return rng.permutation(case.member)
    _, first, of = np.unique(case.group, return_index=True, return_inverse=True)
    return rng.permutation(case.member[first])[of]


def _rate(point: metrics.Point, outer: tuple[float, float], rate: float, n: float) -> Rate:
    # of scores equal to the threshold the point takes none, `outer` a share: it need not hold the point's interval
    low, high = min(outer[0], point.low), max(outer[1], point.high)
    return Rate(point.value, point.low, point.high, rate, point.hits, point.errors, low, high, checks.resolved(rate, n))
