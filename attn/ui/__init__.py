"""Streamlit glue: what the pages are made of. Importing it loads neither torch nor Plotly."""

from __future__ import annotations

from attn.metrics import METRICS
from attn.ui import (
    atlas,
    circuits,
    comparing,
    describing,
    downloads,
    language,
    methods,
    scan_form,
    searching,
)
from attn.ui.notices import plain
from attn.ui.numbers import explain, numbers, selected
from attn.ui.patterns import all_heads, heat_map, read_text, rest_switch, text_view
from attn.ui.ranking import (
    ask,
    destination_filter,
    example_card,
    headline,
    nothing,
    show_legend,
    token_picker,
)
from attn.ui.ranking import table as ranking_table
from attn.ui.router import run_app, run_page, run_text
from attn.ui.sidebar import View, select
from attn.ui.state import BY, FINDS, LONGEST_TEXT, MOST_ROWS, MOST_SAMPLES, ORDERS

__all__ = [
    "BY",
    "FINDS",
    "LONGEST_TEXT",
    "METRICS",
    "MOST_ROWS",
    "MOST_SAMPLES",
    "ORDERS",
    "View",
    "all_heads",
    "ask",
    "atlas",
    "circuits",
    "comparing",
    "describing",
    "destination_filter",
    "downloads",
    "example_card",
    "explain",
    "headline",
    "heat_map",
    "language",
    "methods",
    "nothing",
    "numbers",
    "plain",
    "ranking_table",
    "read_text",
    "rest_switch",
    "run_app",
    "run_page",
    "run_text",
    "scan_form",
    "searching",
    "select",
    "selected",
    "show_legend",
    "text_view",
    "token_picker",
]
