"""The results as one flat table, for spreadsheets and data frames."""

from __future__ import annotations

import csv
import io
from typing import Any

from hampkit.judging.results.attacks import option_text
from hampkit.judging.results.wording import off_null, runs_of, seeds_of
from hampkit.report.cells import safe
from hampkit.report.rows import Json

ESTIMATE = ("value", "low", "high")


def render_csv(results: Json) -> str:
    """One row per model × attack; rates as fractions in full precision, lists joined by spaces.

    ``unit`` is ``target``; ``seeds``: of so many ``targets`` one for each seed, and AUC and rates are their means; or, with
    shadow models, ``leave-one-out``: every shadow model in turn, all pairs pooled, of so many
    ``targets``, with the mean of the AUCs within single models as ``auc_within``.
    Columns of an operating point: ``tpr_at_fpr_0.001``, ``…_low``, ``…_high`` (exact, for the threshold as given), ``…_tp``,
    ``…_fp``, ``…_outer_low``, ``…_outer_high`` (for the target rate exactly), ``…_resolved``. With too few examples the rate and
    its intervals are empty, and ``…_reason`` is not.
    A text that a spreadsheet would take for a formula (it starts with = + - @) gets an apostrophe in front.
    """
    rows = [row for model in results["models"] for row in _rows(model)]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: _safe(value) for key, value in row.items()} for row in rows)
    return out.getvalue()


def _rows(model: Json) -> list[dict[str, Any]]:
    about = _about(model)
    null = model.get("null")
    tail = {
        **_estimate("null_auc", null["auc"] if null else dict.fromkeys(ESTIMATE)),
        "null_off": off_null(model) if null else None,
    }
    rows = [{**about, **_attack(attack)} for attack in model["attacks"]]
    return [{**row, **tail} if row["unit"] != "leave-one-out" else row for row in rows]


def _about(model: Json) -> dict[str, Any]:
    row: dict[str, Any] = {key: model[key] for key in ("recipe", "defense")}
    row["run"] = " ".join(runs_of(model))
    row["seed"] = " ".join(map(str, seeds_of(model)))
    data = {**model["data"], "notes": "; ".join(model["data"].get("notes", []))}
    row |= {("data" if key == "name" else f"data_{key}"): value for key, value in data.items()}
    for part in ("train", "val", "test"):
        name, span = f"accuracy_{part}", (model.get("accuracy_interval") or {}).get(part) or {}
        row |= {name: model["accuracy"].get(part), f"{name}_n": model.get("rows", {}).get(part)}
        row |= {f"{name}_low": span.get("low"), f"{name}_high": span.get("high")}
    return row | {f"known_{who}": model.get("known", {}).get(who) for who in ("members", "nonmembers")}


def _attack(attack: Json) -> dict[str, Any]:
    row = {"attack": attack["attack"], "options": _options(attack), "needs": " ".join(attack["needs"])}
    row |= {"same_as": attack.get("same_as", ""), "variance": attack.get("variance", "")}
    row |= {key: attack[key] for key in ("unit", "targets", "members", "nonmembers")} | _measured(attack)
    for name in ("auc_within", "balanced_accuracy"):
        row |= _estimate(name, attack[name]) if attack.get(name) else {}
    return row | {"flags": " ".join(attack["flags"])}


def _options(found: Json) -> str:
    return " ".join(f"{key}={option_text(value)}" for key, value in (found.get("options") or {}).items())


def _measured(found: Json) -> dict[str, Any]:
    row = _estimate("auc", found["auc"])
    for curve, key in (("tpr_at_fpr", "fpr"), ("tnr_at_fnr", "fnr")):
        for point in found[curve]:
            row |= _estimate(f"{curve}_{point[key]:g}", _without_rate({k: v for k, v in point.items() if k != key}))
    return row


def _without_rate(point: Json) -> Json:
    """The columns of an operating point; where too few examples show a rate, the counts without it."""
    hidden = (*ESTIMATE, "outer_low", "outer_high") if point.get("reason") else ()
    return {**point, **dict.fromkeys(hidden, ""), "reason": point.get("reason", "")}


def _estimate(name: str, point: Json) -> dict[str, Any]:
    return {name if key == "value" else f"{name}_{key}": value for key, value in point.items()}


def _safe(value: Any) -> Any:
    if isinstance(value, bool):
        return str(value).lower()
    return safe(value) if isinstance(value, str) else value
