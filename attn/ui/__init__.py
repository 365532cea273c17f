"""Streamlit glue: what the pages are made of. Importing it loads neither torch nor Plotly."""

from __future__ import annotations

from attn.charts import shown
from attn.metrics import METRICS
from attn.ui.notices import plain
from attn.ui.numbers import explain, numbers
from attn.ui.patterns import all_heads, heat_map, read_text, rest_switch
from attn.ui.ranking import (
    ask,
    example_card,
    headline,
    meant,
    nothing,
    show_legend,
    tokens_of,
)
from attn.ui.router import run_app, run_page, run_text
from attn.ui.sidebar import View, select
from attn.ui.state import BY, LONGEST_TEXT, MOST_ROWS, ORDERS

__all__ = [
    "BY",
    "LONGEST_TEXT",
    "METRICS",
    "MOST_ROWS",
    "ORDERS",
    "View",
    "all_heads",
    "ask",
    "example_card",
    "explain",
    "headline",
    "heat_map",
    "meant",
    "nothing",
    "numbers",
    "plain",
    "read_text",
    "rest_switch",
    "run_app",
    "run_page",
    "run_text",
    "select",
    "show_legend",
    "shown",
    "tokens_of",
]
