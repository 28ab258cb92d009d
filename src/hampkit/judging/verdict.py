"""The verdict on a table: what was found, what limits it, and what these attacks cannot show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from hampkit.judging.flags import LEAST_ERRORS, LEAST_SHOWN, SAMPLING
from hampkit.judging.headlines import NOT_ATTACKED, headline, named
from hampkit.judging.pairs_of_models import comparison, flags_of
from hampkit.judging.results import Results
from hampkit.judging.results.attacks import (
    as_found,
    attack_label,
    deciding_auc,
    exposure_of,
    found_label,
    found_side,
    of_models,
    of_target,
    order_of,
    strongest,
    turned,
)
from hampkit.judging.results.wording import (
    Json,
    at_least,
    level_label,
    model_titles,
    n_seeds,
    percent,
    sampling,
    sentences,
)

WIDE = 0.6  # an interval of an AUC that reaches further leaves room for a leak that matters
CAVEATS = {  # flags that change what a finding means; {} stands for the models that carry them
    "null": "Do not use the numbers of {}: an attack on shuffled membership has an AUC other than 0.5, so the evaluation itself "
    "leaks (null)",
    "untrained": "{} learnt next to nothing (untrained): a model that fits its data would leak more",
    "constant": "{} gives the same answer to every input (constant): there is nothing for an attack to find, and nothing that "
    "the model is good for",
    "shifted": "Members and non-members of {} differ without any model (shifted): attacks may measure that difference instead",
    "inverted": "Attacks on {} with the flag inverted have AUCs below 0.5: they find members when they are turned around",
    "duplicated": "Members of {} have copies in other parts of the split (duplicated): accuracies on these parts are too high",
    "overlapping": "Attacks on {} with the flag overlapping are judged on examples that they were fitted on: their numbers are "
    "too high",
    "randomised": "The answers of {} are random (randomised): an attacker who averages many answers may find more",
    "masked": "On {} a label-only attack finds more than the attacks with the flag masked: the release hides what training leaks",
    "mismatched": "The shadow models for {} were not trained as the target was (mismatched): attacks with them are weaker than "
    "they could be",
}
AVERAGED = (
    "The answers of {} are random (randomised): attacks with one question see one draw of the noise, and the attack repeated"
    " averages over several"
)
WITHOUT_CAVEAT = {  # the other flags, and why none of these lines is about them
    "few": "another sentence names the rate and how many examples it needs",
    "unresolved": "another sentence names the rate and how many examples it needs",
    "tied": "it concerns rates at 0.1 %, and no sentence gives such a rate",
    "pooled": "it makes numbers of leave-one-out too low, so that members that are found are found all the same",
}
Titled = Sequence[tuple[str, Json]]  # a model under the name that no other has


def concluded(results: Results) -> Results:
    """The results with their verdict and caveats, which results.json holds and every form of the report prints."""
    document = results.to_json()
    titled = _titled(document)
    models = [_model(title, model) for title, model in titled]
    compared, pairs = comparison(titled, document)
    found = {
        "text": sentences([*(model["text"] for model in models), *_claims(titled), *compared, *_reading(titled)]),
        "models": models,
        "comparison": ". ".join(compared),
        "leaks_less": pairs[0]["leaks_less"] if len(titled) == 2 and pairs else "",
        "pairs": pairs,
        "limits": limits(results),
    }
    return replace(results, verdict=found, caveats=tuple(_caveats(titled)))


def _titled(document: Json) -> Titled:
    return list(zip(model_titles(document), document["models"], strict=True))


def _claims(titled: Titled) -> list[str]:
    """The sentence on an epsilon that was claimed; none where none was."""
    audits = [(title, model.get("audit") or {}) for title, model in titled]
    claims = [
        (title, audit["declared"]["claimed_epsilon"], audit["bounds"]) for title, audit in audits if _claimed(audit)
    ]
    if not claims:
        return []
    said = f"The claimed epsilon of {claims[0][1]:g} is"
    proved = [(title, bounds) for title, _, bounds in claims if "epsilon" in bounds]
    if not proved:
        return [f"{said} not tested: there are no bounds on epsilon"]
    title, best = max(proved, key=lambda each: each[1]["epsilon"])
    found = f"epsilon is at least {at_least(best['epsilon'], 4)} at delta {best['delta']:g}, on {title}, with"
    found = f"{found} {percent(best['level'], 0)}"
    if best["epsilon"] > claims[0][1]:
        return [f"{said} refuted: {found} confidence"]
    return [f"{said} not refuted, which does not confirm it: {found} confidence"]


def _claimed(audit: Json) -> bool:
    return (audit.get("declared") or {}).get("claimed_epsilon") is not None and bool(audit.get("bounds"))


def _distinct(model: Json) -> int:
    """Number of attacks; attacks that rank the examples alike count as one."""
    return len({order_of(attack) for attack in of_target(model)})


def _model(title: str, model: Json) -> dict[str, Any]:
    """The verdict on one model, as data and as a sentence."""
    n, seeds = model.get("rows", {}).get("test"), n_seeds(model)
    size = f", n = {n:,}" + (f" over {seeds} seeds" if seeds > 1 else "") if n else ""
    mean = "mean test accuracy" if seeds > 1 else "test accuracy"
    rate = model["accuracy"].get("test")
    head = f"{title}: " if rate is None else f"{title} ({mean} {percent(rate)}{size}): "
    best = strongest(of_target(model))
    if best is None:
        return {"model": title, "text": head + "no attack was made"} | named("Not attacked", NOT_ATTACKED)
    found, seed, again = found_side(best), _seed(model, best), _leave_one_out(model)
    text = head + (_found(model, best) if found else _not_found(model, best))
    said = {"model": title, "attack": best["attack"], "auc": _auc(best) | seed, "text": text + _repeated_words(again)}
    said |= headline(
        bool(found),
        flags_of(model),
        _wide(model),
        seeds,
        bool(seed),
        bool(again),
        exposure_of(model).get("exposed", 0) > 0,
    )
    return said | ({"leave_one_out": again} if again else {})


def _leave_one_out(model: Json) -> dict[str, Any]:
    """The strongest attack of leave-one-out, with the AUC and the interval that decides; empty if it finds no members."""
    best = strongest(of_models(model))
    if best is None or not found_side(best):
        return {}
    found = {"attack": best["attack"], "targets": best["targets"], "auc": _auc(best)}
    higher = _higher(of_models(model), best)
    return found if higher is None else {**found, "highest": {"attack": higher["attack"], "auc": _auc(higher)}}


def _auc(attack: Json) -> dict[str, Any]:
    """The AUC that decides, turned around where the attack is, and whether it is."""
    return {**as_found(attack, deciding_auc(attack)), "turned": turned(attack)}


def _higher(attacks: Sequence[Json], surest: Json) -> Json | None:
    """The attack with the highest AUC, if that is another than the one with the highest lower bound."""
    highest = max(attacks, key=_height)
    return None if order_of(highest) == order_of(surest) or _height(highest) <= _height(surest) else highest


def _repeated_words(found: Json) -> str:
    """The end of the sentence on one model: what leave-one-out finds."""
    if not found:
        return ""
    said = f"over {found['targets']:,} shadow models, {_named_side(found)} has"
    higher = found.get("highest")
    if higher is None:
        return f"; in leave-one-out membership can be inferred: {said} AUC {_interval(found['auc'])}"
    return (
        f"; in leave-one-out membership can be inferred: {said} the highest lower bound, AUC {_interval(found['auc'])}, and"
        f" {_named_side(higher)} the highest AUC, {_interval(higher['auc'])}"
    )


def _named_side(found: Json) -> str:
    """The attack of a finding, and that it is turned around if it is."""
    return found["attack"] + (", turned around," if found["auc"]["turned"] else "")


def _seed(model: Json, attack: Json) -> dict[str, int]:
    """The seed whose AUC decides, if it is not the mean over seeds."""
    by_seed, found = attack.get("auc_by_seed") or [], deciding_auc(attack)
    which = [seed for seed, auc in zip(model.get("seeds", ()), by_seed, strict=False) if auc is found]
    return {"seed": which[0]} if which else {}


def _found(model: Json, surest: Json) -> str:
    """The attack with the highest lower bound of the AUC, and beside it the one with the highest AUC if that is another.

    An attack with an AUC below 0.5 is turned around: 1 − AUC takes the place of its AUC.
    """
    if len(of_target(model)) == 1:
        return f"membership can be inferred: the only attack, {found_label(surest)}, has AUC {_shown_of(model, surest)}"
    said = f"membership can be inferred: of {_counted(model)}, {_subject(surest)} has the highest lower bound, AUC "
    said += _shown_of(model, surest)
    higher = _higher(of_target(model), surest)
    return said if higher is None else f"{said}, and {_subject(higher)} the highest AUC, {_shown(higher)}"


def _not_found(model: Json, farthest: Json) -> str:
    """The attack whose AUC is farthest from 0.5, with the number of judged examples. It does not show that nothing leaks.

    If an interval reaches above `WIDE`, or below 1 − `WIDE`, such an AUC cannot be ruled out, and the sentence states so.
    """
    attacks = of_target(model)
    named, shown = attack_label(farthest), _shown(farthest)
    which = "the highest AUC" if farthest["auc"]["value"] >= 0.5 else "the AUC farthest from 0.5"
    said = f"{which} of {_counted(model)} is that of {named}, {shown}"
    if len(attacks) == 1:
        said = f"the only attack, {named}, has AUC {shown}"
    few = ", too few to rule out a leak" if _wide(model) else ""
    if few and n_seeds(model) > 1:
        few = f" with {n_seeds(model)} seeds: the intervals are too wide to rule out a leak; more seeds or examples would help"
    return f"no attack is shown to distinguish members from non-members: {said} ({_judged(model)}{few})"


def _wide(model: Json) -> bool:
    """Whether the interval of any attack reaches above `WIDE` or below 1 − `WIDE`.

    Over several seeds an attack with equal scores for all examples finds nothing, however wide its interval is.
    """
    scored = [deciding_auc(a) for a in of_target(model) if a["auc"]["value"] != 0.5 or n_seeds(model) == 1]
    return any(auc["high"] > WIDE or auc["low"] < 1 - WIDE for auc in scored)


def _height(attack: Json) -> float:
    """The AUC, or 1 − AUC of an attack whose interval lies below 0.5."""
    return as_found(attack, attack["auc"])["value"]


def _counted(model: Json) -> str:
    """Number of attacks and of distinct rankings, such as ``10 attacks (9 distinct rankings)``."""
    n, k = len(of_target(model)), _distinct(model)
    return f"{n} attacks" + (f" ({k} distinct rankings)" if k < n else "")


def _judged(model: Json) -> str:
    """Numbers of judged members and non-members, and of their groups."""
    attack, groups = of_target(model)[0], model.get("groups")
    said = f"{attack['members']:,} + {attack['nonmembers']:,} judged"
    each = " with each seed" if n_seeds(model) > 1 else ""
    return said + (f" in {groups['members']:,} + {groups['nonmembers']:,} groups{each}" if groups else "")


def _subject(attack: Json) -> str:
    return found_label(attack) + ("," if turned(attack) else "")


def _shown(attack: Json) -> str:
    return _interval(as_found(attack, deciding_auc(attack)))


def _shown_of(model: Json, attack: Json) -> str:
    """The AUC that decides, with its seed if it is that of one."""
    which = "".join(f" with seed {seed}" for seed in _seed(model, attack).values())
    mean = f" (mean of {n_seeds(model)} seeds)" if n_seeds(model) > 1 else ""
    return _shown(attack) + (which or mean)


def _interval(i: Json) -> str:
    return f"{i['value']:.3f} [{i['low']:.3f}, {i['high']:.3f}]"


def _reading(titled: Titled) -> list[str]:
    """Sentences that explain the numbers of the others."""
    if not any(of_target(model) for _, model in titled):
        return []
    said = ["An AUC of 0.5 is guessing"]
    if any(_distinct(model) < len(of_target(model)) for _, model in titled):
        said.append("Attacks that rank the examples alike count as one")
    if any(_distinct(model) > 1 for _, model in titled):
        said.append(
            "Intervals in these sentences allow for the choice among the attacks and are wider than those of the table"
        )
    return said


TRAINED = (
    "{} was trained for this audit, on a random half of the records: it is not the model that you release, which may leak more or"
    " less"
)


def _caveats(titled: Titled) -> list[dict[str, Any]]:
    """For each flag that changes what a finding means: the models with this flag, and a sentence."""
    found: list[dict[str, Any]] = []
    for flag, text in CAVEATS.items():
        marked = [title for title, model in titled if flag in flags_of(model)]
        asked = [t for t, model in titled if t in marked and _averaged(model)] if flag == "randomised" else []
        for titles, words in (([t for t in marked if t not in asked], text), (asked, AVERAGED)):
            if titles:
                found.append({"flag": flag, "models": titles, "text": words.format(" and ".join(titles))})
    own = [(title, model) for title, model in titled if (model.get("audit") or {}).get("way") == "train"]
    if trained := [title for title, model in own if not model.get("canaries")]:
        found.append({"flag": "trained-for-audit", "models": trained, "text": TRAINED.format(" and ".join(trained))})
    repeated = [attack for _, model in titled for attack in of_models(model)]
    for flag in SAMPLING:
        few = [title for title, model in titled if any(flag in a["flags"] for a in of_target(model))]
        texts = _sampled(flag, [model for _, model in titled], repeated)
        found += [{"flag": flag, "models": few, "text": text} for text in texts]
    return found


def _averaged(model: Json) -> bool:
    """Whether an attack averaged several answers to one question."""
    return any(attack["attack"] == "repeated" for attack in model["attacks"])


def _sampled(flag: str, models: Sequence[Json], repeated: Sequence[Json]) -> list[str]:
    """A sentence with the rates at the smallest target rate that have a flag of too few examples: how many it needs, and has.

    flag: one of `SAMPLING`. If rows are in groups, groups are counted. Groups of uneven size count for fewer.
    """
    sides = (
        ("TPR", "tpr_at_fpr", "fpr", "nonmembers", "non-members"),
        ("TNR", "tnr_at_fnr", "fnr", "members", "members"),
    )
    said, least = [], LEAST_SHOWN if flag == "few" else LEAST_ERRORS
    judged = [(model.get("groups") or _of_each(attack), attack) for model in models for attack in of_target(model)]
    by_group = any(model.get("groups") for model in models)
    rates = {point[key] for _, a in judged for _, curve, key, *_ in sides for point in a[curve]}
    for name, curve, key, of, who in sides:
        few = {n[of] for n, a in judged for p in a[curve] if p[key] == min(rates) and sampling(p) == flag}
        if few:
            takes, have = round(least / min(rates)), " or ".join(f"{n:,}" for n in sorted(few))
            many = [] if by_group else sorted({(f["members"] + f["nonmembers"]) // 2 for f in repeated})
            more = f" (in leave-one-out about {' or '.join(f'{n:,}' for n in many)})" if many else ""
            uneven = " of uneven size" if by_group and max(few) >= takes else ""
            groups = "groups of " if by_group else ""
            each = " with each seed" if any(n_seeds(model) > 1 for model in models) else ""
            said.append(f"{name} needs {takes:,} {groups}{who}, and {have}{uneven} are judged{each}{more}")
    at = level_label(min(rates, default=1))
    head = {"few": f"Counts stand in place of the rates at {at}", "unresolved": f"Rates at {at} are unresolved"}[flag]
    return [f"{head}: {'; '.join(said)}"] if said else []


def _of_each(attack: Json) -> dict[str, int]:
    """Numbers of judged members and non-members of each target, on average."""
    return {of: attack[of] // attack["targets"] for of in ("members", "nonmembers")}


def limits(results: Results) -> str:
    """What these attacks cannot rule out, and kinds of attack that were not made."""
    needs = {need for model in results.models for attack in model.attacks for need in attack.needs}
    needs |= {"shadows" for model in results.models if model.of("leave-one-out")}
    bound = "What these attacks find is a lower bound on what leaks"
    if not needs & {"oracle", "probes"}:
        each = "Each attack queries the model once per record, or per view of an image"
        bound = f"{each}; what they find is a lower bound on what leaks"
    missing = [] if "shadows" in needs else ["shadow models"]
    missing += [] if needs & {"oracle", "probes"} else ["many queries"]
    if missing:
        bound += f": attacks with {' or '.join(missing)} may find more"
    if "shadows" not in needs:
        bound += " (Aerni et al. 2024: HAMP's TPR at 0.1% FPR from 2.1% to 28.5%)"
    models = "one model, one seed"
    if several := sorted({len(model.seeds) for model in results.models if model.seeds}):
        models = f"{' or '.join(map(str, several))} models of one recipe, each with a seed of its own"
        models += ", or of one model" if any(not model.seeds for model in results.models) else ""
    if any(model.of("leave-one-out") for model in results.models):
        return (
            f"{bound}. Numbers against the target are of {models}; leave-one-out is of many models of one recipe,"
            f" on one pool of examples{' for each seed' if several else ''}."
        )
    return f"{bound}. Every number is of {models}."
