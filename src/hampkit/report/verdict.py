"""One line in plain words: what the table means."""

from __future__ import annotations

from typing import Any

from hampkit.report.view import percent


def verdict(results: Any) -> str:
    """What the strongest attack found per model, at what price in accuracy, and what the numbers cannot say.

    results: a `hampkit.results.Results`.
    """
    parts = [_model(m) for m in results.models]
    return ". ".join([*parts, *_comparison(results), *_caveats(results.models)]) + "."


def _model(m: Any) -> str:
    best = m.strongest()
    found = f"{m.recipe} (test accuracy {percent(m.accuracy['test'])}): "
    if best.auc.low <= 0.5:
        return (
            found
            + f"no attack tells members from non-members beyond chance (highest: {best.attack}, AUC {_interval(best.auc)})"
        )
    return (
        found
        + f"members give themselves away, AUC {_interval(best.auc)} by the attack {best.attack} (0.5 would be none)"
    )


def _interval(i: Any) -> str:
    return f"{i.value:.3f} [{i.low:.3f}, {i.high:.3f}]"


def _comparison(results: Any) -> list[str]:
    """Two models on the same candidates: whether one is shown to leak less."""
    d = results.difference
    if d is None:
        return []
    first, second = (m.recipe for m in results.models)
    if d.low <= 0 <= d.high:
        return [f"On these candidates neither is shown to leak less (difference in AUC {_interval(d)})"]
    less, more = (second, first) if d.value > 0 else (first, second)
    return [f"{less} leaks less than {more} (difference in AUC {_interval(d)})"]


def _caveats(models: Any) -> list[str]:
    flags = {f for m in models for a in m.attacks for f in a.flags}
    said = []
    if "unresolved" in flags:
        n = min(a.nonmembers for m in models for a in m.attacks)
        said.append(f"What happens at 0.1 % false positives, {n} non-members cannot show; that takes 10,000")
    if "masked" in flags:
        said.append(
            "Where attacks are flagged masked, the release hides confidence that a label-only attack does not need"
        )
    return said
