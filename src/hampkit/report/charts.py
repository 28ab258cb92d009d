"""Plotly figures as JSON. Built with plotly.graph_objects, which refuses a misspelt property; drawn by page.js.

A chart is ``{"group", "alt", "views": {name: figure}}``: the buttons of the page choose the view of a group's charts.
Whatever depends on light or dark (text, hover labels, references) is coloured by page.js.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from hampkit.judging.results.attacks import as_found, attack_label, found_label, of_target, strongest
from hampkit.judging.results.wording import level_label, model_titles, percent
from hampkit.report import rows
from hampkit.report.rows import Json

if TYPE_CHECKING:
    import plotly.graph_objects as go

# Okabe & Ito's colours without black and yellow, which vanish on a dark and on a white page.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
DASHES = ("solid", "dash", "dot", "dashdot")
SYMBOLS = {"circle": "●", "square": "■", "diamond": "◆", "triangle-up": "▲", "triangle-down": "▼", "star": "★"}
NEUTRAL = "#8a929c"  # seen on white and on dark
GRID = "rgba(128,138,150,0.22)"
LEVEL = 0.001  # the operating point of the trade-off chart


def styles(names: Sequence[str]) -> dict[str, dict[str, str]]:
    """Name → colour, dash and symbol, in all charts of the page."""
    symbols = list(SYMBOLS)
    return {
        name: {
            "color": COLOURS[i % len(COLOURS)],
            "dash": DASHES[i // len(COLOURS) % len(DASHES)],
            "symbol": symbols[i % len(symbols)],
            "glyph": SYMBOLS[symbols[i % len(symbols)]],
        }
        for i, name in enumerate(names)
    }


def roc_chart(model: Json, title: str, curves: Json, floor: tuple[float, float], style: Json) -> dict[str, Any]:
    """Log-log curves of all attacks on one model: members found (view ``tpr``) and non-members found (``tnr``).

    floor: where the axes of members and non-members begin, ``(1/2n, 1/2n)`` of the largest n on the page.
    """
    sizes = {attack["attack"]: (attack["members"], attack["nonmembers"]) for attack in of_target(model)}
    found: list[dict[str, Any]] = []
    spared: list[dict[str, Any]] = []
    for name, curve in curves.items():
        members, nonmembers = (0.5 / n for n in sizes.get(name, (0.5 / floor[0], 0.5 / floor[1])))
        fpr, tpr = list(curve["fpr"]), list(curve["tpr"])
        fnr, tnr = [1 - rate for rate in reversed(tpr)], [1 - rate for rate in reversed(fpr)]
        found.append(_curve(name, fpr, tpr, (nonmembers, members), style[name]))
        spared.append(_curve(name, fnr, tnr, (members, nonmembers), style[name]))
    low_members, low_nonmembers = floor
    return {
        "group": "roc",
        "alt": _roc_alt(model, title),
        "views": {
            "tpr": _roc_figure(found, "FPR", "TPR", (low_nonmembers, low_members)),
            "tnr": _roc_figure(spared, "FNR", "TNR", (low_members, low_nonmembers)),
        },
    }


def tradeoff_chart(results: Json, style: Json) -> dict[str, Any]:
    """Test accuracy against leakage: one point per model, for its strongest attack by each measure."""
    views = {"tpr": _tradeoff(results, style, "tpr"), "auc": _tradeoff(results, style, "auc")}
    titles = model_titles(results)
    tests = [percent(model["accuracy"]["test"]) for model in results["models"]]
    points = "; ".join(f"{title} {test}" for title, test in zip(titles, tests, strict=True))
    alt = f"Scatter plot of test accuracy against leakage. Test accuracies: {points}. For leakage see the table."
    return {"group": "tradeoff", "alt": alt, "views": views}


def histogram_chart(histogram: Json, part: str, title: str) -> dict[str, Any]:
    """Histograms of the signal of members and of non-members; part: ``before`` or ``after`` the release."""
    import plotly.graph_objects as go

    side = histogram[part]
    unit = f" ({histogram['unit']})" if histogram.get("unit") else ""
    data = [
        _steps(side["edges"], side["nonmembers"], "non-members", COLOURS[1]),
        _steps(side["edges"], side["members"], "members", COLOURS[0]),
    ]
    xaxis = _axis(f"{histogram['signal']}{unit}", range=_span(histogram))
    yaxis = _axis("share of the group", tickformat="~%", range=[0, 1.06 * _tallest(histogram)])
    figure = _figure(data, go.Layout(xaxis=xaxis, yaxis=yaxis, hovermode="x"))
    alt = f"Histogram of the {histogram['signal']} of members and non-members of {title}, {part} the release."
    return {"group": "histogram", "alt": alt, "views": {"only": figure}}


def roc_floor(results: Json) -> tuple[float, float]:
    """Where the log axes of members and of non-members begin: 1/(2n), with n the largest number of judged examples."""
    attacks = [attack for model in results["models"] for attack in of_target(model)]
    return (
        0.5 / max((attack["members"] for attack in attacks), default=1000),
        0.5 / max((attack["nonmembers"] for attack in attacks), default=1000),
    )


def _curve(name: str, x: list[float], y: list[float], floor: tuple[float, float], style: Json) -> dict[str, Any]:
    # Steps, not slopes: between two thresholds an attack cannot be had, so the rate holds until the next one.
    return {
        "type": "scatter",
        "mode": "lines",
        "name": plain(name),
        "meta": name,
        "x": [max(value, floor[0]) for value in x],
        "y": [max(value, floor[1]) for value in y],
        "line": {"color": style["color"], "dash": style["dash"], "width": 2, "shape": "hv"},
        "hovertemplate": "%{y:.2%} at %{x:.2%}<extra>%{fullData.name}</extra>",
    }


def _roc_figure(curves: list[dict[str, Any]], x: str, y: str, floor: tuple[float, float]) -> dict[str, Any]:
    import plotly.graph_objects as go

    start = max(floor)
    diagonal = _reference([start, 1], [start, 1], "guessing")
    layout = go.Layout(xaxis=_log_axis(x, floor[0]), yaxis=_log_axis(y, floor[1]), hovermode="closest")
    return _figure([diagonal, *curves], layout)


def _roc_alt(model: Json, title: str) -> str:
    level = level_label(LEVEL)
    parts = [
        f"{attack['attack']} {percent(point['value'], 2)}"
        for attack in of_target(model)
        for point in attack["tpr_at_fpr"]
        if level_label(point["fpr"]) == level
    ]
    rates = f" True-positive rate at {level} false-positive rate: {', '.join(parts)}." if parts else ""
    return f"ROC curves of the attacks on {title}, both axes logarithmic.{rates}"


def _tradeoff(results: Json, style: Json, measure: str) -> dict[str, Any]:
    import plotly.graph_objects as go

    titles = model_titles(results)
    groups: dict[str, list[dict[str, Any]]] = {}
    for title, model in zip(titles, results["models"], strict=True):
        point = _leak(model, measure)
        if point:
            groups.setdefault(model["recipe"], []).append(point | {"title": title, "x": model["accuracy"]["test"]})
    data = [_points(recipe, points, style[recipe], measure) for recipe, points in groups.items()]
    level, label = (0.5, "AUC") if measure == "auc" else (LEVEL, f"TPR at {level_label(LEVEL)} FPR")
    form = ".2f" if measure == "auc" else "~%"
    estimates = [point for points in groups.values() for point in points]
    bottom = min([level if measure == "auc" else 0.0, *(point["low"] for point in estimates)])
    top = max([level, *(point["high"] for point in estimates)])
    margin = 0.06 * (top - bottom) or 0.01
    yaxis = _axis(label, tickformat=form, range=[bottom - margin, top + margin])
    layout = go.Layout(xaxis=_axis("test accuracy", tickformat="~%", nticks=8), yaxis=yaxis, hovermode="closest")
    layout.update(shapes=[_level_line(level)])
    return _figure(data, layout)


def _leak(model: Json, measure: str) -> dict[str, Any] | None:
    """The AUC of the strongest attack, or the TPR of the attack with the highest lower bound of the TPR."""
    if measure == "auc":
        best = strongest(of_target(model))
        return None if best is None else as_found(best, best["auc"]) | {"attack": found_label(best)}
    rates = [(rate, attack) for attack in of_target(model) if (rate := _rate(attack))]
    rate, attack = max(rates, key=lambda found: found[0]["low"], default=(None, None))
    return None if rate is None or attack is None else {**rate, "attack": attack_label(attack)}


def _rate(attack: Json) -> Json | None:
    """The TPR at the operating point of the chart; None if the attack has none there."""
    level = level_label(LEVEL)
    found = (p for p in attack["tpr_at_fpr"] if level_label(p["fpr"]) == level)
    return next(({**rows.outer(p), "resolved": p["resolved"]} for p in found), None)


def opening(results: Json) -> str:
    """The first view of the trade-off chart: ``tpr`` if a TPR at its operating point is resolved, else ``auc``."""
    return "tpr" if level_label(LEVEL) in rows.resolved_levels(results, "tpr_at_fpr", False) else "auc"


def _points(recipe: str, points: list[dict[str, Any]], style: Json, measure: str) -> dict[str, Any]:
    form = "%{y:.3f}" if measure == "auc" else "%{y:.2%}"
    resolved = [point.get("resolved", True) for point in points]
    return {
        "type": "scatter",
        "mode": "markers",
        "cliponaxis": False,
        "name": plain(recipe),
        "meta": recipe,
        "x": [point["x"] for point in points],
        "y": [point["value"] for point in points],
        "customdata": [[plain(point["title"]), plain(point["attack"])] for point in points],
        "error_y": {
            "array": [point["high"] - point["value"] for point in points],
            "arrayminus": [point["value"] - point["low"] for point in points],
            "thickness": 1.5,
            "width": 5,
        },
        "marker": {
            "color": style["color"],
            "size": 12,
            "symbol": [style["symbol"] + ("" if known else "-open") for known in resolved],
            "line": {"width": 2, "color": style["color"]},
        },
        "hovertemplate": "%{customdata[0]}<br>test accuracy %{x:.1%}<br>%{customdata[1]}: " + form + "<extra></extra>",
    }


def _steps(edges: Sequence[float], counts: Sequence[float], name: str, colour: str) -> dict[str, Any]:
    total = sum(counts) or 1
    shares = [count / total for count in counts]
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "x": list(edges),
        "y": [*shares, *shares[-1:]],
        "customdata": [*counts, *counts[-1:]],
        "line": {"color": colour, "width": 1.75, "shape": "hv", "dash": "solid" if name == "members" else "dash"},
        "fill": "tozeroy",
        "fillcolor": f"rgba({','.join(str(int(colour[i : i + 2], 16)) for i in (1, 3, 5))},0.16)",
        "hovertemplate": "%{y:.1%} (%{customdata})",
    }


def _span(histogram: Json) -> list[float]:
    """The common range of the histograms before and after the release."""
    edges = [edge for part in ("before", "after") if histogram.get(part) for edge in histogram[part]["edges"]]
    return [min(edges), max(edges)]


def _tallest(histogram: Json) -> float:
    sides = [histogram[part] for part in ("before", "after") if histogram.get(part)]
    return max(max(side[who]) / (sum(side[who]) or 1) for side in sides for who in ("members", "nonmembers")) or 1


def _reference(x: list[float], y: list[float], name: str) -> dict[str, Any]:
    line = {"color": NEUTRAL, "dash": "dash", "width": 1.25}
    return {"type": "scatter", "mode": "lines", "name": name, "x": x, "y": y, "line": line, "hoverinfo": "skip"}


def _level_line(y: float) -> dict[str, Any]:
    line = {"color": NEUTRAL, "dash": "dash", "width": 1.25}
    return {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": y, "y1": y, "line": line, "layer": "below"}


def _log_axis(title: str, start: float) -> dict[str, Any]:
    from math import floor, log10

    below = 10.0 ** floor(log10(start))
    start = below if below > start / 2 else start  # so that the axis begins at a number when one is near
    powers = [10.0**-k for k in range(9) if 10.0**-k >= start * 0.999]
    ticks = {"tickvals": powers, "ticktext": [level_label(power) for power in powers]}
    return _axis(title, type="log", range=[log10(start) - 0.06, 0.04], minor={"showgrid": False}, **ticks)


def _axis(title: str, **more: Any) -> dict[str, Any]:
    look = {"gridcolor": GRID, "linecolor": NEUTRAL, "showline": True, "zeroline": False, "ticks": "outside"}
    head = {"text": plain(title), "standoff": 8, "font": {"size": 12}}
    return {**look, "tickcolor": NEUTRAL, "ticklen": 4, "automargin": True, "title": head, **more}


def _figure(data: list[dict[str, Any]], layout: go.Layout) -> dict[str, Any]:
    import plotly.graph_objects as go

    layout.update(
        template=go.layout.Template(),
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        margin={"l": 8, "r": 14, "t": 28, "b": 8},
        showlegend=False,
        font={"size": 12},
    )
    return go.Figure(data=data, layout=layout).to_plotly_json()


def plain(text: str) -> str:
    """Text that Plotly shows unchanged: without the HTML that Plotly renders, and without dollar signs, which mark TeX."""
    return escape(str(text), quote=False).replace("$", "&#36;")
