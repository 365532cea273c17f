"""All heads of the model at once: as a map by one metric, or as points by two; and as a file."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import streamlit as st

from attn import charts
from attn.heads import HeadId
from attn.index import Index
from attn.metrics import METRICS
from attn.similar import similar
from attn.ui.sidebar import View, select
from attn.ui.state import VIEWS

SIMILAR = 6


def kind() -> str:
    """Map or scatter, by the user's choice."""
    chosen: str | None = st.segmented_control(
        "View", VIEWS, key="view", required=True, format_func=str.capitalize,
        persist_state="session",
    )  # fmt: skip
    return chosen or VIEWS[0]


def metric_picker(index: Index, title: str, key: str) -> str:
    """A choice of one of the index's metrics, kept in the URL."""
    chosen: str = st.selectbox(
        title, index.metric_names, key=key, format_func=lambda name: METRICS[name].title,
        persist_state="session", width=240,
    )  # fmt: skip
    return chosen


def draw(view: View, colour: str, scatter: tuple[str, str] | None) -> None:
    """The map, or the points by two more metrics. A click selects a head.

    Each click makes the next picture a new one, without a selection.
    """
    index, metric = view.index, METRICS[colour]
    values = index.metric(colour)
    if scatter is None:
        figure = charts.grid(values, view.head, unit=metric.unit, low_high=metric.low_high)
    else:
        x, y = scatter
        figure = charts.scatter(
            (index.metric(x), index.metric(y), values),
            (METRICS[x].title, METRICS[y].title, metric.title),
            view.head,
        )
    clicks = st.session_state.setdefault("_clicks", 0)
    key = f"grid {clicks}"
    st.plotly_chart(
        figure,
        key=key,
        on_select=_clicked(key, clicks, figure.data[-1].customdata),
        selection_mode="points",
        config=charts.config(),
    )


def _clicked(key: str, clicks: int, known: np.ndarray) -> Callable[[], None]:
    def select_head() -> None:
        points = st.session_state[key].selection.points
        if points:
            st.session_state["_clicks"] = clicks + 1
            layer, head = known[points[0]["point_index"]][:2]
            select(HeadId(int(layer), int(head)))

    return select_head


def table(index: Index) -> dict[str, list[float]]:
    """Column → values of all heads: layer, head, rows and pairs counted, then every metric."""
    heads = index.heads()
    counts = {
        "layer": [head.layer for head in heads],
        "head": [head.head for head in heads],
        "rows": [index.rows(head) for head in heads],
        "pairs": [index.pairs(head) for head in heads],
    }
    metrics = {name: index.metric(name).reshape(-1).tolist() for name in index.metric_names}
    return {**counts, **metrics}


def similar_heads(view: View) -> None:
    """The heads most like the selected one, as buttons."""
    found = similar(view.index, view.head, SIMILAR)
    if not found:
        return
    st.markdown(
        "**Similar heads**",
        help="By all metrics and by the tokens looked at; 0 is the same, two heads drawn at random "
        "are near 1.",
    )
    with st.grid(min_column_width=140, gap="xsmall"):
        for one in found:
            st.button(
                f"**{one.head}** {one.distance:.2f}",
                key=f"similar {one.head}",
                on_click=select,
                args=(one.head,),
                width="stretch",
                help=f"Metrics {one.metrics:.2f}, tokens {one.tokens:.2f}.",
            )
