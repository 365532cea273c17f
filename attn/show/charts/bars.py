"""Figures of one head or a few: the budget as bars, singular values as lines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from attn.show.charts.colors import MAKO, MARK, PARTS
from attn.show.charts.layout import CLEAR


def budget(heads: Mapping[str, Mapping[str, float]], titles: Mapping[str, str]) -> Any:
    """One bar a head, which is its whole attention, cut into its parts; ``titles`` name them.

    ``heads`` a head's name → name → share, 0..1, adding to 1; one head alone is not named.

    >>> parts = index.budget(attn.HeadId.parse("L18H6"))
    >>> figure = attn.charts.budget({"L18H6": parts}, {name: name for name in parts})
    >>> [bar.name for bar in figure.data] == list(parts)
    True
    """
    import plotly.graph_objects as go

    figure = go.Figure()
    for i, (name, title) in enumerate(titles.items()):
        if not any(name in parts for parts in heads.values()):
            continue
        shares = [parts.get(name, 0.0) for parts in heads.values()]
        figure.add_bar(
            x=shares,
            y=list(heads) if len(heads) > 1 else [""],
            orientation="h",
            name=title,
            text=[f"{100 * share:.0f} %" if share >= 0.06 else "" for share in shares],
            textposition="inside",
            insidetextanchor="middle",
            insidetextfont={"color": "#0b1013"},
            marker={"color": PARTS[i % len(PARTS)], "line": {"width": 0}},
            hovertemplate=f"{title}: %{{x:.2%}}<extra></extra>",
        )
    figure.update_layout(
        barmode="stack",
        height=84 + 44 * len(heads),
        margin={"l": 0, "r": 0, "t": 4, "b": 80},  # four lines of legend, where it is narrow
        plot_bgcolor=CLEAR,
        dragmode=False,
        legend={
            "orientation": "h",
            "y": 0,
            "yanchor": "top",
            "traceorder": "normal",
            "maxheight": 1,
        },
    )
    figure.update_xaxes(range=[0, 1], visible=False, fixedrange=True)
    figure.update_yaxes(visible=len(heads) > 1, fixedrange=True, autorange="reversed", title=None)
    return figure


def spectrum(values: Mapping[str, np.ndarray]) -> Any:
    """The singular values of a head's circuits, one line a circuit, falling.

    ``values`` a circuit's name → (d_head,) singular values.

    >>> found = index.singular_values(attn.HeadId.parse("L18H6"))
    >>> figure = attn.charts.spectrum(found)
    >>> [len(line.y) for line in figure.data]
    [64, 64]
    """
    import plotly.graph_objects as go

    figure = go.Figure()
    for (name, singular), colour, dash in zip(
        values.items(), (MAKO[3], MARK), ("solid", "dot"), strict=False
    ):
        figure.add_scatter(
            x=np.arange(1, len(singular) + 1),
            y=np.asarray(singular, np.float32),
            name=name,
            mode="lines",
            line={"color": colour, "width": 2.5, "dash": dash},
            hovertemplate=f"{name}: number %{{x}}, %{{y:.3f}}<extra></extra>",
        )
    figure.update_layout(
        height=260,
        margin={"l": 56, "r": 8, "t": 8, "b": 44},
        plot_bgcolor=CLEAR,
        dragmode=False,
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"},
    )
    lines = {"gridcolor": "rgba(128,128,128,.2)", "fixedrange": True}
    figure.update_xaxes(title="direction, the largest first", **lines)
    figure.update_yaxes(title="singular value", rangemode="tozero", **lines)
    return figure
