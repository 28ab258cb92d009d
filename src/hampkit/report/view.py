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
    "population": "other examples of the same kind",
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
    options: str  # those that are not the attack's defaults
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
    ok: bool  # 0.5 lies in its 99.9 % interval
    inside: bool  # and in the 95 % interval that is shown


@dataclass(frozen=True)
class ModelBlock:
    """One model: its accuracies and its attacks."""

    title: str
    defense: str
    run: str
    seed: int
    data: str
    accuracy: dict[str, str]  # train, val, test, gap
    judged: str  # who was a candidate, in words
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
    ('some known members and non-members; shadow models', 'answers and true labels only')
    """
    return "; ".join(NEEDS.get(need, need) for need in needs) or "answers and true labels only"


def _block(model: Json, title: str) -> ModelBlock:
    best = strongest(model["attacks"])
    return ModelBlock(
        title=title,
        defense=model["defense"],
        run=model["run"],
        seed=model["seed"],
        data=model["data"]["name"],
        accuracy=_accuracy(model["accuracy"], model.get("rows") or {}),
        judged=_judged(model),
        rows=tuple(_row(attack, attack["attack"] == best) for attack in model["attacks"]),
        null=_null(model.get("null")),
    )


def accuracy_interval(rate: float, n: int) -> tuple[float, float]:
    """The exact 95 % interval of an accuracy over n examples (Clopper & Pearson 1934)."""
    from scipy.stats import binomtest

    found = binomtest(round(rate * n), n).proportion_ci(0.95, "exact")
    return float(found.low), float(found.high)


def _accuracy(accuracy: Json, rows: Json) -> dict[str, str]:
    """Each accuracy with its interval and n where the results say how many examples it is over."""
    shown = {}
    for part in ("train", "val", "test"):
        if accuracy.get(part) is None:
            continue
        shown[part] = percent(accuracy[part])
        if n := rows.get(part):
            low, high = accuracy_interval(accuracy[part], n)
            shown[f"{part}_interval"] = f"{percent(low)[:-1]}–{percent(high)}, n = {n:,}"
    gap = round(100 * (accuracy["train"] - accuracy["test"]), 1) + 0.0  # + 0.0: no "-0.0"
    return shown | {"gap": f"{gap:.1f} points".replace("-", "−")}


def _judged(model: Json) -> str:
    """How many members and non-members there are, how many of them the adversary knew and how many were judged."""
    known, attacks = model.get("known"), model["attacks"]
    if not known or not attacks:
        return ""
    parts = []
    overlap = (model.get("judge") or {}).get("candidates") == "all"
    for group, word in (("members", "members"), ("nonmembers", "non-members")):
        judged = attacks[0][group]
        total = judged if overlap else judged + known[group]
        parts.append(f"{total:,} {word}: {known[group]:,} known to the adversary, {judged:,} judged")
    return "; ".join(parts)


def _row(attack: Json, best: bool) -> AttackRow:
    members, nonmembers = attack["members"], attack["nonmembers"]
    both = f"{members:,} + {nonmembers:,}"
    options = ", ".join(f"{key}={value}" for key, value in (attack.get("options") or {}).items())
    return AttackRow(
        name=attack["attack"],
        options=f"({options})" if options else "",
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
    inside = auc["low"] <= 0.5 <= auc["high"]
    return NullRow(null["attack"], _auc(auc, ""), not null.get("off", not inside), inside)


def _rate(point: Json, count: str, digits: int = 2) -> Cell:
    """With the outer interval where there is one: the exact one holds for a threshold that was read off these examples."""
    low, high = (percent(point.get(f"outer_{end}", point[end]), digits) for end in ("low", "high"))
    return Cell(percent(point["value"], digits), f"{low[:-1]}–{high}", count, not point.get("resolved", True))


def _auc(auc: Json, count: str) -> Cell:
    return Cell(f"{auc['value']:.3f}", f"{auc['low']:.3f}–{auc['high']:.3f}", count)
