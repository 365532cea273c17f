"""What all figures share: Plotly's options, labels, legends, bare axes."""

from __future__ import annotations

import html
from typing import Any

import numpy as np

from attn.formatting import shown
from attn.show.scales import places, tick_label, ticks

CLEAR = "rgba(0,0,0,0)"


MONO = "ui-monospace, SFMono-Regular, Menlo, Consolas, monospace"


def config(figure: Any, name: str) -> dict[str, Any]:
    """Options of Plotly's own tools: few buttons, none but saving where nothing can be dragged.

    ``name`` of the file, without ending, that the figure is saved as.
    """
    buttons = [
        ["toImage"],
        *([["zoom2d", "pan2d", "resetScale2d"]] if figure.layout.dragmode else []),
    ]
    return {
        "displayModeBar": "hover",
        "displaylogo": False,
        "doubleClick": "reset",
        "modeBarButtons": buttons,
        "scrollZoom": False,
        "showTips": False,
        "toImageButtonOptions": {"format": "png", "filename": name, "scale": 2},
    }


def library() -> str:
    """The JavaScript that draws figures, for pages that bring it along: 4.8 MB."""
    from plotly.offline import get_plotlyjs

    script: str = get_plotlyjs()
    return script


def label(text: str, longest: int = 24, space: str = "·") -> str:
    """A token's text as Plotly may draw it: visible, short, and with no HTML left in it."""
    text = shown(text, space)
    text = text if len(text) <= longest else text[: longest - 1] + "…"
    return html.escape(text).replace("$", "&#36;")


def color_bar(scale: str | None = None, high: float = 1.0) -> dict[str, Any]:
    """The legend of a scale; that of shares runs over places, 0 to 1, and is labelled by them."""
    bar: dict[str, Any] = {"thickness": 10, "outlinewidth": 0}
    if scale is None:
        return bar
    kept = ticks(scale, high)
    text = [tick_label(tick, scale) for tick in kept]
    return bar | {"tickvals": places(np.array(kept), scale, high), "ticktext": text, "tickangle": 0}


def bare_axis() -> dict[str, Any]:
    """An axis without lines of any kind, which cannot be dragged."""
    return {"showgrid": False, "zeroline": False, "ticks": "", "fixedrange": True}
