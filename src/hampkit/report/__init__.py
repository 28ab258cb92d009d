"""Results as an HTML page, Markdown and CSV. Statistics are computed elsewhere."""

from __future__ import annotations

from hampkit.judging.results.wording import named, percent, sampling, verdict_lines
from hampkit.report.comparison import (
    CANARY_COLUMNS,
    COLUMNS,
    about,
    canary_lines,
    canary_rows,
    comparison_rows,
    paper_layout,
    render_comparison_html,
    render_comparison_markdown,
)
from hampkit.report.html import render_html
from hampkit.report.markdown import render_markdown
from hampkit.report.schema import RESULTS_SCHEMA, load_schema
from hampkit.report.table_csv import render_csv

__all__ = [
    "CANARY_COLUMNS",
    "COLUMNS",
    "RESULTS_SCHEMA",
    "about",
    "canary_lines",
    "canary_rows",
    "comparison_rows",
    "load_schema",
    "named",
    "paper_layout",
    "percent",
    "render_comparison_html",
    "render_comparison_markdown",
    "render_csv",
    "render_html",
    "render_markdown",
    "sampling",
    "verdict_lines",
]
