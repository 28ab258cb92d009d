"""The rows of the tables as text, for all forms of the report."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from hampkit.judging.results.attacks import (
    attack_label,
    family,
    leaders,
    of_models,
    of_target,
    order_of,
    strongest,
    tier_of,
)
from hampkit.judging.results.tail import tail_line
from hampkit.judging.results.wording import level_label, model_titles, n_seeds, off_null, percent, runs_of, sampling
from hampkit.text import counted

Json = Mapping[str, Any]
Row = TypeVar("Row")

NEEDS = {  # the evidence an adversary may hold, in words
    "known": "some known members and non-members",
    "shadows": "shadow models",
    "population": "examples of the same kind",
    "reference": "one model of its own, trained on examples of the same kind",
    "oracle": "queries of its own choice",
}
TIERS = {  # what of an answer an attack uses, in words
    "label": "predicted labels",
    "ranks": "the order of the classes in answers",
    "probabilities": "answers",
    "weights": "the network behind the release",
}


@dataclass(frozen=True)
class Cell:
    """A number as text, with its 95 % interval and its n."""

    value: str
    interval: str
    count: str
    caution: str = ""  # ``few``: a count in place of a rate; ``unresolved``; both for too few examples


@dataclass(frozen=True)
class AttackRow:
    """One attack on one target, on one for each seed, or on every shadow model in turn."""

    name: str
    label: str  # the name with its options other than the defaults; several names if their numbers are equal
    unit: str  # target, seeds or leave-one-out
    judged: str  # the same for a table: target, or how many seeds, or shadow models in turn
    needs: tuple[str, ...]
    family: str
    strongest: bool  # of the attacks on this model with this unit, see `strongest`
    leads: bool  # the strongest of its family
    tpr: dict[str, Cell]  # label of the operating point, e.g. "0.1%" → cell
    tnr: dict[str, Cell]
    auc: Cell
    within: Cell | None  # the mean AUC within single models
    balanced: Cell | None
    flags: tuple[str, ...]


@dataclass(frozen=True)
class NullRow:
    """The same attack on shuffled membership."""

    attack: str
    auc: Cell
    ok: bool  # its 99.9 % interval contains 0.5; the 95 % interval shown misses it in every twentieth sound run


@dataclass(frozen=True)
class ModelBlock:
    """One model: its accuracies and its attacks."""

    title: str
    defense: str
    runs: tuple[str, ...]  # one folder for each seed
    data: str
    accuracy: dict[str, Cell]  # train, val, test
    gap: str  # accuracy in training minus in test; empty if the accuracy is not known
    counts: str  # numbers of known and of judged examples
    rows: tuple[AttackRow, ...]  # those on the target, then those of leave-one-out
    null: NullRow | None
    repeated_about: str = ""  # number of targets and examples of leave-one-out
    clustered: str = ""  # the clusters of its intervals: model and example, or model and group
    summary: str = ""  # facts of the defense, such as its privacy budget
    tail: str = ""  # what the TNR of the loss attack warns of
    earlier: str = ""  # which attacks an earlier command made
    skipped: tuple[str, ...] = ()  # which attacks on this defense were not made, and why

    def of(self, unit: str) -> list[AttackRow]:
        return [row for row in self.rows if row.unit == unit]


def levels(results: Json) -> list[str]:
    """The labels of all operating points, smallest first."""
    rates = {
        point[key]
        for model in results["models"]
        for attack in of_target(model)
        for curve, key in (("tpr_at_fpr", "fpr"), ("tnr_at_fnr", "fnr"))
        for point in attack[curve]
    }
    return [level_label(rate) for rate in sorted(rates)]


def main_level(names: list[str]) -> str:
    """The operating point of tables with only one: 0.1 % if there is one, else the smallest."""
    return "0.1%" if "0.1%" in names or not names else names[0]


def opening_level(results: Json) -> str:
    """The operating point at which the page opens: the smallest from 0.1 % on at which any attack has a rate, not only a count.

    `main_level` if there is none.
    """
    names = levels(results)
    points = [p for model in results["models"] for attack in model["attacks"] for p in attack["tpr_at_fpr"]]
    rates = {level_label(p["fpr"]) for p in points if not p.get("reason")}
    return next((name for name in names if name in rates and float(name[:-1]) >= 0.1), main_level(names))


def resolved_levels(results: Json, curve: str, everywhere: bool) -> list[str]:
    """The operating points of a curve that are resolved for any attack, or for all (``everywhere``), smallest first.

    curve: ``tpr_at_fpr`` or ``tnr_at_fnr``.
    """
    key = curve[-3:]
    points = [point for model in results["models"] for attack in of_target(model) for point in attack[curve]]
    rates = {point[key] for point in points if point["resolved"]}
    if everywhere:
        rates -= {point[key] for point in points if not point["resolved"]}
    return [level_label(rate) for rate in sorted(rates)]


def blocks(results: Json) -> list[ModelBlock]:
    """One block per model, in the order of the results."""
    titles = model_titles(results)
    return [_block(model, title) for model, title in zip(results["models"], titles, strict=True)]


def outer(point: Json) -> dict[str, float]:
    """A rate with its outer interval: for the target FPR or FNR exactly, with the uncertainty of the threshold."""
    return {"value": point["value"], "low": point["outer_low"], "high": point["outer_high"]}


def seen_flags(results: Json) -> list[str]:
    """The flags that occur, in order of their first occurrence."""
    return unique(flag for model in results["models"] for attack in model["attacks"] for flag in attack["flags"])


def seen_attacks(results: Json) -> list[str]:
    """The attacks that occur, in order of their first occurrence."""
    return unique(attack["attack"] for model in results["models"] for attack in model["attacks"])


def unique(names: Iterable[str]) -> list[str]:
    """The names without repetitions, in order of their first occurrence."""
    return list(dict.fromkeys(names))


def about(texts: Json, kind: str, name: str) -> dict[str, str]:
    """The texts about an attack or a defense; empty where there is none."""
    known = texts.get(kind, {}).get(name, {})
    return {key: str(known.get(key) or "") for key in ("summary", "threat", "paper", "reference")}


def web_link(url: str) -> str:
    """The address if it begins with http, else an empty text: a page must not link to javascript: or file:."""
    return url if url.startswith(("https://", "http://")) else ""


def need_words(attack: Json) -> str:
    """The threat model of an attack as a phrase.

    >>> need_words({"needs": ["known", "shadows"]}), need_words({"needs": []})
    ('answers and true labels; some known members and non-members; shadow models', 'answers and true labels')
    >>> need_words({"needs": ["shadows", "probes"], "tier": "label", "queries": 32})
    'predicted labels and true labels; shadow models; 32 questions about each example'
    """
    others = [NEEDS.get(need) or need for need in attack["needs"] if need != "probes"]
    asked = attack.get("queries", 1)
    questions = [f"{asked} questions about each example"] if asked > 1 else []
    tier = tier_of(attack)
    return "; ".join([f"{TIERS.get(tier) or tier} and true labels", *others, *questions])


def skipped_lines(model: Json) -> list[str]:
    """The attacks that are made for the defense and were left out, with the reason, a line for each reason.

    >>> skipped_lines({"skipped": {"a": "no need", "b": "no need"}})
    ['not made: a, b: no need']
    """
    found: dict[str, list[str]] = {}
    for name, reason in (model.get("skipped") or {}).items():
        found.setdefault(reason, []).append(name)
    return [f"not made: {', '.join(names)}: {reason}" for reason, names in found.items()]


def _block(model: Json, title: str) -> ModelBlock:
    return ModelBlock(
        title=title,
        defense=model["defense"],
        runs=tuple(runs_of(model)),
        data=model["data"]["name"],
        accuracy=_accuracy(model),
        gap=_gap(model["accuracy"]),
        counts=counts(model),
        rows=(*_rows(of_target(model)), *_rows(of_models(model))),
        null=_null(model),
        summary=str((model.get("facts") or {}).get("summary", "")),
        tail=tail_line(model),
        earlier=earlier(model),
        skipped=tuple(skipped_lines(model)),
        **_repeated(of_models(model), "group" if model.get("groups") else "example", n_seeds(model)),
    )


def _gap(accuracy: Json) -> str:
    if not accuracy:
        return ""
    gap = round(100 * (accuracy["train"] - accuracy["test"]), 1) + 0.0  # + 0.0: no "-0.0"
    return f"{gap:.1f} points".replace("-", "−")


def _rows(attacks: Sequence[Json]) -> list[AttackRow]:
    """The rows; attacks with the same numbers share one."""
    best, leading = strongest(attacks), leaders(attacks)
    return [
        _row(alike, any(a is best for a in alike), any(a is leader for a in alike for leader in leading))
        for alike in merged(attacks, attack_numbers)
    ]


def _repeated(attacks: Sequence[Json], unit: str, seeds: int) -> dict[str, str]:
    """The fields of a block that describe leave-one-out."""
    if not attacks:
        return {}
    first, of_seeds = attacks[0], f"of {seeds} seeds " if seeds > 1 else ""
    about = f"{first['targets']:,} shadow models {of_seeds}in turn, {examples(first):,} examples each"
    if first.get("untrained"):
        how = "left out" if first.get("left_out") else "left out as targets only, because few others remain"
        about += f" ({how}: {first['untrained']:,} that learnt next to nothing with every seed tried)"
    return {"repeated_about": about, "clustered": f"model and {unit}"}


def examples(attack: Json) -> int:
    """Judged examples of each target."""
    return (attack["members"] + attack["nonmembers"]) // attack["targets"]


def _accuracy(model: Json) -> dict[str, Cell]:
    shown = {}
    for part in ("train", "val", "test"):
        rate, n = model["accuracy"].get(part), model.get("rows", {}).get(part)
        if rate is not None:
            span = (model.get("accuracy_interval") or {}).get(part)
            each = f" over {n_seeds(model)} seeds" if n_seeds(model) > 1 else ""
            interval, count = _span((span["low"], span["high"]), 1) if span else "", f"n = {n:,}{each}" if n else ""
            shown[part] = Cell(percent(rate), interval, count)
    return shown


def counts(model: Json) -> str:
    """The numbers of members and of non-members: all, known to the adversary, and judged."""
    known, attacks = model.get("known") or {}, of_target(model)
    if not known or not attacks:
        return ""
    everyone = (model.get("judge") or {}).get("candidates") == "all"  # then the known ones are judged as well
    parts = []
    for who, label in (("members", "member"), ("nonmembers", "non-member")):
        judged = max(attack[who] for attack in attacks)
        total = judged if everyone else judged + known[who]
        parts.append(f"{counted(total, label)}, {known[who]:,} known to the adversary, {judged:,} judged")
    if groups := model.get("groups"):
        parts.append(
            f"{groups['members']:,} and {groups['nonmembers']:,} groups are judged, and intervals are by group"
        )
    if copies := (model.get("copies") or {}).get("left_out"):
        parts.append("1 copy left out" if copies == 1 else f"{copies:,} copies left out")
    return "; ".join(parts) + (f"; over {n_seeds(model)} seeds together" if n_seeds(model) > 1 else "")


def earlier(model: Json) -> str:
    """The attacks that an earlier command made on this run; empty if the last command made all of them.

    >>> earlier({"earlier": ["loss", "rmia"], "attacks": [{"attack": "loss"}, {"attack": "rmia"}, {"attack": "neural"}]})
    'from an earlier command on this run: loss, rmia; they count among the attacks of the verdict'
    """
    made = [a["attack"] for a in model["attacks"]]
    names = unique(name for name in model.get("earlier") or [] if name in made)
    if not names:
        return ""
    return f"from an earlier command on this run: {', '.join(names)}; they count among the attacks of the verdict"


def merged(rows: Iterable[Row], key: Callable[[Row], Any]) -> list[list[Row]]:
    """The rows grouped by their key, in order of the first occurrence of each key.

    >>> merged(["ab", "c", "de"], len)
    [['ab', 'de'], ['c']]
    """
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(repr(key(row)), []).append(row)
    return list(found.values())


def joined_label(alike: Sequence[Json]) -> str:
    """The label of attacks with equal numbers, with the attack of the same order if that is another one."""
    first = alike[0].get("same_as")
    elsewhere = first and first not in {attack["attack"] for attack in alike}
    return " = ".join(attack_label(attack) for attack in alike) + (f" (same order as {first})" if elsewhere else "")


def attack_numbers(attack: Json) -> Any:
    """The key by which attacks share a row: all numbers shown, and for targets the attack of the same order."""
    shown = ("unit", "auc", "auc_within", "tpr_at_fpr", "tnr_at_fnr", "balanced_accuracy", "flags")
    numbers = [attack.get(key) for key in shown]
    return [*numbers, order_of(attack), attack["needs"]] if attack["unit"] != "leave-one-out" else numbers


def _row(alike: Sequence[Json], best: bool, leads: bool) -> AttackRow:
    attack = alike[0]
    members, nonmembers = attack["members"], attack["nonmembers"]
    both, unit = f"{members:,} + {nonmembers:,}", attack["unit"]
    balanced, within = attack.get("balanced_accuracy"), attack.get("auc_within")
    return AttackRow(
        name=attack["attack"],
        label=joined_label(alike),
        unit=unit,
        judged=judged_on(attack),
        needs=tuple(attack["needs"]),
        family=family(attack),
        strongest=best,
        leads=leads,
        tpr={level_label(p["fpr"]): _point(p, f"{p['tp']:,} of {members:,}") for p in attack["tpr_at_fpr"]},
        tnr={level_label(p["fnr"]): _point(p, f"{p['tn']:,} of {nonmembers:,}") for p in attack["tnr_at_fnr"]},
        auc=_auc(attack["auc"], "pooled" if unit == "leave-one-out" else both),
        within=_auc(within, "within a model") if within else None,
        balanced=_rate(balanced, both, digits=1) if balanced else None,
        flags=tuple(attack["flags"]),
    )


def judged_on(attack: Json) -> str:
    """The target or targets of an attack, as a table names them."""
    nouns = {"seeds": f"{attack['targets']:,} seeds", "leave-one-out": f"{attack['targets']:,} models"}
    return nouns.get(attack["unit"], "target")


def _point(point: Json, count: str) -> Cell:
    """The cell of a rate, with its `outer` interval; of too few examples the count, with the reason."""
    caution = sampling(point)
    return (
        Cell(count, "", point["reason"], caution) if caution == "few" else _rate(outer(point), count, caution=caution)
    )


def _null(model: Json) -> NullRow | None:
    null = model.get("null")
    return None if null is None else NullRow(null["attack"], _auc(null["auc"], ""), not off_null(model))


def _rate(point: Json, count: str, digits: int = 2, caution: str = "") -> Cell:
    span = _span((point["low"], point["high"]), digits)
    return Cell(percent(point["value"], digits), span, count, caution)


def _span(bounds: tuple[float, float], digits: int) -> str:
    low, high = (percent(bound, digits) for bound in bounds)
    return f"{low[:-1]}–{high}"


def _auc(auc: Json, count: str) -> Cell:
    return Cell(f"{auc['value']:.3f}", f"{auc['low']:.3f}–{auc['high']:.3f}", count)
