"""The heat map of one head's pattern on one text."""

from __future__ import annotations

from typing import Any

import numpy as np

from attn.show.charts.colors import MAKO, MARK, stretched
from attn.show.charts.layout import CLEAR, MONO, bare_axis, color_bar, label
from attn.show.scales import SCALES


def pattern(
    attention: np.ndarray,
    visible: np.ndarray,
    texts: tuple[str, ...],
    *,
    mark: tuple[int, int] | None = None,
    hide_first: bool = False,
    bidirectional: bool = False,
    scale: str = "root",
    around: tuple[int, int] | None = None,
    highest: int = 800,
) -> Any:
    """Token × token heat map of one head on one text.

    ``attention`` (dst, src) float 0..1; ``visible`` (dst,) how many sources each row sees;
    ``mark`` a (dst, src) to frame; ``hide_first`` leaves the first source out and lets the colours
    run up to the strongest cell that is left; ``texts`` (position,) the tokens; ``bidirectional``
    where rows see later positions; ``scale`` one of :data:`attn.show.scales.SCALES`; ``around`` the
    first and the last position to show at first; ``highest`` pixels that the figure may take.
    Dragging zooms, a double click returns.

    >>> head, tokens = attn.HeadId.parse("L18H6"), model.encode("one two. one two. one two")
    >>> figure = attn.charts.pattern(
    ...     model.pattern(tokens.ids, head).numpy(),
    ...     model.visible(head.layer, len(tokens)).numpy(),
    ...     tokens.texts,
    ... )
    >>> figure.data[0].z.shape == (len(tokens), len(tokens))
    True
    """
    import plotly.graph_objects as go

    cells = np.array(attention, np.float32)  # (dst, src)
    n = len(cells)
    if not bidirectional:
        cells[np.triu_indices(n, 1)] = np.nan
    if hide_first:
        cells[:, 0] = np.nan
    multiple = cells * np.asarray(visible, np.float32)[:, None]
    finite = cells[np.isfinite(cells)]
    high = max(float(finite.max(initial=0.0)), 0.02) if hide_first else 1.0
    names = [f"{i} {label(text, 16)}" for i, text in enumerate(texts)]
    figure = go.Figure(
        go.Heatmap(
            z=cells,
            x=names,
            y=names,
            zmin=0.0,
            zmax=high,
            colorscale=stretched(scale, high),
            showscale=False,
            customdata=multiple[:, :, None],
            hovertemplate=(
                "looks from %{y}<br>at %{x}<br>attention %{z:.4f}"
                "<br>multiple %{customdata[0]:.2f}×<extra></extra>"
            ),
            hoverongaps=False,
        )
    )
    bar = {"orientation": "h", "x": 0.5, "y": 1, "yanchor": "bottom", "len": 0.9}
    title = {"text": f"attention, {SCALES[scale].lower()} scale", "side": "top"}
    figure.add_scatter(  # draws nothing but the legend: the colours at equal steps
        x=[None],
        y=[None],
        marker={
            "color": [0],
            "cmin": 0,
            "cmax": 1,
            "colorscale": list(MAKO),
            "colorbar": color_bar(scale, high) | bar | {"title": title},
        },
        hoverinfo="skip",
        showlegend=False,
    )
    first, last = around or (0, n - 1)
    if mark is not None:
        dst, src = mark
        half = max(0.5, (last + 1 - first) / 80)
        figure.add_shape(
            type="rect",
            x0=src - half,
            x1=src + half,
            y0=dst - half,
            y1=dst + half,
            line={"color": MARK, "width": 2.5},
        )
    figure.update_layout(
        height=int(np.clip(20 * (last + 1 - first) + 200, 380, highest)),
        margin={"l": 8, "r": 8, "t": 8, "b": 8},
        plot_bgcolor=CLEAR,
        dragmode="zoom",
    )
    axis = bare_axis() | {
        "type": "category",  # Plotly then leaves out the labels that have no room
        "tickfont": {"family": MONO, "size": 10},
        "automargin": True,
        "fixedrange": False,
        "constrain": "domain",
    }
    ends = (first - 0.5, last + 0.5)
    figure.update_xaxes(
        title={"text": "source: the token looked at", "standoff": 12},
        tickangle=-90,
        range=ends,
        **axis,
    )
    figure.update_yaxes(
        title="destination",
        range=ends[::-1],
        scaleanchor="x",  # cells are squares, also when zoomed
        constraintoward="top",
        **axis,
    )
    return figure
