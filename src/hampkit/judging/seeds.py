"""One recipe, trained with several seeds: each model is a target, and all of them are one result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from hampkit.judging.evaluate import RAISED, Measured, measured
from hampkit.judging.results import ERROR, AttackResult, ModelResult, Unit
from hampkit.stats.intervals import bonferroni_level, mean_of_seeds, mean_rate
from hampkit.stats.pairs import Pairs


def common_attacks(models: Sequence[ModelResult], unit: Unit) -> list[str]:
    """The attacks that every model was attacked with, with the same options."""
    options = [{a.attack: a.options for a in model.of(unit)} for model in models]
    return [name for name, own in options[0].items() if all(each.get(name) == own for each in options[1:])]


def over_seeds(
    models: Sequence[ModelResult], targets: Mapping[str, Pairs], repeated: Mapping[str, Pairs], one_split: bool = False
) -> ModelResult:
    """The result of one recipe with S seeds.

    models: at least one, of one recipe. targets: attack → pairs of the S models, one target each. repeated: attack → pairs of all
    their shadow models; empty without leave-one-out. one_split: all seeds have the same split. Accuracies are means over seeds
    with the interval of `mean_of_seeds`. Counts are sums, except that groups are those of the seed with the fewest. The null is a
    mean, with an interval for independent seeds; the shift is a mean, with an interval that allows for any dependence.
    """
    first, shifts = models[0], [m.shift for m in models if m.shift is not None]
    attacks = [
        _target(_named(models, "target", name), pairs, judged_share(first, one_split))
        for name, pairs in targets.items()
    ]
    level = bonferroni_level(ERROR, len(repeated))
    again = [
        replace(
            _attack(_named(models, "leave-one-out", n), measured(pairs), "leave-one-out"),
            auc_corrected=pairs.auc(level),
        )
        for n, pairs in repeated.items()
    ]
    return replace(
        first,
        runs=tuple(m.run for m in models),
        weights=tuple(digest for m in models for digest in m.weights),
        commands=tuple(command for m in models for command in m.commands),
        earlier=tuple(dict.fromkeys(name for m in models for name in m.earlier)),
        seeds=tuple(m.seed for m in models),
        attacks=(*_corrected(attacks, targets), *again),
        null=mean_rate([m.null for m in models]),
        off_null=any(m.off_null for m in models),
        shift=mean_rate(shifts, independent=False) if shifts else None,
        facts=_facts(models),
        exposure={},  # the records of several seeds are several lists
        **_accuracies(models, one_split),
        **_counts(models),
    )


def share_of(model: ModelResult, rows: int, one_split: bool) -> float:
    """The share of so many rows of one seed that are expected in the same part of another seed's split: all if it is the same."""
    return 1.0 if one_split else min(1.0, rows / max(model.data.get("rows", rows), 1))


def judged_share(model: ModelResult, one_split: bool) -> float:
    """`share_of` the judged examples."""
    attack = model.of("target")[0]
    return share_of(model, attack.members + attack.nonmembers, one_split)


def at_levels(pairs: Pairs, attacks: int) -> dict[str, Any]:
    """The AUCs of S targets that decide, at the levels for the best of k distinct attacks: fields of `AttackResult`.

    The mean and the S single AUCs decide together: half of the error is for the mean, half for the single ones. If few seeds
    differ, the interval of their mean is wide, although each of them may show a leak.
    """
    each = bonferroni_level(ERROR / 2, attacks * len(pairs))
    return {
        "auc_corrected": pairs.auc_within(bonferroni_level(ERROR / 2, attacks)),
        "auc_by_seed": tuple(alone.auc(each) for alone in pairs.each_alone()),
    }


def summary_of(models: Sequence[ModelResult]) -> str:
    """The defense's report on its models, given once if all seeds agree and seed by seed otherwise."""
    seeds: dict[str, list[int]] = {}
    for model in models:
        seeds.setdefault(str(model.facts.get("summary", "")), []).append(model.seed)
    if len(seeds) == 1:
        return next(iter(seeds))
    who = {text: f"seed{'s' if len(of) > 1 else ''} {', '.join(map(str, of))}" for text, of in seeds.items()}
    return "; ".join(f"{who[text]}: {text or 'nothing'}" for text in seeds)


def _named(models: Sequence[ModelResult], unit: Unit, name: str) -> list[AttackResult]:
    return [next(a for a in model.of(unit) if a.attack == name) for model in models]


def _target(results: Sequence[AttackResult], pairs: Pairs, overlap: float) -> AttackResult:
    return _attack(results, measured(pairs, pooled=False, overlap=overlap), "seeds")


def _attack(results: Sequence[AttackResult], found: Measured, unit: Unit) -> AttackResult:
    """One attack on all targets; flags are those of the common numbers, and every other flag that any seed has."""
    other = [flag for r in results for flag in r.flags if flag not in RAISED]
    same = {r.same_as for r in results}
    return replace(
        results[0],
        **found.numbers(),
        flags=tuple(dict.fromkeys([*found.flags, *other])),
        unit=unit,
        balanced_accuracy=None,
        same_as=same.pop() if len(same) == 1 else "",
        auc_corrected=None,
        untrained=sum(r.untrained for r in results),
        left_out=sum(r.left_out for r in results),
        variance=", ".join(dict.fromkeys(r.variance for r in results)),
    )


def _corrected(results: Sequence[AttackResult], pairs: Mapping[str, Pairs]) -> list[AttackResult]:
    """With the AUCs at the levels for the best of all distinct attacks; attacks of one order with every seed are one attack."""
    kept = {r.attack for r in results}
    results = [replace(r, same_as=r.same_as if r.same_as in kept else "") for r in results]
    distinct = len({r.same_as or r.attack for r in results})
    return [replace(r, **at_levels(pairs[r.attack], distinct)) for r in results]


def _accuracies(models: Sequence[ModelResult], one_split: bool) -> dict[str, Any]:
    """Mean accuracies, and their intervals."""
    first = models[0]
    shares = {part: share_of(first, first.rows[part], one_split) for part in first.accuracy if first.rows.get(part)}
    return {
        "accuracy": {part: float(np.mean([m.accuracy[part] for m in models])) for part in first.accuracy},
        "intervals": {p: mean_of_seeds([m.accuracy_interval(p) for m in models], share) for p, share in shares.items()},
    }


def _counts(models: Sequence[ModelResult]) -> dict[str, Any]:
    """Sums over the seeds; the groups of the seed with the fewest."""
    sums = {name: _sums([getattr(m, name) for m in models]) for name in ("rows", "known", "copies")}
    fewest = {who: min(m.groups.get(who, 0) for m in models) for who in models[0].groups}
    return {**sums, "groups": fewest, "sizes": {}}


def _sums(counts: Sequence[Mapping[str, int]]) -> dict[str, int]:
    return {name: sum(each.get(name, 0) for each in counts) for name in counts[0]}


def _facts(models: Sequence[ModelResult]) -> dict[str, Any]:
    """The facts on which all seeds agree, and the summary."""
    first, *others = (model.facts for model in models)
    agreed = {key: value for key, value in first.items() if all(o.get(key) == value for o in others)}
    summary = summary_of(models)
    return agreed | ({"summary": summary} if summary else {})
