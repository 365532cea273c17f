"""Domain → what a page draws: Plotly figures, and shades for small pictures. No Streamlit.

Plotly is imported when a figure is made, not before. Every label that comes from a text goes
through :func:`label`: Plotly reads some HTML in its labels.

One colour scale serves all: "mako" without its blackest tenth, which runs evenly in lightness from
dark violet through blue and teal to pale green, so it reads on light and dark pages and without
colour vision. Shares of attention lie on it as :mod:`attn.show.scales` says, by square root unless
a page says otherwise: 0.01 is a tenth of the scale, 0.25 half of it.
"""

from __future__ import annotations

from attn.show.charts.bars import budget, spectrum
from attn.show.charts.colors import MAKO, MARK, PARTS, icon, palette, shades
from attn.show.charts.heads import grid, scatter
from attn.show.charts.layout import config, label, library
from attn.show.charts.parts import contributions
from attn.show.charts.pattern import pattern

__all__ = [
    "MAKO", "MARK", "PARTS", "budget", "config", "contributions", "grid", "icon", "label",
    "library", "palette", "pattern", "scatter", "shades", "spectrum",
]  # fmt: skip
