"""The page and the picture of a critique."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from math import log10
from typing import Any

from hampkit.report.charts import COLOURS, axis, bars, figure, plain
from hampkit.report.critique import COLUMNS, VIEWS, CritiqueRow, about, spans, title
from hampkit.report.page import rendered
from hampkit.report.rows import Json

SYMBOLS = ("circle-open", "square", "diamond")
LEAST = 1e-4  # where the axis begins at the latest


def critique_html(comparison: Json, rows: Sequence[CritiqueRow], command: str) -> str:
    """The page, a single file."""
    charts = {"critique": critique_chart(rows)}
    document = {"rows": [asdict(row) for row in rows]}
    context = {
        "title": title(comparison),
        "version": comparison["hampkit"],
        "columns": COLUMNS,
        "rows": rows,
        "about": about(comparison),
        "left_out": comparison["left_out"],
        "command": command,
        "charts": charts,
        "data_for_script": {"charts": charts, "results": document, "csv": ""},
    }
    return rendered("critique.html.jinja", context)


def critique_chart(rows: Sequence[CritiqueRow]) -> dict[str, Any]:
    """One line per defense, with a mark for each of `VIEWS`."""
    import plotly.graph_objects as go

    start = max(min([end for end in spans(rows) if end > 0], default=LEAST), LEAST)
    data = [_marks(rows, k, start) for k in range(len(VIEWS))]
    ticks = [10.0**-k for k in range(5)]
    layout = go.Layout(
        xaxis=axis("TPR at 0.1% FPR", type="log", tickvals=ticks, tickformat="~%", range=[log10(start) - 0.1, 0.05]),
        yaxis=axis(
            "",
            tickvals=list(range(len(rows))),
            ticktext=[plain(r.defense) for r in rows],
            range=[len(rows) - 0.5, -0.5],
        ),
        hovermode="closest",
        height=120 + 60 * len(rows),
    )
    alt = "TPR of each defense by attacks with one question, by attacks that know it, and on canaries. See the table."
    return {"group": "critique", "alt": alt, "views": {"tpr": figure(data, layout)}}


def _marks(rows: Sequence[CritiqueRow], k: int, start: float) -> dict[str, Any]:
    shown = [(i, row.rates[VIEWS[k]]) for i, row in enumerate(rows) if VIEWS[k] in row.rates]
    ends = [(max(r["value"], start), max(r["low"], start), r["high"]) for _, r in shown]
    return {
        "type": "scatter",
        "mode": "markers",
        "cliponaxis": False,
        "name": VIEWS[k],
        "x": [value for value, _, _ in ends],
        "y": [i + 0.2 * (k - 1) for i, _ in shown],
        "error_x": bars(ends),
        "customdata": [plain(f"{rows[i].defense}, {VIEWS[k]}") for i, _ in shown],
        "marker": {"color": COLOURS[k], "size": 11, "symbol": SYMBOLS[k], "line": {"width": 2, "color": COLOURS[k]}},
        "hovertemplate": "%{customdata}: %{x:.2%}<extra></extra>",
    }
