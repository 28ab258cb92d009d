"""The results as one flat table, for spreadsheets and data frames."""

from __future__ import annotations

import csv
import io
from typing import Any

from hampkit.cells import safe
from hampkit.report.view import Json, exact, off_null, option_text

ESTIMATE = ("value", "low", "high")


def render_csv(results: Json) -> str:
    """One row per model × attack; rates as fractions in full precision, lists joined by spaces.

    Columns of an operating point: ``tpr_at_fpr_0.001``, ``…_low``, ``…_high`` (exact, for the threshold as given), ``…_tp``,
    ``…_fp``, ``…_outer_low``, ``…_outer_high`` (for the asked rate exactly), ``…_resolved``.
    A text that a spreadsheet would run as a formula (it starts with = + - @) gets an apostrophe in front.
    """
    rows = [_row(model, attack) for model in results["models"] for attack in model["attacks"]]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: _safe(value) for key, value in row.items()} for row in rows)
    return out.getvalue()


def _row(model: Json, attack: Json) -> dict[str, Any]:
    row: dict[str, Any] = {key: model[key] for key in ("recipe", "defense", "run", "seed")}
    row |= {("data" if key == "name" else f"data_{key}"): value for key, value in model["data"].items()}
    for part in ("train", "val", "test"):
        row |= _accuracy(f"accuracy_{part}", model["accuracy"].get(part), model.get("rows", {}).get(part))
    row |= {f"known_{who}": model.get("known", {}).get(who) for who in ("members", "nonmembers")}
    options = (f"{key}={option_text(value)}" for key, value in (attack.get("options") or {}).items())
    row |= {"attack": attack["attack"], "options": " ".join(options), "needs": " ".join(attack["needs"])}
    row |= {key: attack[key] for key in ("members", "nonmembers")}
    row |= _estimate("auc", attack["auc"])
    for curve, key in (("tpr_at_fpr", "fpr"), ("tnr_at_fnr", "fnr")):
        for point in attack[curve]:
            row |= _estimate(f"{curve}_{point[key]:g}", {k: v for k, v in point.items() if k != key})
    row |= _estimate("balanced_accuracy", attack["balanced_accuracy"])
    row["flags"] = " ".join(attack["flags"])
    null = model.get("null")
    row |= _estimate("null_auc", null["auc"] if null else dict.fromkeys(ESTIMATE))
    return row | {"null_off": off_null(model) if null else None}


def _accuracy(name: str, rate: float | None, n: int | None) -> dict[str, Any]:
    low, high = (None, None) if rate is None or not n else exact(rate, n)
    return {name: rate, f"{name}_n": n, f"{name}_low": low, f"{name}_high": high}


def _estimate(name: str, point: Json) -> dict[str, Any]:
    return {name if key == "value" else f"{name}_{key}": value for key, value in point.items()}


def _safe(value: Any) -> Any:
    if isinstance(value, bool):
        return str(value).lower()
    return safe(value) if isinstance(value, str) else value
