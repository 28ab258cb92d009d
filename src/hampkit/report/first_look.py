"""The first impression: a few attacks of leave-one-out on each model, at a rate that their numbers resolve."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hampkit.judging.results.attacks import of_models, tpr_at
from hampkit.judging.results.wording import level_label, model_titles, percent
from hampkit.report.rows import Json, outer

FPR = 0.01
ATTACKS = {  # column → the attack; the last one is on the network behind the release
    "LiRA, one question": "lira-online",
    "label-only": "label-only",
    "rank": "rank",
    "stripped": "stripped-lira",
}
HEAD = ("model", "test accuracy", *ATTACKS)


@dataclass(frozen=True)
class FirstLook:
    """A table, one sentence for each model, and how the table is to be read."""

    rows: list[list[str]]
    sentences: list[str]
    note: str


def first_look(results: Json) -> FirstLook | None:
    """The first impression of results with leave-one-out; None without it."""
    models = list(zip(model_titles(results), results["models"], strict=True))
    if not models or not all(_points(model) for _, model in models):
        return None
    rows = [[title, percent(model["accuracy"]["test"]), *_cells(_points(model))] for title, model in models]
    attack = of_models(models[0][1])[0]
    asked = max(a.get("queries", 1) for _, model in models for a in of_models(model))
    note = (
        f"Share of members found at {level_label(FPR)} false positives, with 95 % intervals: {attack['targets']} shadow models in"
        f" turn are the target, and the others attack it. Label-only and rank ask {asked} questions about each record and see the"
        " predicted label, or the order of the classes; stripped sees the network behind the release."
    )
    return FirstLook(rows, [_sentence(title, _points(model)) for title, model in models], note)


def _points(model: Json) -> dict[str, dict[str, Any]]:
    """Column → TPR at `FPR` with its outer interval. Where the release changes nothing, ``stripped`` is LiRA."""
    made = {attack["attack"]: attack for attack in of_models(model)}
    found: dict[str, dict[str, Any]] = {}
    for column, name in ATTACKS.items():
        attack = made.get(name) or (made.get("lira-online") if name in (model.get("skipped") or {}) else None)
        if attack is not None:
            found[column] = outer(tpr_at(attack, FPR))
    return found


def _cells(points: dict[str, dict[str, Any]]) -> list[str]:
    """The rates with their intervals, in percent without the sign."""
    ends = {c: [percent(p[key])[:-1] for key in ("value", "low", "high")] for c, p in points.items()}
    return [f"{ends[c][0]} [{ends[c][1]}, {ends[c][2]}]" if c in ends else "–" for c in ATTACKS]


def _sentence(title: str, points: dict[str, dict[str, Any]]) -> str:
    """What one question finds, and whether another attack finds more beyond the intervals."""
    first, *_ = points
    one, best = points[first], max(points, key=lambda column: points[column]["value"])
    said = f"{title}: one question about each record finds {percent(one['value'])} of the members"
    if points[best]["low"] > one["high"]:
        return f"{said}, and the attack {best} finds {percent(points[best]['value'])}: the release hides what training leaks."
    return f"{said}, and no attack of this table is shown to find more."
