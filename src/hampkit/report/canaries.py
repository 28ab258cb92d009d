"""Attacks on canaries beside the same attacks on records of the data set, for all forms of the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hampkit.judging.results.attacks import of_models, of_target, ranked, tpr_at, twins_of
from hampkit.judging.results.wording import at_least, level_label, percent
from hampkit.report.rows import Json, judged_on

# the attacks that are shown, in this order, if they were made; and the strongest on canaries, whichever it is
SHOWN = (
    "lira-online", "rmia", "label-only", "repeated", "rank", "near-duplicate", "reference", "stripped-lira", "stripped-rmia",
)  # fmt: skip

CANARY_NOTE = (
    "Canaries are records that are made to be remembered, and a second model of each recipe was trained with them. Its attacks"
    " are judged on canaries alone: what leaks most is seldom among typical records."
)


@dataclass(frozen=True)
class CanaryRow:
    """One attack on one recipe: on records of the data set, and on canaries."""

    recipe: str
    attack: str
    judged: str  # target, or how many shadow models in turn
    level: str  # the false-positive rate of both rates
    # text, of the TPR; value, low, high of the AUC, and auc, their text; empty if the attack was not made
    clean: dict[str, Any]
    canary: dict[str, Any]


@dataclass(frozen=True)
class CanaryBlock:
    """One recipe with its canaries."""

    recipe: str
    about: str  # number, kind, included, hash
    accuracy: str  # without and with canaries
    bounds: str
    rows: tuple[CanaryRow, ...]


def canary_blocks(results: Json) -> list[CanaryBlock]:
    """One block for each model with canaries, beside the model of the same recipe and seed without them."""
    models = results["models"]
    return [_block(m, twin) for m, twin in zip(models, twins_of(models), strict=True) if m.get("canaries")]


def about_line(canaries: Json) -> str:
    """Number, kind, coins and hash of canaries.

    >>> about_line({"count": 500, "kind": "blank", "included": 240, "sha256": "0123456789abcdef"})
    '500 blank canaries, 240 of them in training by fair coins; SHA-256 0123456789ab…'
    """
    of = (
        f"{canaries['count']:,} {canaries['kind']} canaries, {canaries['included']:,} of them in training by fair coins"
    )
    return f"{of}; SHA-256 {canaries['sha256'][:12]}…"


def bounds_line(canaries: Json) -> str:
    """The one-run bounds in words.

    >>> bounds_line({"bounds": {"reason": "not available: no coins"}})
    'bounds on epsilon: not available: no coins'
    """
    found = canaries["bounds"]
    if "reason" in found:
        return f"bounds on epsilon: {found['reason']}"
    return (
        f"at {100 * found['level']:.0f} % confidence, from the coins of {found['canaries']:,} canaries and {found['attack']}:"
        f" epsilon ≥ {at_least(found['epsilon'])} at delta = {found['delta']:g} (at most"
        f" {at_least(found['most']['epsilon'])} can be shown), mu ≥ {at_least(found['mu'])}"
    )


def _block(canary: Json, clean: Json | None) -> CanaryBlock:
    about, level = canary["canaries"], _level(canary)
    names = [name for name in _attacks(canary) if _attack(canary, name) is not None]
    rows = (_row(canary, clean, name, level) for name in names)
    return CanaryBlock(canary["recipe"], about_line(about), _accuracy(canary, clean), bounds_line(about), tuple(rows))


def _attacks(canary: Json) -> list[str]:
    made = _of(canary)
    best = [attack["attack"] for attack in ranked(made)[:1]]
    return list(dict.fromkeys([*SHOWN, *best]))


def _of(model: Json) -> Sequence[Json]:
    """The attacks of leave-one-out if there are any, else those on the target."""
    return of_models(model) or of_target(model)


def _attack(model: Json | None, name: str) -> Json | None:
    return None if model is None else next((a for a in _of(model) if a["attack"] == name), None)


def _level(canary: Json) -> float:
    """The smallest false-positive rate at which the canaries are enough for a rate; 0.1 % if there is none."""
    points = [point for attack in _of(canary)[:1] for point in attack["tpr_at_fpr"]]
    return min((point["fpr"] for point in points if not point.get("reason")), default=0.001)


def _row(canary: Json, clean: Json | None, name: str, level: float) -> CanaryRow:
    attack = _attack(canary, name)
    assert attack is not None
    other = _attack(clean, name)
    sides = [{} if a is None else _numbers(a, level) for a in (other, attack)]
    return CanaryRow(canary["recipe"], name, judged_on(attack), level_label(level), *sides)


def _numbers(attack: Json, level: float) -> dict[str, Any]:
    auc = attack["auc"]
    said = f"{auc['value']:.3f} [{auc['low']:.3f}, {auc['high']:.3f}]"
    return {"text": rate_text(tpr_at(attack, level), attack["members"]), "auc": said, **auc}


def rate_text(point: Json, members: int) -> str:
    """The rate with its outer interval, or the count where a rate has too few examples."""
    if point.get("reason"):
        return f"{point['tp']:,} of {members:,} (few)"
    said = f"{percent(point['value'])} [{percent(point['outer_low'])}, {percent(point['outer_high'])}]"
    return said if point["resolved"] else f"{said} (unresolved)"


def _accuracy(canary: Json, clean: Json | None) -> str:
    """The test accuracy without canaries and with them."""
    sides = [(model, word) for model, word in ((clean, "without"), (canary, "with")) if model and model["accuracy"]]
    said = [f"{percent(m['accuracy']['test'])} (n = {m['rows']['test']:,}) {word}" for m, word in sides]
    return (
        f"test accuracy {', '.join(said)} canaries" if said else "no test accuracy: all other records are in training"
    )
