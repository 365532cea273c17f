"""Streamlit glue: what the pages are made of. Importing it loads neither torch nor Plotly."""

from __future__ import annotations

from attn.metrics import METRICS
from attn.ui import (
    atlas,
    beside,
    circuits,
    comparing,
    describing,
    downloads,
    language,
    methods,
    ranking,
    scan_form,
    searching,
    shelf,
)
from attn.ui.notices import plain
from attn.ui.numbers import explain, numbers, selected
from attn.ui.patterns import all_heads, heat_map, map_switches, read_text, text_view
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
    "atlas",
    "beside",
    "circuits",
    "comparing",
    "describing",
    "downloads",
    "explain",
    "heat_map",
    "language",
    "map_switches",
    "methods",
    "numbers",
    "plain",
    "ranking",
    "read_text",
    "run_app",
    "run_page",
    "run_text",
    "scan_form",
    "searching",
    "select",
    "selected",
    "shelf",
    "text_view",
]
