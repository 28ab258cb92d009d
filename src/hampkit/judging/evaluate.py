"""Where membership meets scores: what the scores of an attack on T targets amount to."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hampkit.attacks import Attack
from hampkit.config.sections import JudgeConfig
from hampkit.judging.case import Case, shadows_of_everyone
from hampkit.judging.flags import STRICT_LEVEL, resolved, too_few
from hampkit.judging.results import ERROR, FPRS, AttackResult, Rate, Unit
from hampkit.stats import grouped, metrics
from hampkit.stats.intervals import Interval, bonferroni_level
from hampkit.stats.metrics import Point
from hampkit.stats.pairs import Outer, Pairs, Rates
from hampkit.stats.roc import same_order

Bools = NDArray[np.bool_]
RAISED = ("few", "unresolved", "tied", "inverted", "pooled")  # the flags that depend on scores and membership alone


@dataclass(frozen=True)
class Measured:
    """The numbers of one attack on T targets."""

    pairs: Pairs
    auc: Interval
    auc_within: Interval | None
    tpr: tuple[Rate, ...]  # at each of `FPRS`
    tnr: tuple[Rate, ...]
    flags: tuple[str, ...]

    def numbers(self) -> dict[str, Any]:
        """Those fields of `AttackResult` that scores and membership decide, without the flags."""
        members, nonmembers = (int(side.sum()) for side in self.pairs.sides())
        return {
            "members": members,
            "nonmembers": nonmembers,
            "auc": self.auc,
            "tpr_at_fpr": self.tpr,
            "tnr_at_fnr": self.tnr,
            "targets": len(self.pairs),
            "auc_within": self.auc_within,
        }

    def result(self, attack: Attack, unit: Unit = "target", shape: tuple[int, ...] = (), **more: Any) -> AttackResult:
        """The result of this attack on examples of this shape; more: further fields of `AttackResult`."""
        return AttackResult(
            attack=attack.name,
            needs=attack.needs,
            tier=attack.tier,
            queries=attack.queries(shape),
            flags=(*self.flags, *more.pop("flags", ())),
            unit=unit,
            options=unusual(attack),
            **self.numbers(),
            **more,
        )


def evaluate(scores: Any, membership: Any, judged: Any = None, rows: Any = None, strict: bool = False) -> Measured:
    """AUC, TPR and TNR with intervals, and flags, from the scores (T, N) of an attack on T targets; (N,) for one target.

    Of several targets the AUC is over all pairs of target and example, with the mean of the targets' own beside it.
    membership: (T, N) bool. judged: (T, N) bool, without those that the adversary knows, or that are left out; default: all.
    rows: (T, N) or (N,), the place of each example in the data set; rows that are not independent, such as those of one person,
    share one number. Default: column n is one row for every target, and all columns are independent.
    strict: error rates stay below their targets, instead of not exceeding them.

    Raises: `ValueError` for shapes that differ, scores that are NaN, and if members or non-members are missing.
    """
    return measured(Pairs.of(scores, membership, judged, rows, strict))


def measured(pairs: Pairs, pooled: bool = True, overlap: float = 0.0) -> Measured:
    """All numbers of an attack's scores of pairs.

    pooled: AUC and rates of several targets are over all pairs together, with the mean of the targets' own AUCs beside it. Else
    they are means of the targets' own, as an attacker of one model meets them: the scores of few targets need not be on one
    scale. overlap: of the targets' examples, see `hampkit.stats.intervals.mean_of_seeds`.
    """
    auc_at = pairs.auc if pooled else pairs.auc_within
    auc, within = auc_at(), pairs.auc_within() if pooled and len(pairs) > 1 else None
    tpr, tnr, tied = rates_of(pairs) if pooled else _rated(*pairs.of_means(FPRS, overlap), _who(pairs, pooled))
    raised = (
        any(rate.reason for rate in (tpr[0], tnr[0])),
        any(not rate.resolved and not rate.reason for rate in (tpr[0], tnr[0])),
        tied,
        auc.high < 0.5 and auc_at(STRICT_LEVEL).high < 0.5,
        within is not None and within.value > auc.high,
    )
    flags = tuple(name for name, is_raised in zip(RAISED, raised, strict=True) if is_raised)
    return Measured(pairs, auc, within, tpr, tnr, flags)


def rates_of(pairs: Pairs) -> tuple[tuple[Rate, ...], tuple[Rate, ...], bool]:
    """TPR and TNR at each of `FPRS`, and whether equal scores cost one of them at the first."""
    return _rated(pairs.rates(FPRS), pairs.independent(), _who(pairs))


def _rated(found: Rates, independent: tuple[float, float], who: str) -> tuple[tuple[Rate, ...], tuple[Rate, ...], bool]:
    """Rates with whether they are resolved; independent: numbers of members and of non-members, which ``who`` names."""
    members, nonmembers = independent
    tpr = tuple(_rate(*p, at, nonmembers, f"{who}non-members") for p, at in zip(found.tpr, FPRS, strict=True))
    tnr = tuple(_rate(*p, at, members, f"{who}members") for p, at in zip(found.tnr, FPRS, strict=True))
    return tpr, tnr, found.tied


def _who(pairs: Pairs, pooled: bool = True) -> str:
    """What is counted of members and of non-members: themselves, their pairs with several targets, or groups."""
    if len(pairs) > 1:
        return "pairs with " if pooled else ""
    sizes = np.ones(1) if pairs.rows is None else np.unique(pairs.rows, return_counts=True)[1]
    if sizes.max() == 1:
        return ""
    return "groups of " if sizes.min() == sizes.max() else "effective groups of "  # uneven ones count for fewer


def judge_scores(attack: Attack, scores: Any, known_scores: Any, case: Case, judge: JudgeConfig) -> AttackResult:
    """All numbers of one attack on one target.

    The threshold of the balanced accuracy is the attack's own, or is chosen on the known part.
    """
    threshold = attack.threshold
    if threshold is None:
        threshold = metrics.best_threshold(known_scores, case.known_member)
    found = evaluate(scores, case.member, rows=case.group, strict=judge.strict)
    overlapping = judge.candidates == "all" and "known" in attack.needs
    shadows = shadows_of_everyone(case.evidence) if "shadows" in attack.needs else None
    return found.result(
        attack,
        shape=tuple(case.evidence.x.shape[1:]),
        flags=("overlapping",) if overlapping else (),
        balanced_accuracy=found.pairs.balanced_accuracy(threshold),
        left_out=0 if shadows is None else shadows.left_out(),
        variance="" if shadows is None else attack.variance_used(*shadows.sizes()),
    )


def judged_together(
    results: Sequence[AttackResult], scores: Mapping[str, NDArray[np.float64]], member: Bools, group: Any = None
) -> tuple[AttackResult, ...]:
    """The attacks of one model, each with the attack whose order it shares and its AUC at the level for the best of them.

    scores: attack → (N,). member: (N,) bool. group: (N,) or None. Of attacks with one order the one that needs least, and of
    these the first, gives its name to all.
    """
    names = [r.attack for r in sorted(results, key=lambda r: len(r.needs))]
    first = same_order({name: scores[name] for name in names})
    level = bonferroni_level(ERROR, len(set(first.values())))
    return tuple(
        replace(
            r,
            same_as=first[r.attack] if first[r.attack] != r.attack else "",
            auc_corrected=grouped.auc_interval(scores[r.attack], member, group, level),
        )
        for r in results
    )


def unusual(attack: Attack) -> dict[str, Any]:
    """The attack's options that are not its defaults."""
    fields = dataclasses.fields(attack)  # pyright: ignore[reportArgumentType]
    return {f.name: getattr(attack, f.name) for f in fields if getattr(attack, f.name) != f.default}


def _rate(point: Point, outer: Outer, rate: float, n: float, who: str) -> Rate:
    # of scores equal to the threshold the point takes none, `outer` a share: it need not hold the point's interval
    low, high = min(outer[0], point.low), max(outer[1], point.high)
    counts, caution = (point.hits, point.errors), (resolved(rate, n), too_few(rate, n, who))
    return Rate(point.value, point.low, point.high, rate, *counts, low, high, *caution)
