"""Figures of all heads: the map by layer and head, the scatter of two metrics."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

import numpy as np

from attn.heads import HeadId
from attn.show.charts.colors import MAKO, MARK
from attn.show.charts.layout import CLEAR, bare_axis, color_bar
from attn.show.scales import places


def grid(
    values: np.ndarray,
    selected: HeadId,
    *,
    unit: str,
    low_high: tuple[float, float | None],
    highest: int = 960,
    labels: Sequence[str] | None = None,
) -> Any:
    """Layer × head heat map of one metric, with the selected head framed.

    ``values`` (layer, head) float; NaN leaves a cell empty. Clicks land on invisible squares, one a
    cell, whose customdata is (layer, head, value). ``unit`` labels the scale; ``low_high`` is the
    metric's range, as in :func:`attn.measure.metrics.metrics`: shares, 0 to 1, are drawn by their
    square root up to the highest; else the colours run evenly over the range, where an end of None
    is the values' own. ``highest`` pixels that the figure may take; ``labels`` a line of text for
    each head, layer by layer, shown where one points at it.

    >>> head = attn.HeadId.parse("L18H6")
    >>> figure = attn.charts.grid(
    ...     index.metric("induction"), head, unit="share of attention", low_high=(0, 1)
    ... )
    >>> figure.data[0].z.shape
    (30, 9)
    """
    import plotly.graph_objects as go

    values = np.asarray(values, np.float32)
    (n_layers, n_heads), n = values.shape, values.size
    finite = values[np.isfinite(values)]
    share = low_high == (0.0, 1.0)
    if low_high[1] is None:
        low = float(finite.min()) if finite.size else 0.0
        high = max(float(finite.max(initial=0.0)), low + 1e-6)
    else:
        low, high = low_high[0], low_high[1]
    if share:
        high = max(float(finite.max(initial=0.0)), 1e-6)
    scale = {"zmin": 0.0, "zmax": 1.0} if share else {"zmin": low, "zmax": high}
    bar = (color_bar("root", high) if share else color_bar()) | {
        "title": {"text": unit, "side": "right"}
    }
    layer, head = np.divmod(np.arange(values.size), n_heads)
    names = [str(HeadId(int(a), int(b))) for a, b in zip(layer, head, strict=True)]
    height = int(np.clip(18 * n_layers + 60, 240, highest))
    figure = go.Figure(
        go.Heatmap(
            z=places(values, "root", high).astype(np.float32) if share else values,
            colorscale=list(MAKO),
            xgap=1,
            ygap=1,
            hoverinfo="skip",
            colorbar=bar,
            **scale,
        )
    )
    hidden = {"marker": {"opacity": 0}}
    figure.add_scatter(
        x=head.astype(np.int16),
        y=layer.astype(np.int16),
        mode="markers",
        marker={"symbol": "square", "size": 16, "opacity": 0, "color": MARK},
        selected=hidden,
        unselected=hidden,
        text=names,
        customdata=np.stack([layer, head, values.reshape(-1)], axis=1).astype(np.float32),
        hovertemplate="%{text}: %{customdata[2]:.4f}%{hovertext}<extra></extra>",
        hovertext=[f"<br>{html.escape(one)}" if one else "" for one in labels or [""] * n],
        showlegend=False,
    )
    x, y = selected.head, selected.layer
    figure.add_shape(
        type="rect",
        x0=x - 0.5,
        x1=x + 0.5,
        y0=y - 0.5,
        y1=y + 0.5,
        line={"color": MARK, "width": 3},
    )
    figure.update_layout(
        height=height,
        margin={"l": 44, "r": 8, "t": 8, "b": 44},
        plot_bgcolor=CLEAR,
        hovermode="closest",
        hoverdistance=60,
        dragmode=False,
        clickmode="event+select",
    )
    figure.update_xaxes(
        title="head",
        dtick=max(1, -(-n_heads // 16)),
        range=[-0.5, n_heads - 0.5],
        automargin=False,
        **bare_axis(),
    )
    figure.update_yaxes(
        title="layer",
        dtick=max(1, -(-14 * n_layers // (height - 52))),
        range=[n_layers - 0.5, -0.5],
        automargin=False,
        **bare_axis(),
    )
    return figure


def scatter(
    values: tuple[np.ndarray, np.ndarray, np.ndarray],
    titles: tuple[str, str, str],
    selected: HeadId,
) -> Any:
    """Every head as a point, by two metrics, coloured by a third; the selected one is ringed.

    ``values`` (layer, head) float of x, y and colour; a head without one of them is left out;
    ``titles`` of the three. The customdata of a point is (layer, head, colour).

    >>> names = ("sink", "entropy", "induction")
    >>> values = tuple(index.metric(name) for name in names)
    >>> figure = attn.charts.scatter(values, names, attn.HeadId.parse("L18H6"))
    >>> figure.data[0].customdata.shape
    (270, 3)
    """
    import plotly.graph_objects as go

    x, y, colour = (np.asarray(one, np.float64).reshape(-1) for one in values)
    layer, head = np.divmod(np.arange(x.size), values[0].shape[1])
    names = np.array([str(HeadId(int(a), int(b))) for a, b in zip(layer, head, strict=True)])
    mine = (layer == selected.layer) & (head == selected.head)
    order = np.lexsort((colour, mine))  # the brightest above the others, the selected above all
    some = order[(np.isfinite(x) & np.isfinite(y) & np.isfinite(colour))[order]]
    figure = go.Figure(
        go.Scatter(
            x=x[some],
            y=y[some],
            mode="markers",
            marker={
                "size": np.where(mine, 16, 10)[some],
                "color": colour[some],
                "colorscale": list(MAKO),
                "colorbar": color_bar() | {"title": {"text": titles[2], "side": "right"}},
                "line": {
                    "width": np.where(mine, 3, 0.5)[some],
                    "color": np.where(mine, MARK, "#8a94a6")[some],
                },
            },
            selected={"marker": {"opacity": 1}},
            unselected={"marker": {"opacity": 1}},
            text=names[some],
            customdata=np.stack([layer, head, colour], 1)[some],
            hovertemplate=f"%{{text}}<br>{titles[0]} %{{x:.4f}}<br>{titles[1]} %{{y:.4f}}"
            f"<br>{titles[2]} %{{customdata[2]:.4f}}<extra></extra>",
            showlegend=False,
        )
    )
    figure.update_layout(
        height=560,
        margin={"l": 56, "r": 8, "t": 8, "b": 44},
        plot_bgcolor=CLEAR,
        hovermode="closest",
        dragmode=False,
        clickmode="event+select",
    )
    lines = {"gridcolor": "rgba(128,128,128,.2)", "zerolinecolor": "rgba(128,128,128,.4)"}
    figure.update_xaxes(title=titles[0], fixedrange=True, **lines)
    figure.update_yaxes(title=titles[1], fixedrange=True, **lines)
    return figure
