"""The worst of several attacks on a model, chosen on one half and judged on the other; and what a comparison consists of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hampkit.errors import UserError
from hampkit.judging.evaluate import evaluate
from hampkit.judging.flags import FLAGS
from hampkit.judging.results import ModelResult, Rate
from hampkit.rng import derive, numpy_rng
from hampkit.stats import grouped, metrics
from hampkit.stats.intervals import Interval, mean_of_seeds
from hampkit.stats.pairs import Pairs, mean_auc

TARGET, REPEATED = "target", "leave-one-out"
# The choices are made on each other's half: where k attacks have one AUC, the two judged AUCs correlate by M²/(k − 1), with M the
# expected maximum of k standard normals; that is 0.32 for two attacks, 0.36 for three, 0.26 for ten, and 0 where one is the best
CORRELATION = 0.36
BOTH = " / "  # between the names of two attacks
Bools = NDArray[np.bool_]
Half = dict[str, tuple[Any, ...]]  # attack → scores, membership and, where rows of one target are in groups, these


@dataclass(frozen=True)
class Leak:
    """The worst attack on a defense: chosen on each half, judged on the other; its numbers are means of both."""

    attack: str  # the one that both halves choose; where they differ, both names
    judged: str  # the one target, or every shadow model in turn
    auc: Interval  # over several seeds their mean, with Student's interval
    tpr: Rate  # at a false-positive rate of 0.1 %
    tnr: Rate  # at a false-negative rate of 0.1 %
    members: int  # that are judged, over all seeds
    nonmembers: int
    flags: tuple[str, ...] = ()  # of that attack in any seed: when not to believe it; `inverted` of any attack


@dataclass(frozen=True)
class Entry:
    """One defense."""

    recipe: str
    defense: str
    runs: tuple[str, ...]  # a run folder per seed
    accuracy: dict[str, float]  # train, val, test: means over seeds
    test: Interval  # test accuracy with its exact interval, over one seed; over several Student's
    leak: Leak
    # as published: per rate the attack with the highest value, by its own luck too, and whether so many examples resolve it
    highest: dict[str, tuple[str, float, bool]]
    seconds: float  # of training the target, mean over seeds
    queries: float  # forward passes per answer
    overhead: float  # time of an answer over that of the network's own
    summary: str = ""  # what the defense reports of its models; where seeds differ, of which


@dataclass(frozen=True)
class Comparison:
    """Several defenses on one data set and one split, as it is printed and written."""

    data: str
    seeds: tuple[int, ...]
    shadows: int
    entries: tuple[Entry, ...]
    version: str
    left_out: dict[str, str] = field(default_factory=dict)  # defenses that cannot train here, and why
    options: dict[str, str] = field(default_factory=dict)  # as they were given, for all defenses that take them

    def to_json(self) -> dict[str, Any]:
        document = asdict(self)
        seen = dict.fromkeys(flag for entry in self.entries for flag in entry.leak.flags)
        texts = {flag: FLAGS[flag] for flag in ("unresolved", *seen)}
        return {"schema": 2, "hampkit": document.pop("version"), **document, "flags": texts}


def flagged(leak: Leak, results: Sequence[ModelResult]) -> Leak:
    """With the flags that the attack has in any seed, and `inverted` where any attack has it.

    `unresolved` stands beside each rate. An attack that points the wrong way is never chosen, and finds what its AUC hides.
    """
    names = leak.attack.split(BOTH)
    judged = [a for r in results for a in r.of("leave-one-out" if leak.judged == REPEATED else "target")]
    everywhere = [a for r in results for a in r.attacks]
    mine = [flag for a in judged if a.attack in names for flag in a.flags if flag != "unresolved"]
    turned = ["inverted"] if any("inverted" in a.flags for a in everywhere) else []
    return replace(leak, flags=tuple(dict.fromkeys([*mine, *turned])))


@dataclass(frozen=True)
class Halves:
    """Scores of every attack on one run, (N,) or (T, N), and who is a member, of two halves."""

    one: Half
    other: Half
    units: Any = None  # (N,) of leave-one-out: which examples are not independent

    def enough(self) -> bool:
        """Whether there are two models on either side: fewer have no spread."""
        return all(len(scores) >= 2 for half in (self.one, self.other) for scores, *_ in half.values())


def _half(n: int, seed: int) -> Bools:
    """(n,) half of them, drawn by a run's seed; at least one on either side of two or more."""
    return numpy_rng(derive(seed, "choosing half")).permutation(n) < n // 2


def half_of_models(targets: Sequence[int], paired: bool, seed: int) -> Bools:
    """(T,) half of the models. Twins stay together: what one has learnt the other has not, and luck turns."""
    groups = np.asarray(targets) // 2 if paired else np.asarray(targets)
    kinds, of = np.unique(groups, return_inverse=True)
    return _half(len(kinds), seed)[of]


def half_of_each(member: Bools, seed: int, group: Any = None) -> Bools:
    """(n,) half of the members and half of the non-members, in whole groups (n,) where there are groups.

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
                " (judge.known_train and judge.known_val say how many the attacker knows instead)"
            )
        half[rows] = _half(count, derive(seed, word))[units]
    return half


def judged_by_halves(cases: Sequence[Halves], judged: str, strict: bool = False) -> Leak:
    first, second = (_best(halves, judged) for halves in ([c.one for c in cases], [c.other for c in cases]))
    parts = [((first, *c.other[first]), (second, *c.one[second])) for c in cases]
    measured = [_measure(both, judged, c.units, strict) for both, c in zip(parts, cases, strict=True)]
    ends = [_highest_end(c) for c in cases]
    measured = [(replace(m[0], high=max(m[0].high, end)), *m[1:]) for m, end in zip(measured, ends, strict=True)]
    members, others = (
        int(sum((member == side).sum() for both in parts for _, _, member, *_ in both)) for side in (True, False)
    )
    auc, name = mean_of_seeds([m[0] for m in measured]), BOTH.join(dict.fromkeys((first, second)))
    return Leak(name, judged, auc, _rate(measured, 1), _rate(measured, 2), members, others)


def _best(halves: Sequence[Half], judged: str) -> str:
    """The attack that finds most on these halves, mean over seeds, among those that every seed has; see `worst`."""
    names = [n for n in halves[0] if all(n in half for half in halves)]
    return max(names, key=lambda n: float(np.mean([_found(half[n], judged) for half in halves])))


def _found(arrays: tuple[Any, ...], judged: str) -> float:
    """What an attack is chosen by: for one target the lower bound of its AUC, for shadow models its AUC over all pairs."""
    if judged == TARGET:
        return grouped.auc_interval(*arrays).low
    return metrics.auc(np.ravel(arrays[0]), np.ravel(arrays[1]))


def _pairs(arrays: Sequence[Any], units: Any) -> Pairs:
    """The pairs of one half: (scores, membership) and the groups of one target if there are any; units: of leave-one-out."""
    scores, member, *groups = arrays
    return Pairs.of(scores, member, rows=groups[0] if groups else units)


def _highest_end(case: Halves) -> float:
    """The highest upper bound of the AUC among all attacks, each on both halves together."""
    together = (zip(case.one[name], case.other[name], strict=True) for name in case.one)
    return max(_pairs([np.concatenate(both) for both in halves], case.units).auc().high for halves in together)


def _measure(parts: Sequence[tuple[Any, ...]], judged: str, units: Any, strict: bool) -> tuple[Interval, Rate, Rate]:
    """AUC and rates of one seed: the means of both halves, each with the attack that the other half has chosen."""
    pairs = [_pairs(arrays, units) for _, *arrays in parts]
    found = [evaluate(p.scores, p.membership, rows=p.rows, strict=strict) for p in pairs]
    auc, rated = mean_auc(pairs, correlation=CORRELATION), [(f.tpr[0], f.tnr[0]) for f in found]
    tpr, tnr = (_mean(both, independent=judged == TARGET) for both in zip(*rated, strict=True))
    return auc, tpr, tnr


def _mean(both: Sequence[Rate], independent: bool) -> Rate:
    """The mean rate of two halves. Halves of models are judged on the same examples and are not independent."""
    given = metrics.mean_rate(both, independent)
    outer = metrics.mean_rate([Interval(r.value, r.outer_low, r.outer_high) for r in both], independent)
    counts = (sum(r.hits for r in both), sum(r.errors for r in both))
    resolved = all(r.resolved for r in both)
    return Rate(given.value, given.low, given.high, both[0].at, *counts, outer.low, outer.high, resolved)


def _rate(measured: Sequence[tuple[Interval, Rate, Rate]], which: int) -> Rate:
    """One rate of one seed; of several the mean, Student's interval, and the counts together."""
    each: list[Rate] = [m[which] for m in measured]  # pyright: ignore[reportAssignmentType]
    if len(each) == 1:
        return each[0]
    mean = mean_of_seeds([Interval(r.value, r.outer_low, r.outer_high) for r in each])
    hits, errors = sum(r.hits for r in each), sum(r.errors for r in each)
    resolved = all(r.resolved for r in each)
    return Rate(mean.value, mean.low, mean.high, each[0].at, hits, errors, mean.low, mean.high, resolved)


def test_accuracy_of(results: Sequence[ModelResult]) -> Interval:
    """The test accuracy over seeds."""
    return mean_of_seeds([r.accuracy_interval("test") for r in results])


def highest(results: Sequence[ModelResult], curve: str) -> tuple[str, float, bool]:
    """The attack with the highest rate at 0.1 %, as the published comparison takes it: mean over seeds, target's attacks only."""
    found: dict[str, list[Rate]] = {}
    for result in results:
        for attack in result.of("target"):
            found.setdefault(attack.attack, []).append(getattr(attack, curve)[0])
    values = {name: float(np.mean([rate.value for rate in rates])) for name, rates in found.items()}
    name = max(values, key=lambda n: values[n])
    return name, values[name], all(rate.resolved for rate in found[name])
