"""One recipe, trained with several seeds: each model is a target, and all of them are one result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from hampkit.judging.evaluate import RAISED, measured
from hampkit.judging.results import ERROR, AttackResult, ModelResult, Unit
from hampkit.stats.intervals import bonferroni_level, mean_of_seeds, mean_rate
from hampkit.stats.pairs import Pairs


def common_attacks(models: Sequence[ModelResult], unit: Unit) -> list[str]:
    """The attacks that every model was attacked with, with the same options."""
    options = [{a.attack: a.options for a in model.of(unit)} for model in models]
    return [name for name, own in options[0].items() if all(each.get(name) == own for each in options[1:])]


def over_seeds(
    models: Sequence[ModelResult], targets: Mapping[str, Pairs], repeated: Mapping[str, Pairs]
) -> ModelResult:
    """The result of one recipe with S seeds.

    models: at least one, of one recipe. targets: attack → pairs of the S models, one target each. repeated: attack → pairs of all
    their shadow models; empty without leave-one-out. Accuracies are means over seeds with the interval of `mean_of_seeds`.
    Numbers of rows are those of one seed; all other counts are sums. The null is a mean, with an interval for independent seeds;
    the shift is a mean, with an interval that allows for any dependence.
    """
    first, shifts = models[0], [m.shift for m in models if m.shift is not None]
    attacks = [_attack(_named(models, "target", name), pairs, "seeds") for name, pairs in targets.items()]
    again = [_attack(_named(models, "leave-one-out", n), pairs, "leave-one-out") for n, pairs in repeated.items()]
    return replace(
        first,
        runs=tuple(m.run for m in models),
        seeds=tuple(m.seed for m in models),
        accuracy={part: float(np.mean([m.accuracy[part] for m in models])) for part in first.accuracy},
        intervals={
            part: mean_of_seeds([m.accuracy_interval(part) for m in models])
            for part in first.accuracy
            if first.rows.get(part)
        },
        known=_sums([m.known for m in models]),
        copies=_sums([m.copies for m in models]),
        groups=_sums([m.groups for m in models]),
        attacks=(*_corrected(attacks, targets), *again),
        null=mean_rate([m.null for m in models]),
        off_null=any(m.off_null for m in models),
        shift=mean_rate(shifts, independent=False) if shifts else None,
        facts=_facts(models),
    )


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


def _attack(results: Sequence[AttackResult], pairs: Pairs, unit: Unit) -> AttackResult:
    """One attack on all targets; flags are those of the common scores, and every other flag that any seed has."""
    found = measured(pairs, pooled=unit != "seeds")
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
    """With the AUC at the level for the best of all distinct attacks; attacks of one order for every seed are one attack."""
    kept = {r.attack for r in results}
    results = [replace(r, same_as=r.same_as if r.same_as in kept else "") for r in results]
    level = bonferroni_level(ERROR, len({r.same_as or r.attack for r in results}))
    return [replace(r, auc_corrected=pairs[r.attack].auc_within(level)) for r in results]


def _sums(counts: Sequence[Mapping[str, int]]) -> dict[str, int]:
    return {name: sum(each.get(name, 0) for each in counts) for name in counts[0]}


def _facts(models: Sequence[ModelResult]) -> dict[str, Any]:
    """The facts on which all seeds agree, and the summary."""
    first, *others = (model.facts for model in models)
    agreed = {key: value for key, value in first.items() if all(o.get(key) == value for o in others)}
    summary = summary_of(models)
    return agreed | ({"summary": summary} if summary else {})
