"""One line in plain words: what the table means."""

from __future__ import annotations

from typing import Any

from hampkit.report.view import percent


def verdict(results: Any) -> str:
    """What the strongest attack found per model, at what price in accuracy, and what the numbers cannot say.

    results: a `hampkit.results.Results`.
    """
    parts = [_model(m) for m in results.models]
    return ". ".join([*parts, *_comparison(results.models), *_caveats(results.models)]) + "."


def _model(m: Any) -> str:
    best = m.strongest()
    found = f"{m.recipe} (test accuracy {percent(m.accuracy['test'])}): "
    if best.auc.low <= 0.5:
        return (
            found
            + f"no attack tells members from non-members beyond chance (strongest: {best.attack}, AUC {_interval(best.auc)})"
        )
    return (
        found
        + f"its strongest attack, {best.attack}, ranks a member above a non-member in {_interval(best.auc, 100)} of cases"
    )


def _interval(i: Any, scale: int = 1) -> str:
    if scale == 100:
        return f"{percent(i.value)} ({percent(i.low)} to {percent(i.high)})"
    return f"{i.value:.3f} ({i.low:.3f} to {i.high:.3f})"


def _comparison(models: Any) -> list[str]:
    """Two models on the same data: whether their intervals allow to say that one leaks less."""
    if len(models) != 2 or models[0].data["sha256"] != models[1].data["sha256"]:
        return []
    less, more = sorted(models, key=lambda m: m.strongest().auc.value)
    apart = less.strongest().auc.high < more.strongest().auc.low
    if apart:
        return [f"{less.recipe} gives away less than {more.recipe}, beyond the intervals"]
    return [
        f"The intervals overlap: from these candidates alone, {less.recipe} is not shown to give away less than {more.recipe}"
    ]


def _caveats(models: Any) -> list[str]:
    flags = {f for m in models for a in m.attacks for f in a.flags}
    said = []
    if "unresolved" in flags:
        n = min(min(a.members, a.nonmembers) for m in models for a in m.attacks)
        said.append(f"At 0.1 % false positives {n} non-members are too few to say anything; that takes 10,000")
    if "masked" in flags:
        said.append(
            "Where attacks are flagged masked, the release hides confidence that a label-only attack does not need"
        )
    return said
