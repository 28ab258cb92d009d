"""The results as one HTML file with its scripts, style and data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hampkit.judging.results.attacks import shown_first
from hampkit.judging.results.wording import n_seeds
from hampkit.report import charts, rows
from hampkit.report.annex import annex
from hampkit.report.canaries import CANARY_NOTE, canary_blocks
from hampkit.report.canary_chart import canary_chart
from hampkit.report.findings import findings, reading
from hampkit.report.page import rendered
from hampkit.report.provenance import common_versions, provenance, run_days
from hampkit.report.records import record_table
from hampkit.report.rows import Json
from hampkit.report.table_csv import render_csv

MOST_CURVES = 5  # that are shown at once; the legend shows the others


def render_html(results: Json, details: Sequence[Json], texts: Json) -> str:
    """The page. details: one for each model, in the same order; parts that are missing are left out of the page."""
    return rendered("report.html.jinja", page_context(results, details, texts))


def page_context(results: Json, details: Sequence[Json], texts: Json) -> dict[str, Any]:
    """The variables of the template."""
    assert len(details) == len(results["models"]), (len(details), len(results["models"]))
    blocks = rows.blocks(results)
    canaries = canary_blocks(results)
    figures, panels = _charts(results, details, [block.title for block in blocks])
    figures |= {"canary-chart": canary_chart(canaries)} if canaries else {}
    return {
        "results": results,
        "version": results["hampkit"],
        "data_for_script": {"charts": figures, "results": results, "csv": render_csv(results)},
        "charts": figures,
        "panels": panels,
        "records": _records(details, blocks),
        "when": run_days(details),
        "data": _data(results),
        "versions": common_versions(details),
        "provenance": [provenance(model, detail) for model, detail in zip(results["models"], details, strict=True)],
        "annex": annex(results, details),
        "policy": results.get("policy") or [],
        "canaries": canaries,
        "canary_note": CANARY_NOTE,
        **_verdict(results),
        **_tables(results, blocks),
        **_explanations(results, texts),
    }


def _verdict(results: Json) -> dict[str, Any]:
    found = findings(results)
    verdict = {"comparison": "", "limits": "", "text": "", **(results.get("verdict") or {})}
    caveats = results.get("caveats") or []
    return {"findings": found, "reading": reading(found), "verdict": verdict, "caveats": caveats}


def _tables(results: Json, blocks: Sequence[rows.ModelBlock]) -> dict[str, Any]:
    """What the tables and the buttons above them and the charts show."""
    levels = rows.levels(results)
    level = rows.opening_level(results)
    return {
        "blocks": blocks,
        "folded": any(not row.leads for block in blocks for row in block.rows),
        "levels": levels,
        "level": level,
        "level_options": [(name, name) for name in levels],
        "columns": 6,
        "several_seeds": any(n_seeds(model) > 1 for model in results["models"]),
        "guessing": level in rows.resolved_levels(results, "tpr_at_fpr", False),
        "smallest": [
            f"{name} @ {found[0]} {error}"
            for name, error, curve in (("TPR", "FPR", "tpr_at_fpr"), ("TNR", "FNR", "tnr_at_fnr"))
            if (found := rows.resolved_levels(results, curve, True))
        ],
        "tradeoff_view": charts.opening(results),
        "attack_legend": charts.styles(_in_legend(results, rows.seen_attacks(results))),
        "shown_first": shown_first(results["models"], MOST_CURVES),
        "recipe_legend": charts.styles(rows.unique(model["recipe"] for model in results["models"])),
    }


def _explanations(results: Json, texts: Json) -> dict[str, Any]:
    """The texts about attacks, defenses and flags."""
    known, seen = texts.get("flags", {}), rows.seen_flags(results)
    attacks = rows.seen_attacks(results)
    defenses = rows.unique(model["defense"] for model in results["models"] if model["defense"])
    return {
        "attacks": [_about(texts, "attacks", name, _needs(results, name)) for name in attacks],
        "defenses": [_about(texts, "defenses", name) for name in defenses],
        "flags": {name: known.get(name) or "No explanation was given." for name in seen},
        "other_flags": {name: text for name, text in known.items() if name not in seen},
    }


def _charts(results: Json, details: Sequence[Json], titles: list[str]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Charts by the id of their element, and for each model the ids of its charts."""
    drawn = (name for detail in details for name in detail.get("curves") or {})
    style = charts.styles(_in_legend(results, [*rows.seen_attacks(results), *drawn]))
    floor = charts.roc_floor(results)
    recipes = charts.styles(rows.unique(model["recipe"] for model in results["models"]))
    # an audit has one model, and no picture of several
    shown = results["models"] and not any(model.get("audit") for model in results["models"])
    figures: dict[str, Any] = {"tradeoff": charts.tradeoff_chart(results, recipes)} if shown else {}
    panels = []
    for i, (model, detail, title) in enumerate(zip(results["models"], details, titles, strict=True)):
        panel: dict[str, Any] = {"title": title, "roc": None, "histograms": {}, "release": detail.get("release") or ""}
        if detail.get("curves"):
            panel["roc"] = f"roc-{i}"
            figures[f"roc-{i}"] = charts.roc_chart(model, title, detail["curves"], floor, style)
        histogram = detail.get("histogram") or {}
        for part, label in _histogram_parts(histogram).items():
            panel["histograms"][f"histogram-{i}-{part}"] = label
            figures[f"histogram-{i}-{part}"] = charts.histogram_chart(histogram, part, title)
        panels.append(panel)
    return figures, panels


def _in_legend(results: Json, attacks: Sequence[str]) -> list[str]:
    """The attacks, first those whose curves are shown at once: they get the colours that differ most."""
    return rows.unique([*shown_first(results["models"], MOST_CURVES), *attacks])


def _records(details: Sequence[Json], blocks: Sequence[rows.ModelBlock]) -> list[Any]:
    tables = (record_table(detail, b.title, b.runs[0]) for detail, b in zip(details, blocks, strict=True))
    return [table for table in tables if table is not None]


def _histogram_parts(histogram: Json) -> dict[str, str]:
    before, after = histogram.get("before"), histogram.get("after")
    if histogram.get("label"):
        return {"before": histogram["label"]}
    of = f" ({histogram['of']})" if histogram.get("of") else ""
    if before and (after is None or before == after):
        return {"before": f"The release changes nothing here{of}"}
    return {
        part: label + of
        for part, label in (("before", "Before the release"), ("after", "After the release"))
        if histogram.get(part)
    }


def _about(texts: Json, kind: str, name: str, needs: str = "") -> dict[str, str]:
    text = rows.about(texts, kind, name)
    return text | {"name": name, "needs": needs, "link": rows.web_link(text["paper"])}


def _needs(results: Json, name: str) -> str:
    attacks = (attack for model in results["models"] for attack in model["attacks"])
    return rows.need_words(next(attack for attack in attacks if attack["attack"] == name))


def _data(results: Json) -> list[str]:
    """The data sets with their sizes, and what was done to the values of the user's file."""
    sets = [model["data"] for model in results["models"]]
    notes = (f"{data['name']}: {note}" for data in sets for note in data.get("notes") or [])
    return rows.unique([*map(_size, sets), *notes])


def _size(data: Json) -> str:
    """The size of a data set; answers alone have no features, and scores no classes."""
    counts = [f"{data['rows']:,} examples", *(f"{data[of]:,} {of}" for of in ("features", "classes") if data[of])]
    return f"{data['name']}: {', '.join(counts)}"
