"""Plotly figures as JSON. Built with plotly.graph_objects, which refuses a misspelt property; drawn by page.js.

A chart is ``{"group", "alt", "views": {name: figure}}``: the buttons of the page choose the view of a group's charts.
Whatever depends on light or dark (text, hover labels, references) is coloured by page.js.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from hampkit.errors import visible
from hampkit.judging.results.attacks import as_found, attack_label, found_label, of_target, strongest
from hampkit.judging.results.wording import level_label, model_titles, percent
from hampkit.report import rows
from hampkit.report.logit_axis import logit_ticks
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
GUESSING = {"auc": 0.5, "tpr": LEVEL}


def styles(names: Sequence[str]) -> dict[str, dict[str, str]]:
    """Name → colour, dash and symbol, in all charts of the page. No two of 36 names have both colour and symbol in common."""
    symbols = list(SYMBOLS)
    place = [(i + i // len(COLOURS)) % len(symbols) for i in range(len(names))]
    return {
        name: {
            "color": COLOURS[i % len(COLOURS)],
            "dash": DASHES[i // len(COLOURS) % len(DASHES)],
            "symbol": symbols[place[i]],
            "glyph": SYMBOLS[symbols[place[i]]],
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
    """Test accuracy against leakage: one point per model, for its strongest attack by each measure.

    A model with too few examples for a TPR has no point in the view of the TPR; without any point there is no such view.
    """
    views = {"tpr": _tradeoff(results, style, "tpr"), "auc": _tradeoff(results, style, "auc")}
    views = {measure: view for measure, view in views.items() if view["data"] or measure == "auc"}
    titles = model_titles(results)
    tests = [
        percent(rate) if (rate := model["accuracy"].get("test")) is not None else "–" for model in results["models"]
    ]
    points = "; ".join(f"{title} {test}" for title, test in zip(titles, tests, strict=True))
    alt = f"Scatter plot of test accuracy against leakage. Test accuracies: {points}. For leakage see the table."
    return {"group": "tradeoff", "alt": alt, "views": views}


def comparison_chart(document: Json, style: Json) -> dict[str, Any]:
    """Test accuracy against the AUC of the worst attack, one point per defense: the axes are those of `tradeoff_chart`."""
    data = []
    for entry in document["entries"]:
        test, auc = entry["test"], entry["leak"]["auc"]
        point = {**auc, "x": entry["accuracy"]["test"], "x_low": test["low"], "x_high": test["high"]}
        point |= {"title": entry["defense"], "attack": entry["leak"]["attack"]}
        data.append(_points(entry["defense"], [point], style[entry["defense"]], "auc"))
    spans = [(e["test"]["low"], e["test"]["high"], e["accuracy"]["test"]) for e in document["entries"]]
    heights = [(e["leak"]["auc"]["low"], e["leak"]["auc"]["high"]) for e in document["entries"]]
    xaxis, yaxis = (
        _test_axis([x for span in spans for x in span]),
        _leak_axis("auc", [y for span in heights for y in span]),
    )
    alt = "Scatter plot of test accuracy against the AUC of the worst attack of each defense. For the numbers see the table."
    return {"group": "tradeoff", "alt": alt, "views": {"auc": _scatter(data, xaxis, yaxis, GUESSING["auc"])}}


def histogram_chart(histogram: Json, part: str, title: str) -> dict[str, Any]:
    """Histograms of the signal of members and of non-members; part: ``before`` or ``after`` the release."""
    import plotly.graph_objects as go

    side = histogram[part]
    unit = f" ({histogram['unit']})" if histogram.get("unit") else ""
    data = [
        _steps(side["edges"], side["nonmembers"], "non-members", COLOURS[1]),
        _steps(side["edges"], side["members"], "members", COLOURS[0]),
    ]
    xaxis = axis(f"{histogram['signal']}{unit}", range=_span(histogram))
    if histogram.get("scale") == "logit":
        xaxis = axis(
            "probability of the true label (logit scale)", range=_span(histogram), **logit_ticks(*_span(histogram))
        )
    yaxis = axis("share of the group", tickformat="~%", range=[0, min(1.0, 1.06 * _tallest(histogram))])
    drawn = figure(data, go.Layout(xaxis=xaxis, yaxis=yaxis, hovermode="x"))
    alt = f"Histogram of the {histogram['signal']} of members and non-members of {title}, {part} the release."
    return {"group": "histogram", "alt": alt, "views": {"only": drawn}}


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
    return figure([diagonal, *curves], layout)


def _roc_alt(model: Json, title: str) -> str:
    level = level_label(LEVEL)
    parts = [
        f"{attack['attack']} {percent(point['value'], 2)}"
        for attack in of_target(model)
        for point in attack["tpr_at_fpr"]
        if level_label(point["fpr"]) == level and not point.get("reason")
    ]
    rates = f" True-positive rate at {level} false-positive rate: {', '.join(parts)}." if parts else ""
    return f"ROC curves of the attacks on {title}, both axes logarithmic.{rates}"


def _tradeoff(results: Json, style: Json, measure: str) -> dict[str, Any]:
    titles = model_titles(results)
    groups: dict[str, list[dict[str, Any]]] = {}
    for title, model in zip(titles, results["models"], strict=True):
        point = _leak(model, measure)
        if point and model["accuracy"]:
            groups.setdefault(model["recipe"], []).append(point | {"title": title, **_test(model)})
    data = [_points(recipe, points, style[recipe], measure) for recipe, points in groups.items()]
    found = [point for points in groups.values() for point in points]
    xaxis = _test_axis([end for point in found for end in (point["x"], point["x_low"], point["x_high"])])
    yaxis = _leak_axis(measure, [end for point in found for end in (point["low"], point["high"])])
    return _scatter(data, xaxis, yaxis, GUESSING[measure])


def _scatter(data: list[dict[str, Any]], xaxis: Json, yaxis: Json, guessing: float) -> dict[str, Any]:
    import plotly.graph_objects as go

    layout = go.Layout(xaxis=xaxis, yaxis=yaxis, hovermode="closest", shapes=[_level_line(guessing)])
    return figure(data, layout)


def _test_axis(ends: Sequence[float]) -> dict[str, Any]:
    return axis("test accuracy", tickformat="~%", nticks=8, range=within_one(ends))


def _leak_axis(measure: str, ends: Sequence[float]) -> dict[str, Any]:
    """The axis of the AUC from guessing upwards, or of the TPR from 0 upwards, as far as the intervals reach."""
    label = "AUC (0.5 = guessing)" if measure == "auc" else f"TPR at {level_label(LEVEL)} FPR"
    start = [GUESSING[measure]] if measure == "auc" else [0.0, GUESSING[measure]]
    return axis(label, tickformat=".2f" if measure == "auc" else "~%", range=within_one([*start, *ends]))


def within_one(values: Sequence[float]) -> list[float]:
    """The range of an axis of rates: these values with a margin, and never beyond 0 or 1.

    >>> within_one([0.5, 1.0]), within_one([])
    ([0.47, 1], [0, 1])
    """
    if not values:
        return [0, 1]
    low, high = min(values), max(values)
    margin = 0.06 * (high - low) or 0.01
    return [max(0, low - margin), min(1, high + margin)]


def _test(model: Json) -> dict[str, float]:
    """The test accuracy with its interval."""
    value, span = model["accuracy"]["test"], (model.get("accuracy_interval") or {}).get("test") or {}
    return {"x": value, "x_low": span.get("low", value), "x_high": span.get("high", value)}


def _leak(model: Json, measure: str) -> dict[str, Any] | None:
    """The AUC of the strongest attack, or the TPR of the attack with the highest lower bound of the TPR.

    The interval of the AUC is that of the verdict: it allows for the choice among the attacks.
    """
    if measure == "auc":
        best = strongest(of_target(model))
        return (
            None
            if best is None
            else as_found(best, best.get("auc_corrected") or best["auc"]) | {"attack": found_label(best)}
        )
    rates = [(rate, attack) for attack in of_target(model) if (rate := _rate(attack))]
    rate, attack = max(rates, key=lambda found: found[0]["low"], default=(None, None))
    return None if rate is None or attack is None else {**rate, "attack": attack_label(attack)}


def _rate(attack: Json) -> Json | None:
    """The TPR at the operating point of the chart; None if the attack has none there, or a count in its place."""
    level = level_label(LEVEL)
    found = (p for p in attack["tpr_at_fpr"] if level_label(p["fpr"]) == level and not p.get("reason"))
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
        "error_x": bars([(point["x"], point["x_low"], point["x_high"]) for point in points]),
        "error_y": bars([(point["value"], point["low"], point["high"]) for point in points]),
        "marker": {
            "color": style["color"],
            "size": 12,
            "symbol": [style["symbol"] + ("" if known else "-open") for known in resolved],
            "line": {"width": 2, "color": style["color"]},
        },
        "hovertemplate": "%{customdata[0]}<br>test accuracy %{x:.1%}<br>%{customdata[1]}: " + form + "<extra></extra>",
    }


def bars(spans: Sequence[tuple[float, float, float]]) -> dict[str, Any]:
    """Error bars of (value, low, high)."""
    above, below = [high - value for value, _, high in spans], [value - low for value, low, _ in spans]
    return {"array": above, "arrayminus": below, "thickness": 1.25, "width": 4}


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
    return axis(title, type="log", range=[log10(start) - 0.06, 0], minor={"showgrid": False}, **ticks)


def axis(title: str, **more: Any) -> dict[str, Any]:
    look = {"gridcolor": GRID, "linecolor": NEUTRAL, "showline": True, "zeroline": False, "ticks": "outside"}
    head = {"text": plain(title), "standoff": 8, "font": {"size": 12}}
    return {**look, "tickcolor": NEUTRAL, "ticklen": 4, "automargin": True, "title": head, **more}


def figure(data: list[dict[str, Any]], layout: go.Layout) -> dict[str, Any]:
    import plotly.graph_objects as go

    layout.update(
        template=go.layout.Template(),
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        margin={"l": 8, "r": 26, "t": 28, "b": 8},
        showlegend=False,
        font={"size": 12},
    )
    return go.Figure(data=data, layout=layout).to_plotly_json()


def plain(text: str) -> str:
    """Text that Plotly shows unchanged: no HTML, no dollar signs (they mark TeX), no hidden characters."""
    return escape(visible(str(text)), quote=False).replace("$", "&#36;")
