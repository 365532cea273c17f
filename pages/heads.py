"""Heads: all heads of the model, coloured by a chosen metric."""

from __future__ import annotations

import numpy as np
import streamlit as st

from attn import charts
from attn.heads import HeadId
from attn.ui import METRICS, View, explain, numbers, plain, run_page, select

BEST = 10


def body(view: View) -> None:
    """Map, best heads, and the numbers of the selected head."""
    index = view.index
    st.header(f"Heads of {plain(index.manifest.model)}", anchor=False)
    st.caption("Each cell is one head: layers down, heads across. Click one to select it.")
    with st.container(horizontal=True, vertical_alignment="bottom"):
        name = st.selectbox(
            "Colour by",
            index.metric_names,
            key="metric",
            format_func=lambda name: METRICS[name].title,
            persist_state="session",
            width=320,
        )
        st.toggle("Lowest first", key="lowest", persist_state="session")
    metric, values = METRICS[name], index.metric(name)
    st.markdown(explain(metric))
    left, right = st.columns([3, 1], gap="medium")
    with left:
        grid(view, values, metric.unit, metric.low_high)
    with right:
        best(values)
    numbers(view)


def grid(view: View, values: np.ndarray, unit: str, low_high: tuple[float, float | None]) -> None:
    """The map. A click selects a head; the key changes with it, so that any cell can be next."""
    key = f"grid {view.head}"

    def clicked() -> None:
        points = st.session_state[key].selection.points
        if points:
            select(HeadId(int(points[0]["y"]), int(points[0]["x"])))

    figure = charts.grid(values, view.head, unit=unit, low_high=low_high)
    st.plotly_chart(
        figure, key=key, on_select=clicked, selection_mode="points", config=charts.config()
    )


def best(values: np.ndarray) -> None:
    """The ten heads with the highest value, or the lowest."""
    lowest = bool(st.session_state["lowest"])
    st.markdown(f"**{'Lowest' if lowest else 'Highest'} {min(BEST, values.size)}**")
    order = np.argsort(values if lowest else -values, axis=None, kind="stable")[:BEST]
    with st.grid(min_column_width=110, gap="xsmall"):
        for place in order:
            head = HeadId(*divmod(int(place), values.shape[1]))
            text = f"**{head}** {float(values[head.layer, head.head]):.3f}"
            st.button(text, key=f"best {head}", on_click=select, args=(head,), width="stretch")


run_page("heads", body)
