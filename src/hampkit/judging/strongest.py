"""The worst attack on a model, chosen on one half of the candidates and judged on the other; and the types of a comparison."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hampkit.errors import UserError
from hampkit.judging.evaluate import rates_of
from hampkit.judging.flags import FLAGS, SAMPLING
from hampkit.judging.results import ModelResult, Rate
from hampkit.judging.seeds import share_of
from hampkit.rng import derive, numpy_rng
from hampkit.stats import grouped, metrics
from hampkit.stats.intervals import Interval, mean_of_seeds
from hampkit.stats.pairs import Pairs, mean_auc

TARGET, REPEATED = "target", "leave-one-out"
# Each half is judged by the choice of the other. If k attacks have the same AUC, the two judged AUCs have the correlation
# M²/(k − 1), with M the expected maximum of k standard normals: 0.32 for two attacks, 0.36 for three, 0.26 for ten. If one attack
# is clearly the best, it is 0
CORRELATION = 0.36
BOTH = " / "  # between two names, if the halves choose different attacks
Bools = NDArray[np.bool_]
Half = dict[str, tuple[Any, ...]]  # attack → scores, membership and, if rows of one target are in groups, the groups


@dataclass(frozen=True)
class Leak:
    """The worst attack on a defense: chosen on each half and judged on the other; numbers are means of the two."""

    attack: str  # the choice of both halves, or both names
    judged: str  # target, or leave-one-out
    auc: Interval  # over several seeds the mean, with Student's interval
    tpr: Rate  # at a false-positive rate of 0.1 %
    tnr: Rate  # at a false-negative rate of 0.1 %
    members: int  # judged, over all seeds
    nonmembers: int
    flags: tuple[str, ...] = ()  # of that attack with any seed; `inverted` also if another attack has it


@dataclass(frozen=True)
class OnCanaries:
    """A defense trained with canaries, and the worst attack on them."""

    test: Interval  # test accuracy
    leak: Leak
    about: tuple[dict[str, Any], ...]  # of each seed: kind, count, hash and bounds


@dataclass(frozen=True)
class Entry:
    """One defense."""

    recipe: str
    defense: str
    runs: tuple[str, ...]  # a run folder per seed
    accuracy: dict[str, float]  # train, val, test: means over seeds
    test: Interval  # test accuracy; the interval is exact for one seed, and Student's for several
    leak: Leak
    # as published: for each rate the attack with the highest value, that value, whether it is resolved, and a count or ""
    highest: dict[str, tuple[str, float, bool, str]]
    seconds: float  # of training the target, mean over seeds
    queries: float  # forward passes per answer
    overhead: float  # time of an answer divided by that of the network's own answer
    summary: str = ""  # facts of the defense; by seed if they differ
    weights: tuple[str, ...] = ()  # SHA-256 of each model's file of weights, one for each run
    commands: tuple[str, ...] = ()  # that train and attack each model again; an empty text where there is none
    started: tuple[str, ...] = ()  # when the training of each model began
    canaries: OnCanaries | None = None  # the same recipe, judged on canaries


@dataclass(frozen=True)
class Comparison:
    """Several defenses on one data set, with the same split."""

    data: str
    seeds: tuple[int, ...]
    shadows: int
    entries: tuple[Entry, ...]
    version: str
    left_out: dict[str, str] = field(default_factory=dict)  # defense → why it could not be trained
    options: dict[str, str] = field(default_factory=dict)  # as given by the user
    command: str = ""  # that makes the comparison again
    data_sha256: str = ""  # of the data as read
    device: str = ""  # of all models, if it is the same
    versions: dict[str, str] = field(default_factory=dict)  # of packages, likewise
    replaced: tuple[Path, ...] = field(default=(), compare=False)  # files that existed with another content
    # what became of each limit of a policy, which is in results.json
    policy: tuple[dict[str, Any], ...] = field(default=(), compare=False)

    @property
    def passed(self) -> bool:
        """Whether all limits of the policy let the models pass."""
        return all(outcome["passed"] for outcome in self.policy)

    def to_json(self) -> dict[str, Any]:
        document = asdict(self)
        del document["replaced"], document["policy"]
        seen = dict.fromkeys(flag for entry in self.entries for flag in entry.leak.flags)
        texts = {flag: FLAGS[flag] for flag in (*SAMPLING, *seen)}
        return {"schema": 2, "hampkit": document.pop("version"), **document, "flags": texts}


def flagged(leak: Leak, results: Sequence[ModelResult]) -> Leak:
    """The leak with the flags that its attack has with any seed.

    `few` and `unresolved` are left out, because each rate states them. `inverted` is added if any attack has it: an inverted
    attack is never chosen, although it finds members when it is turned around.
    """
    names = leak.attack.split(BOTH)
    judged = [a for r in results for a in r.of("leave-one-out" if leak.judged == REPEATED else "target")]
    everywhere = [a for r in results for a in r.attacks]
    mine = [flag for a in judged if a.attack in names for flag in a.flags if flag not in SAMPLING]
    turned = ["inverted"] if any("inverted" in a.flags for a in everywhere) else []
    return replace(leak, flags=tuple(dict.fromkeys([*mine, *turned])))


@dataclass(frozen=True)
class Halves:
    """Scores and membership of every attack on one run, (N,) or (T, N), in two halves."""

    one: Half
    other: Half
    units: Any = None  # (N,) of leave-one-out: which examples are not independent

    def enough(self) -> bool:
        """Whether there are at least two models in each half."""
        return all(len(scores) >= 2 for half in (self.one, self.other) for scores, *_ in half.values())


def _half(n: int, seed: int) -> Bools:
    """(n,) bool, a half drawn with a run's seed; of two or more, each half has at least one."""
    return numpy_rng(derive(seed, "choosing half")).permutation(n) < n // 2


def half_of_models(targets: Sequence[int], paired: bool, seed: int) -> Bools:
    """(T,) bool, a half of the models. Twins stay together, because they are trained on complementary members."""
    groups = np.asarray(targets) // 2 if paired else np.asarray(targets)
    kinds, of = np.unique(groups, return_inverse=True)
    return _half(len(kinds), seed)[of]


def half_of_each(member: Bools, seed: int, group: Any = None) -> Bools:
    """(n,) bool, a half of the members and of the non-members, in whole groups if there are groups (n,).

    Raises: `UserError` if there are fewer than two of either.
    """
    half = np.zeros(len(member), dtype=bool)
    for side, word in ((True, "members"), (False, "non-members")):
        rows = np.flatnonzero(member == side)
        units = np.arange(len(rows)) if group is None else np.unique(group[rows], return_inverse=True)[1]
        count = int(units.max(initial=-1)) + 1
        if count < 2:
            who = word if group is None else f"groups of {word}"
            raise UserError(
                f"{count} judged {who}: to compare, one half chooses the attack and the other judges it; judge at least two"
                " (judge.known_train and judge.known_val set how many the attacker knows instead)"
            )
        half[rows] = _half(count, derive(seed, word))[units]
    return half


def judged_by_halves(cases: Sequence[Halves], judged: str, strict: bool = False, overlap: float = 0.0) -> Leak:
    """The worst attack on one model, or on S models with a seed each; overlap: see `hampkit.stats.intervals.mean_of_seeds`."""
    first, second = (_best(halves, judged) for halves in ([c.one for c in cases], [c.other for c in cases]))
    parts = [((first, *c.other[first]), (second, *c.one[second])) for c in cases]
    measured = [_measure(both, judged, c.units, strict) for both, c in zip(parts, cases, strict=True)]
    ends = [_highest_end(c) for c in cases]
    measured = [(replace(m[0], high=max(m[0].high, end)), *m[1:]) for m, end in zip(measured, ends, strict=True)]
    members, others = (
        int(sum((member == side).sum() for both in parts for _, _, member, *_ in both)) for side in (True, False)
    )
    auc, name = mean_of_seeds([m[0] for m in measured], overlap), BOTH.join(dict.fromkeys((first, second)))
    return Leak(name, judged, auc, _rate(measured, 1, overlap), _rate(measured, 2, overlap), members, others)


def _best(halves: Sequence[Half], judged: str) -> str:
    """The attack that finds most on these halves, on average over seeds, of those that every seed has; see `worst`."""
    names = [n for n in halves[0] if all(n in half for half in halves)]
    return max(names, key=lambda n: float(np.mean([_found(half[n], judged) for half in halves])))


def _found(arrays: tuple[Any, ...], judged: str) -> float:
    """The criterion of the choice: for one target the lower bound of the AUC, for shadow models the AUC over all pairs."""
    if judged == TARGET:
        return grouped.auc_interval(*arrays).low
    return metrics.auc(np.ravel(arrays[0]), np.ravel(arrays[1]))


def _pairs(arrays: Sequence[Any], units: Any) -> Pairs:
    """The pairs of one half. arrays: scores, membership and, if there are any, groups of one target; units: of leave-one-out."""
    scores, member, *groups = arrays
    return Pairs.of(scores, member, rows=groups[0] if groups else units)


def _highest_end(case: Halves) -> float:
    """The highest upper bound of the AUC of any attack, on both halves together."""
    together = (zip(case.one[name], case.other[name], strict=True) for name in case.one)
    return max(_pairs([np.concatenate(both) for both in halves], case.units).auc().high for halves in together)


def _measure(parts: Sequence[tuple[Any, ...]], judged: str, units: Any, strict: bool) -> tuple[Interval, Rate, Rate]:
    """AUC and rates of one seed: means of the halves, each judged with the attack that the other half chose."""
    pairs = [_pairs(arrays, units) for _, *arrays in parts]
    found = [rates_of(replace(p, strict=strict)) for p in pairs]
    auc, rated = mean_auc(pairs, correlation=CORRELATION), [(tpr[0], tnr[0]) for tpr, tnr, _ in found]
    tpr, tnr = (_mean(both, independent=judged == TARGET) for both in zip(*rated, strict=True))
    return auc, tpr, tnr


def _mean(both: Sequence[Rate], independent: bool) -> Rate:
    """The mean rate of two halves; halves of models are not independent, because they share the examples."""
    given = metrics.mean_rate(both, independent)
    outer = metrics.mean_rate([Interval(r.value, r.outer_low, r.outer_high) for r in both], independent)
    counts = (sum(r.hits for r in both), sum(r.errors for r in both))
    reason = next((f"{r.reason} in each half" for r in both if r.reason), "")
    caution = (all(r.resolved for r in both), reason)
    return Rate(given.value, given.low, given.high, both[0].at, *counts, outer.low, outer.high, *caution)


def _rate(measured: Sequence[tuple[Interval, Rate, Rate]], which: int, overlap: float) -> Rate:
    """One rate of one seed; of several seeds the mean with Student's interval, and the sums of the counts."""
    each: list[Rate] = [m[which] for m in measured]  # pyright: ignore[reportAssignmentType]
    if len(each) == 1:
        return each[0]
    mean = mean_of_seeds([Interval(r.value, r.outer_low, r.outer_high) for r in each], overlap)
    hits, errors = sum(r.hits for r in each), sum(r.errors for r in each)
    caution = (all(r.resolved for r in each), next((r.reason for r in each if r.reason), ""))
    return Rate(mean.value, mean.low, mean.high, each[0].at, hits, errors, mean.low, mean.high, *caution)


def test_accuracy_of(results: Sequence[ModelResult], one_split: bool) -> Interval:
    """The test accuracy over seeds; one_split: all have the same test rows."""
    overlap = share_of(results[0], results[0].rows["test"], one_split)
    return mean_of_seeds([r.accuracy_interval("test") for r in results], overlap)


def highest(results: Sequence[ModelResult], curve: str) -> tuple[str, float, bool, str]:
    """The attack on the target with the highest rate at 0.1 %, mean over seeds, as in the published comparison.

    Only attacks with one question about each example, on what the release returns, are published ones. The name, the rate,
    whether it is resolved, and the count that is shown in its place where there are too few examples.
    """
    found: dict[str, list[Rate]] = {}
    judged: dict[str, int] = {}
    for result in results:
        for attack in (a for a in result.of("target") if a.queries == 1 and a.tier != "weights"):
            found.setdefault(attack.attack, []).append(getattr(attack, curve)[0])
            side = attack.members if curve == "tpr_at_fpr" else attack.nonmembers
            judged[attack.attack] = judged.get(attack.attack, 0) + side
    values = {name: float(np.mean([rate.value for rate in rates])) for name, rates in found.items()}
    name = max(values, key=lambda n: values[n])
    few = any(rate.reason for rate in found[name])
    count = f"{sum(rate.hits for rate in found[name]):,} of {judged[name]:,}" if few else ""
    return name, values[name], all(rate.resolved for rate in found[name]), count
