"""From results to what a table shows: words and numbers as text, for HTML and Markdown alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

Json = Mapping[str, Any]

NEEDS = {  # the evidence an adversary may hold, in words
    "known": "some known members and non-members",
    "shadows": "shadow models",
    "oracle": "queries of its own choice",
}


@dataclass(frozen=True)
class Cell:
    """One measured number as text, with its 95 % interval and the n behind it."""

    value: str
    interval: str
    count: str
    muted: bool = False  # unresolved: too few examples for the number to mean what it says


@dataclass(frozen=True)
class AttackRow:
    """One attack on one model."""

    name: str
    needs: tuple[str, ...]
    strongest: bool  # highest lower bound of the AUC among the attacks on this model
    tpr: dict[str, Cell]  # label of the operating point, e.g. "0.1%" → cell
    tnr: dict[str, Cell]
    auc: Cell
    balanced: Cell
    flags: tuple[str, ...]


@dataclass(frozen=True)
class NullRow:
    """The same attack on shuffled membership."""

    attack: str
    auc: Cell
    ok: bool  # the interval contains 0.5


@dataclass(frozen=True)
class ModelBlock:
    """One model: its accuracies and its attacks."""

    title: str
    defense: str
    run: str
    seed: int
    data: str
    accuracy: dict[str, str]  # train, val, test, gap
    rows: tuple[AttackRow, ...]
    null: NullRow | None


def percent(rate: float, digits: int = 1) -> str:
    """A fraction as a percentage; a rate that is not 0 or 1 is never rounded to 0 or 100.

    >>> percent(0.1234), percent(0.00001, 2), percent(0.99999), percent(0, 2)
    ('12.3%', '<0.01%', '>99.9%', '0.00%')
    """
    step = 10.0**-digits
    text = f"{100 * rate:.{digits}f}%"
    if rate > 0 and float(text[:-1]) == 0:
        return f"<{step:.{digits}f}%"
    if rate < 1 and float(text[:-1]) == 100:
        return f">{100 - step:.{digits}f}%"
    return text


def level_label(rate: float) -> str:
    """An operating point in words of a table head.

    >>> level_label(0.001)
    '0.1%'
    """
    return f"{100 * rate:g}%"


def levels(results: Json) -> list[str]:
    """The operating points of all attacks, smallest first."""
    rates = {
        point[key]
        for model in results["models"]
        for attack in model["attacks"]
        for curve, key in (("tpr_at_fpr", "fpr"), ("tnr_at_fnr", "fnr"))
        for point in attack[curve]
    }
    return [level_label(rate) for rate in sorted(rates)]


def main_level(names: list[str]) -> str:
    """The operating point that is shown first: 0.1 %, else the smallest there is."""
    return "0.1%" if "0.1%" in names or not names else names[0]


def blocks(results: Json) -> list[ModelBlock]:
    """One block per model, in the order of the results."""
    titles = model_titles(results)
    return [_block(model, title) for model, title in zip(results["models"], titles, strict=True)]


def model_titles(results: Json) -> list[str]:
    """A name for every model that no other has: the recipe, with seed and run where that is needed.

    >>> model = {"recipe": "digits/hamp", "run": "a"}
    >>> model_titles({"models": [model | {"seed": 0}, model | {"seed": 1}]})
    ['digits/hamp · seed 0', 'digits/hamp · seed 1']
    """
    models = results["models"]
    plain = [str(model["recipe"]) for model in models]
    seeded = [f"{name} · seed {model['seed']}" for name, model in zip(plain, models, strict=True)]
    full = [f"{name} · {model['run']}" for name, model in zip(seeded, models, strict=True)]
    counts, seeded_counts = Counter(plain), Counter(seeded)
    return [
        plain[i] if counts[plain[i]] == 1 else seeded[i] if seeded_counts[seeded[i]] == 1 else full[i]
        for i in range(len(models))
    ]


def strongest(attacks: Iterable[Json]) -> str | None:
    """The attack whose AUC has the highest lower bound: what the model gives away at least."""
    return max(attacks, key=lambda attack: attack["auc"]["low"], default={"attack": None})["attack"]


def seen_flags(results: Json) -> list[str]:
    """The flags that occur, in order of their first occurrence."""
    return unique(flag for model in results["models"] for attack in model["attacks"] for flag in attack["flags"])


def seen_attacks(results: Json) -> list[str]:
    """The attacks that occur, in order of their first occurrence."""
    return unique(attack["attack"] for model in results["models"] for attack in model["attacks"])


def unique(names: Iterable[str]) -> list[str]:
    """Each name once, in order of its first occurrence."""
    return list(dict.fromkeys(names))


def about(texts: Json, kind: str, name: str) -> dict[str, str]:
    """What texts say about an attack or a defense; what they do not say is empty."""
    known = texts.get(kind, {}).get(name, {})
    return {key: str(known.get(key) or "") for key in ("summary", "threat", "paper", "reference")}


def web_link(url: str) -> str:
    """The address when it is one of the web, else nothing: a page must not link to javascript: or file:."""
    return url if url.startswith(("https://", "http://")) else ""


def need_words(needs: Iterable[str]) -> str:
    """The threat model as a phrase.

    >>> need_words(["known", "shadows"]), need_words([])
    ('some known members and non-members; shadow models', 'the answers only')
    """
    return "; ".join(NEEDS.get(need, need) for need in needs) or "the answers only"


def _block(model: Json, title: str) -> ModelBlock:
    best = strongest(model["attacks"])
    return ModelBlock(
        title=title,
        defense=model["defense"],
        run=model["run"],
        seed=model["seed"],
        data=model["data"]["name"],
        accuracy=_accuracy(model["accuracy"]),
        rows=tuple(_row(attack, attack["attack"] == best) for attack in model["attacks"]),
        null=_null(model.get("null")),
    )


def _accuracy(accuracy: Json) -> dict[str, str]:
    shown = {part: percent(accuracy[part]) for part in ("train", "val", "test") if accuracy.get(part) is not None}
    gap = round(100 * (accuracy["train"] - accuracy["test"]), 1) + 0.0  # + 0.0: no "-0.0"
    return shown | {"gap": f"{gap:.1f} points".replace("-", "−")}


def _row(attack: Json, best: bool) -> AttackRow:
    members, nonmembers = attack["members"], attack["nonmembers"]
    both = f"{members:,} + {nonmembers:,}"
    return AttackRow(
        name=attack["attack"],
        needs=tuple(attack["needs"]),
        strongest=best,
        tpr={level_label(p["fpr"]): _rate(p, f"{p['tp']:,} of {members:,}") for p in attack["tpr_at_fpr"]},
        tnr={level_label(p["fnr"]): _rate(p, f"{p['tn']:,} of {nonmembers:,}") for p in attack["tnr_at_fnr"]},
        auc=_auc(attack["auc"], both),
        balanced=_rate(attack["balanced_accuracy"], both, digits=1),
        flags=tuple(attack["flags"]),
    )


def _null(null: Json | None) -> NullRow | None:
    if null is None:
        return None
    auc = null["auc"]
    return NullRow(null["attack"], _auc(auc, ""), auc["low"] <= 0.5 <= auc["high"])


def _rate(point: Json, count: str, digits: int = 2) -> Cell:
    low, high = percent(point["low"], digits), percent(point["high"], digits)
    return Cell(percent(point["value"], digits), f"{low[:-1]}–{high}", count, not point.get("resolved", True))


def _auc(auc: Json, count: str) -> Cell:
    return Cell(f"{auc['value']:.3f}", f"{auc['low']:.3f}–{auc['high']:.3f}", count)
