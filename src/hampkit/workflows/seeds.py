"""Models of one recipe that differ in their seed alone, as one entry of a report."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from hampkit.config.content import content_hash
from hampkit.errors import Notice
from hampkit.judging.results import ModelResult, Unit
from hampkit.judging.seeds import common_attacks, over_seeds
from hampkit.stats.pairs import Pairs
from hampkit.workflows.report_inputs import Evaluated, curve
from hampkit.workflows.scores import read_scores


def one_for_each_recipe(evaluated: Sequence[Evaluated]) -> list[Evaluated]:
    """The evaluations, those of one recipe with several seeds as one, in the order of the first of each."""
    found: dict[str, list[Evaluated]] = {}
    for each in evaluated:
        found.setdefault(_recipe(each), []).append(each)
    groups = [sorted(group, key=lambda e: e.result.seed) if _differ(group) else group for group in found.values()]
    return [one for group in groups for one in (_together(group) if _differ(group) else group)]


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


def _together(group: Sequence[Evaluated]) -> list[Evaluated]:
    results = [each.result for each in group]
    _warn_of_missing(results)
    targets = {n: Pairs.joined([_target(e, n) for e in group]) for n in common_attacks(results, "target")}
    repeated = {n: Pairs.joined([_models(e, n) for e in group]) for n in common_attacks(results, "leave-one-out")}
    result = over_seeds(results, targets, repeated, one_split(group[0].run.recipe()))
    return [Evaluated(group[0].run, result, _details(group, targets))]


def _warn_of_missing(results: Sequence[ModelResult]) -> None:
    """Warn of attacks that are left out because not every seed has them, with the same options."""
    missing = []
    units: list[tuple[Unit, str]] = [("target", ""), ("leave-one-out", " (leave-one-out)")]
    for unit, what in units:
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


def _target(each: Evaluated, name: str) -> Pairs:
    """The pairs of one target."""
    file = read_scores(each.run, each.details["scores"][name])
    return Pairs.of(file["scores"], file["member"], rows=file["unit"], strict=each.result.judge["strict"])


def _models(each: Evaluated, name: str) -> Pairs:
    """The pairs of one run's shadow models."""
    place, _ = each.details["repeated"][name]
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
        "provenance": {**sources[0], **together},
    }
