"""Models of one recipe that differ in their seed alone, as one entry of a report."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hampkit.config.content import content_hash
from hampkit.errors import Notice
from hampkit.judging.results import ModelResult, Unit
from hampkit.judging.seeds import common_attacks, over_seeds
from hampkit.stats.pairs import Pairs
from hampkit.workflows.report_inputs import Evaluated, curve
from hampkit.workflows.scores import read_scores

PLACES: dict[Unit, Callable[[Mapping[str, Any], str], str]] = {  # details and name of an attack → place of its scores
    "target": lambda details, name: details["scores"][name],
    "leave-one-out": lambda details, name: details["repeated"][name][0],
}


def one_for_each_recipe(evaluated: Sequence[Evaluated]) -> list[Evaluated]:
    """The evaluations, those of one recipe with several seeds as one, in the order of the first of each."""
    found: dict[str, list[Evaluated]] = {}
    for each in evaluated:
        found.setdefault(_recipe(each), []).append(each)
    return [one for group in found.values() for one in ([_together(group)] if _differ(group) else group)]


def _recipe(each: Evaluated) -> str:
    """What models have in common that differ in their seed alone."""
    recipe = {key: value for key, value in each.run.recipe().items() if key != "seed"}
    shadows = (each.details["provenance"].get("shadows") or {}).get("name")  # their scheme and number
    return content_hash([each.result.recipe, recipe, each.result.judge, shadows])


def one_split(recipe: Mapping[str, Any]) -> bool:
    """Whether all seeds of a recipe have the same split."""
    return recipe["split"]["seed"] >= 0 or bool(recipe["split"].get("permutation"))


def _differ(group: Sequence[Evaluated]) -> bool:
    """Whether there are several models, each with a seed of its own, that have an attack in common."""
    seeds = {each.result.seed for each in group}
    return 1 < len(seeds) == len(group) and bool(common_attacks([each.result for each in group], "target"))


def _together(models: Sequence[Evaluated]) -> Evaluated:
    """One evaluation of the models of one recipe, in the order of their seeds."""
    group = sorted(models, key=lambda each: each.result.seed)
    results = [each.result for each in group]
    _warn_of_missing(results)
    targets, repeated = (
        {
            name: Pairs.joined([_pairs(e, place(e.details, name)) for e in group])
            for name in common_attacks(results, unit)
        }
        for unit, place in PLACES.items()
    )
    result = over_seeds(results, targets, repeated, one_split(group[0].run.recipe()))
    return Evaluated(group[0].run, result, _details(group, targets))


def _warn_of_missing(results: Sequence[ModelResult]) -> None:
    """Warn of attacks that are left out because not every seed has them, with the same options."""
    missing = []
    for unit in PLACES:
        what = "" if unit == "target" else f" ({unit})"
        kept = common_attacks(results, unit)
        names = dict.fromkeys(a.attack for result in results for a in result.of(unit))
        missing += [name + what for name in names if name not in kept]
    if missing:
        shown = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
        warnings.warn(
            f"{results[0].recipe}: the entry of seeds {', '.join(str(r.seed) for r in results)} has only the attacks that every"
            f" seed has with the same options; left out: {shown}",
            Notice,
            stacklevel=4,
        )


def _pairs(each: Evaluated, place: str) -> Pairs:
    """The pairs of one attack on one run's target, or on its shadow models; place: of their scores."""
    file = read_scores(each.run, place)
    return Pairs.of(file["scores"], file["member"], rows=file["unit"], strict=each.result.judge["strict"])


def _details(group: Sequence[Evaluated], targets: Mapping[str, Pairs]) -> dict[str, Any]:
    """Curves of all pairs; histograms of the first seed; where each model comes from."""
    first, sources = group[0].details, [each.details["provenance"] for each in group]
    seeds = [each.result.seed for each in group]
    together = {
        "recipe": {**sources[0]["recipe"], "seed": ", ".join(map(str, seeds))},
        "seeds": [seed for source in sources for seed in source["seeds"]],
        "seconds": sum(source["seconds"] for source in sources),
    }
    return {
        **first,
        "curves": {name: curve(*pairs.flat()) for name, pairs in targets.items()},  # as if all scores were on one scale
        "histogram": {**first["histogram"], "of": f"seed {seeds[0]}"},
        "records": {**first.get("records", {}), "of": f"seed {seeds[0]}"},
        "provenance": {**sources[0], **together},
    }
