"""The annex of an audit as text: what was measured, what the user declared, what was not tested, and what it means."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hampkit.judging.results.attacks import exposure_of
from hampkit.judging.results.tail import tail_line
from hampkit.judging.results.wording import at_least, level_label, named, percent
from hampkit.report.records import exposure_line
from hampkit.report.rows import Json

DECLARED = {  # keys of what the user declares → their names
    "claimed_epsilon": "claimed epsilon",
    "claimed_delta": "claimed delta",
    "prior": "share of members among the records an attacker meets",
    "purpose": "purpose",
}

ANSWERS = {"scores": "published scores, the scaled logit of the true label"}


def annex(results: Json, details: Sequence[Json]) -> list[dict[str, Any]]:
    """One for each audited model; none for models that were trained here."""
    verdict = results.get("verdict") or {}
    return [
        {
            "title": named(model),
            "measured": _measured(model),
            "declared": _declared(model["audit"]),
            "not_tested": [f"{each['what']}: {each['why']}" for each in verdict.get("not_tested") or []],
            "values": predictive_rows(model["audit"]),
            "subgroups": subgroup_rows(model["audit"]),
            "bounds": bounds_line(model["audit"]),
            "exposure": exposure_line(exposure_of(model)),
            "exposed": detail.get("exposed") or [],
            "file": "" if model.get("canaries") else "records.csv",
        }
        for model, detail in zip(results["models"], details, strict=True)
        if model.get("audit")
    ]


def bounds_line(audit: Json) -> str:
    """The bounds on epsilon and mu, or why there are none."""
    found = audit.get("bounds") or {}
    if "reason" in found:
        return f"Bounds on epsilon and mu: {found['reason']}"
    if not found:
        return ""
    of_mu = (
        f", an epsilon of {at_least(found['epsilon_of_mu'])} if the training is a Gaussian mechanism"
        if found["delta"]
        else ""
    )
    coins = "If a fair coin decided on each record, then with"
    if audit.get("way") == "train":
        coins = "A fair coin was drawn for each record, so that with"
    return (
        f"{coins} {percent(found['level'], 0)} confidence, by {found['attack']} on"
        f" {found['canaries']:,} records: epsilon is at least {at_least(found['epsilon'])} at delta {found['delta']:g}"
        " (Steinke et al. 2023); mu is at"
        f" least {at_least(found['mu'])}{of_mu} (Mahloujifar et al. 2024). Bounds from"
        f" one model are loose: the true values may be much higher{_claim(audit)}"
    )


def _claim(audit: Json) -> str:
    """The sentence that states whether the bound refutes the claimed epsilon. It is empty if none was claimed."""
    claimed, found = (audit.get("declared") or {}).get("claimed_epsilon"), audit["bounds"]
    if claimed is None:
        return ""
    if found["epsilon"] > claimed:
        least = f"it is at least {at_least(found['epsilon'], 2 if found['epsilon'] - claimed >= 0.01 else 6)}"
        return f". The claimed epsilon of {claimed:g} is refuted at delta {found['delta']:g}: {least}"
    most = (
        f"; {found['canaries']:,} records could show {at_least(found['most']['epsilon'])} at most"
        if "most" in found
        else ""
    )
    return f". The claimed epsilon of {claimed:g} is not refuted, which does not confirm it{most}"


def predictive_rows(audit: Json) -> list[dict[str, Any]]:
    """A row for each threshold: the predictive value at each prior, with the rates that it is made of."""
    return [
        {
            "attack": value["attack"],
            "threshold": level_label(value["target_fpr"]),
            "rates": f"TPR {percent(value['tpr']['value'])}, FPR {percent(value['fpr']['value'])}",
            "count": f"{value['members']:,} + {value['nonmembers']:,} records",
            "values": [
                (percent(at["prior"], 0), percent(at["value"]), f"{percent(at['low'])[:-1]}–{percent(at['high'])}")
                for at in value["ppv"]
            ],
        }
        for value in audit.get("ppv") or []
    ]


def subgroup_rows(audit: Json) -> list[tuple[str, ...]]:
    """A row for each subgroup: its name, its records, the strongest attack there, and its AUC or why there is none."""
    rows = []
    for each in audit.get("subgroups") or []:
        count = f"{each['members']:,} + {each['nonmembers']:,}"
        auc = (
            "{value:.3f} [{low:.3f}, {high:.3f}]".format(**each["auc"])
            if "auc" in each
            else f"no number: {each['reason']}"
        )
        rows.append((each["name"], count, each.get("attack", "–"), auc))
    return rows


def _measured(model: Json) -> list[str]:
    """The attacks in one line, the accuracy, the baseline without the model."""
    target = [attack for attack in model["attacks"] if attack["unit"] == "target"]
    first = target[0]
    shadow = [attack for attack in model["attacks"] if attack["unit"] == "leave-one-out"]
    lines = [
        f"{len(target)} attacks on {first['members']:,} members and {first['nonmembers']:,} non-members:"
        f" {', '.join(attack['attack'] for attack in target)}"
    ]
    if shadow:
        lines.append(f"{shadow[0]['targets']:,} shadow models, each attacked by the others")
    auc = (model.get("shift") or {}).get("auc")
    if auc:
        of = "inputs and labels" if model["audit"].get("inputs") else "the labels alone as no inputs are given"
        lines.append(
            f"blind baseline: membership inferred without the model, from {of}: AUC {auc['value']:.3f}"
            f" [{auc['low']:.3f}, {auc['high']:.3f}], where 0.5 is guessing"
        )
    warning = tail_line(model)
    if model["audit"].get("way") == "train":
        unit = "person" if model["audit"].get("persons") else "record, or set of equal records"
        lines.append(f"membership: hampkit drew a fair coin for each {unit}")
    answers = ANSWERS.get(model["audit"]["answers"], model["audit"]["answers"])
    return [*lines, *([warning] if warning else []), f"answers: {answers}"]


def _declared(audit: Json) -> list[str]:
    found = audit.get("declared") or {}
    lines = [f"{DECLARED.get(key, key)}: {_value(value)}" for key, value in found.items()]
    trained = audit.get("way") == "train"
    given = [*([] if trained else ["membership"]), "labels", *(["persons"] if audit.get("persons") else [])]
    given = [f"{', '.join(given[:-1])} and {given[-1]}" if given[1:] else given[0]]
    if audit.get("membership") == "coin":
        given.append("a fair coin decided on the membership of each record")
    return [*lines, *(f"{what}: as given, not checked" for what in given)]


def _value(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(percent(each) for each in value)
    return f"{value:g}" if isinstance(value, float) else str(value)
