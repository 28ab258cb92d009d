"""The annex of a verdict in three parts: what was measured, what the user declared, and what was not tested."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hampkit.judging.results.attacks import deciding_auc, exposure_of, of_models, of_target, tier_of
from hampkit.registry import ATTACKS
from hampkit.workflows.audit_attacks import LACKING, unfit

Json = Mapping[str, Any]
NEVER = (  # (what, why): kinds of attack that this tool has not
    ("attacks with access to weights or gradients", "hampkit sees the answers of a model only"),
    (
        "extraction of training data, inversion and inference of attributes",
        "hampkit measures membership inference only",
    ),
    ("records that are similar to training records, but not equal", "near copies are not searched for"),
)
NO_NAMES = ("non-members that are equal to members", "neither inputs nor names of the records (--id) are given")
AS_DECLARED = (
    "whether the declared membership and labels are true",
    "hampkit cannot see the training of a foreign model",
)
WITH_TEXTS = (
    "attacks that change the inputs",
    "the inputs are texts, of which attacks see the numbers of the tokens; a changed number is no similar text",
)


def measured(results: Json) -> list[dict[str, Any]]:
    """Each attack on each model with its tier, the numbers of records, and its numbers."""
    return [
        _measured(model, attack) for model in results["models"] for attack in (*of_target(model), *of_models(model))
    ]


def _measured(model: Json, attack: Json) -> dict[str, Any]:
    return {
        "model": model["recipe"],
        "attack": attack["attack"],
        "unit": attack["unit"],
        "tier": tier_of(attack),
        "members": attack["members"],
        "nonmembers": attack["nonmembers"],
        "models": attack["targets"],
        "auc": dict(deciding_auc(attack)),
        "tpr_at_fpr": [_rate(point, attack["members"]) for point in attack["tpr_at_fpr"]],
    }


def _rate(point: Json, members: int) -> dict[str, Any]:
    """A TPR with its interval; the count of members found, and the reason, where there are too few records for a rate."""
    if point.get("reason"):
        return {"fpr": point["fpr"], "found": point["tp"], "of": members, "reason": point["reason"]}
    return {key: point[key] for key in ("fpr", "value", "low", "high", "resolved")}


def not_tested(results: Json) -> list[dict[str, str]]:
    """What was not tested, each with the reason: registered attacks that were left out, then kinds of attack that none is of."""
    made = {attack["attack"] for model in results["models"] for attack in model["attacks"]}
    left: dict[str, list[str]] = {}
    for name, cls in ATTACKS.classes().items():
        if name not in made:
            left.setdefault(_reason(name, cls, results), []).append(name)
    return [
        *({"what": ", ".join(names), "why": why} for why, names in left.items()),
        *({"what": what, "why": why} for what, why in (*_of_records(results), *NEVER)),
    ]


def _of_records(results: Json) -> list[tuple[str, str]]:
    """What was not tested because of what the records are."""
    audits = [model.get("audit") or {} for model in results["models"]]
    texts = any(audit.get("way") == "hf" for audit in audits)
    nameless = any(not audit.get("inputs", True) and not audit.get("names") for audit in audits)
    declared = any(audit and audit.get("way") != "train" for audit in audits)
    return [
        *([WITH_TEXTS] if texts else []),
        *([NO_NAMES] if nameless else []),
        *([AS_DECLARED] if declared else []),
    ]


def _reason(name: str, cls: Any, results: Json) -> str:
    if why := next((model["skipped"][name] for model in results["models"] if name in (model.get("skipped") or {})), ""):
        return why
    held = {need for model in results["models"] for attack in model["attacks"] for need in attack["needs"]}
    held |= {"shadows" for model in results["models"] if exposure_of(model)}
    held |= {"known" for model in results["models"] if any((model.get("known") or {}).values())}
    lacking = [str(LACKING.get(need, need)) for need in cls.needs if need not in held]
    lacking += dict.fromkeys(why for model in results["models"] if (why := unfit(cls, model.get("audit") or {})))
    return "; ".join(lacking) or "not asked for"
