"""Bars either way: what each part adds to a number, or takes from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from attn.show.charts.colors import MAKO
from attn.show.charts.layout import CLEAR, label

LESS = "#d9744f"
"""The colour of what is taken away: told from the blues of what is added without colour vision."""


def contributions(names: Sequence[str], values: Sequence[float], unit: str = "nats") -> Any:
    """One bar a part, to the right where it adds and to the left where it takes away.

    ``names`` of the parts, the first on top; ``values`` in ``unit``.

    >>> figure = attn.charts.contributions(["L16H0", "MLP 3"], [1.25, -0.5])
    >>> list(figure.data[0].text)
    ['+1.25', '−0.50']
    """
    import plotly.graph_objects as go

    shown = [f"{value:+.2f}".replace("-", "−") for value in values]
    labels = [label(name, space=" ") for name in names]
    figure = go.Figure()
    figure.add_bar(
        x=list(values),
        y=list(range(len(names))),
        orientation="h",
        text=shown,
        textposition="outside",
        cliponaxis=False,
        marker={"color": [MAKO[3] if value >= 0 else LESS for value in values]},
        customdata=labels,
        hovertemplate="%{customdata}: %{text} " + unit + "<extra></extra>",
    )
    most = max((abs(value) for value in values), default=1.0) or 1.0
    low = min(0.0, *values) - 0.22 * most if values else -1.0
    high = max(0.0, *values) + 0.22 * most if values else 1.0
    figure.update_layout(
        height=60 + 24 * max(len(names), 1),
        margin={"l": 96, "r": 8, "t": 4, "b": 36},
        plot_bgcolor=CLEAR,
        dragmode=False,
        showlegend=False,
        bargap=0.28,
    )
    figure.update_xaxes(
        title=unit, range=[low, high], fixedrange=True, zeroline=True,
        zerolinecolor="rgba(128,128,128,.6)", gridcolor="rgba(128,128,128,.2)",
    )  # fmt: skip
    figure.update_yaxes(
        tickmode="array", tickvals=list(range(len(names))), ticktext=labels,
        autorange="reversed", fixedrange=True, title=None,
    )  # fmt: skip
    return figure
