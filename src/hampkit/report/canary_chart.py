"""The picture of canaries: for each attack its rate on records of the data set, and on canaries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hampkit.report.canaries import CanaryBlock, CanaryRow
from hampkit.report.charts import COLOURS, axis, bars, figure, plain, within_one

HEIGHT = 26  # pixels of a row
BAND = 0.14  # half of the distance of two marks of a row


def canary_chart(blocks: Sequence[CanaryBlock]) -> dict[str, Any]:
    """One line per recipe and attack: the AUC on records of the data set (hollow) and on canaries (filled), with intervals."""
    import plotly.graph_objects as go

    rows = [row for block in blocks for row in block.rows]
    labels = [plain(f"{row.recipe}, {row.attack}") for row in rows]
    data = [_joined(rows)]
    for k, block in enumerate(blocks):
        colour = COLOURS[k % len(COLOURS)]
        mine = [(i, row) for i, row in enumerate(rows) if row in block.rows]
        data += [_marks(mine, "clean", colour, "circle-open"), _marks(mine, "canary", colour, "circle")]
    ends = [end for row in rows for side in (row.clean, row.canary) if side for end in (side["low"], side["high"])]
    places = list(range(len(rows)))
    layout = go.Layout(
        xaxis=axis("AUC (0.5 = guessing)", tickformat=".2f", range=within_one([0.5, *ends])),
        yaxis=axis("", tickvals=places, ticktext=labels, range=[len(rows) - 0.5, -0.5]),
        hovermode="closest",
        height=90 + HEIGHT * len(rows),
    )
    alt = "AUC of each attack on records of the data set and on canaries. For the numbers see the tables."
    return {"group": "canaries", "alt": alt, "views": {"auc": figure(data, layout)}}


def _joined(rows: Sequence[CanaryRow]) -> dict[str, Any]:
    """Grey lines from each hollow mark to the filled one."""
    x: list[Any] = []
    y: list[Any] = []
    for i, row in enumerate(rows):
        if row.clean:
            x += [row.clean["value"], row.canary["value"], None]
            y += [i - BAND, i + BAND, None]
    return {
        "type": "scatter",
        "mode": "lines",
        "x": x,
        "y": y,
        "hoverinfo": "skip",
        "line": {"color": "#8a929c", "width": 1},
    }


def _marks(rows: Sequence[tuple[int, CanaryRow]], side: str, colour: str, symbol: str) -> dict[str, Any]:
    shown = [(i, getattr(row, side), row) for i, row in rows if getattr(row, side)]
    shift = -BAND if side == "clean" else BAND
    word = "data set" if side == "clean" else "canaries"
    return {
        "type": "scatter",
        "mode": "markers",
        "cliponaxis": False,
        "x": [numbers["value"] for _, numbers, _ in shown],
        "y": [i + shift for i, _, _ in shown],
        "error_x": bars([(n["value"], n["low"], n["high"]) for _, n, _ in shown]),
        "customdata": [plain(f"{row.recipe}, {row.attack}, {word}: {numbers['auc']}") for _, numbers, row in shown],
        "marker": {"color": colour, "size": 10, "symbol": symbol, "line": {"width": 2, "color": colour}},
        "hovertemplate": "%{customdata}<extra></extra>",
    }
