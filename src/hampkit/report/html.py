"""The results as one HTML file with its scripts, style and data."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from importlib.resources import files
from typing import Any

from hampkit.judging.results.attacks import option_text
from hampkit.judging.results.wording import runs_of, seeds_of, verdict_lines
from hampkit.report import charts, rows
from hampkit.report.rows import Json
from hampkit.report.table_csv import render_csv
from hampkit.text import dotted, measured_duration


def render_html(results: Json, details: Sequence[Json], texts: Json) -> str:
    """The page. details: one for each model, in the same order; parts that are missing are left out of the page."""
    return rendered("template.html.jinja", "page.js", page_context(results, details, texts))


def rendered(template: str, script: str, context: Mapping[str, Any]) -> str:
    """A page with Plotly and one script of ours inside; its content security policy refuses all other scripts."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    env = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    env.policies["json.dumps_kwargs"] = {"sort_keys": False, "allow_nan": False}
    scripts = [get_plotlyjs(), _read(script)]
    return env.from_string(_read(template)).render(
        context,
        style=Markup(_read("style.css")),
        scripts=[Markup(script) for script in scripts],
        script_hashes=[_hash(script) for script in scripts],
    )


def page_context(results: Json, details: Sequence[Json], texts: Json) -> dict[str, Any]:
    """The variables of the template."""
    assert len(details) == len(results["models"]), (len(details), len(results["models"]))
    blocks, levels = rows.blocks(results), rows.levels(results)
    figures, panels = _charts(results, details, [block.title for block in blocks])
    attacks, recipes = rows.seen_attacks(results), rows.unique(model["recipe"] for model in results["models"])
    known_flags, seen = texts.get("flags", {}), rows.seen_flags(results)
    return {
        "results": results,
        "csv": render_csv(results),
        "verdict": verdict_lines(results),
        "blocks": blocks,
        "levels": levels,
        "level": rows.main_level(levels),
        "level_options": [(name, name) for name in levels],
        "columns": 6,
        "guessing": rows.main_level(levels) in rows.resolved_levels(results, "tpr_at_fpr", False),
        "smallest": [
            f"{name} @ {found[0]} {error}"
            for name, error, curve in (("TPR", "FPR", "tpr_at_fpr"), ("TNR", "FNR", "tnr_at_fnr"))
            if (found := rows.resolved_levels(results, curve, True))
        ],
        "tradeoff_view": charts.opening(results),
        "charts": figures,
        "panels": panels,
        "attack_legend": charts.styles(attacks),
        "recipe_legend": charts.styles(recipes),
        "when": _when(details),
        "data": _data(results),
        "attacks": [_about(texts, "attacks", name, _needs(results, name)) for name in attacks],
        "defenses": [
            _about(texts, "defenses", name) for name in rows.unique(model["defense"] for model in results["models"])
        ],
        "flags": {name: known_flags.get(name) or "No explanation was given." for name in seen},
        "other_flags": {name: text for name, text in known_flags.items() if name not in seen},
        "provenance": [_provenance(model, detail) for model, detail in zip(results["models"], details, strict=True)],
    }


def _charts(results: Json, details: Sequence[Json], titles: list[str]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Charts by the id of their element, and for each model the ids of its charts."""
    style = charts.styles(
        rows.unique([*rows.seen_attacks(results), *(name for detail in details for name in detail.get("curves") or {})])
    )
    floor = charts.roc_floor(results)
    recipes = charts.styles(rows.unique(model["recipe"] for model in results["models"]))
    figures: dict[str, Any] = {"tradeoff": charts.tradeoff_chart(results, recipes)} if results["models"] else {}
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


def _histogram_parts(histogram: Json) -> dict[str, str]:
    before, after = histogram.get("before"), histogram.get("after")
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
    return rows.need_words(next(attack["needs"] for attack in attacks if attack["attack"] == name))


def _when(details: Sequence[Json]) -> str:
    """The first and the last day of the runs, in UTC."""
    starts = [(detail.get("provenance") or {}).get("started") for detail in details]
    days = sorted({_moment(start)[:10] for start in starts if start})
    return " to ".join(rows.unique([days[0], days[-1]])) if days else ""


def _moment(text: str) -> str:
    """``2026-01-31T12:00:00+01:00`` → ``2026-01-31 11:00 UTC``; other texts are unchanged."""
    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return text
    if moment.tzinfo is None:
        return f"{moment:%Y-%m-%d %H:%M}"
    return f"{moment.astimezone(timezone.utc):%Y-%m-%d %H:%M} UTC"


def _data(results: Json) -> list[str]:
    """The data sets with their sizes."""
    sets = (model["data"] for model in results["models"])
    size = "{name}: {rows:,} examples, {features:,} features, {classes:,} classes"
    return rows.unique(size.format(**data) for data in sets)


def _provenance(model: Json, detail: Json) -> dict[str, dict[str, str]]:
    source = detail.get("provenance") or {}
    started, seconds, seeds = source.get("started"), source.get("seconds"), list(source.get("seeds") or [])
    seed = ", ".join(map(str, seeds_of(model)))
    facts = {
        "Run": ", ".join(runs_of(model)),
        "Seed": seed,
        "Model seed" if len(seeds) < 2 else "Model seeds tried": _seeds(seeds, seed),
        "Data": f"{model['data']['name']}, {model['data']['rows']:,} rows",
        "SHA-256 of the data": model["data"]["sha256"],
        "Device": source.get("device"),
        "Git revision": source.get("git"),
        "Started": _moment(started) if started else "",
        "Took": measured_duration(seconds) if seconds is not None else "",
    }
    shadows = source.get("shadows") or {}
    facts |= {"Shadow models": shadows.get("name"), "They differ": "; ".join(shadows.get("differences") or [])}
    return {
        "Run": {key: str(value) for key, value in facts.items() if value not in ("", None)},
        "Recipe": _recipe(source.get("recipe") or {}),
        "Versions": {key: str(value) for key, value in (source.get("versions") or {}).items()},
    }


def _seeds(seeds: Sequence[int], seed: str) -> str:
    """The seeds of the models, which are long numbers, with the run's seed or seeds that they are derived from."""
    shown = ", ".join(map(str, seeds))
    return f"{shown} (derived from seed {seed})" if seeds and shown != seed else ""


def _recipe(recipe: Mapping[str, Any]) -> dict[str, str]:
    """The options of a recipe as dotted keys, without those that are internal."""
    kept = {key: value for key, value in recipe.items() if key not in ("schema", "version")}
    flat = {key: option_text(value) for key, value in dotted(kept).items()}
    if flat.get("split.seed") == "-1":
        flat["split.seed"] = "the recipe's"
    return {k: v for k, v in flat.items() if v or k.rsplit(".", 1)[-1] not in ("file", "permutation")}


def _read(name: str) -> str:
    return files("hampkit.report").joinpath(name).read_text(encoding="utf-8").replace("\r\n", "\n")


def _hash(script: str) -> str:
    """The hash of a script for the content security policy: the browser refuses scripts with other hashes."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
