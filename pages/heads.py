"""Heads: all heads of the model, coloured by a chosen metric."""

from __future__ import annotations

import streamlit as st

from attn import charts
from attn.heads import HeadId
from attn.ui import METRICS, View, best_heads, explain, numbers, plain, run_page, select, selected

BEST = 10


def body(view: View) -> None:
    """Map, best heads, and the numbers of the selected head."""
    index = view.index
    st.header(f"Heads of {plain(index.manifest.model)}", anchor=False)
    st.caption("Each cell is one head: layers down, heads across. Click one to select it.")
    name = st.selectbox(
        "Colour by",
        index.metric_names,
        key="metric",
        format_func=lambda name: METRICS[name].title,
        persist_state="session",
        width=320,
    )
    st.markdown(explain(METRICS[name]))
    left, right = st.columns([3, 1], gap="medium")
    with left:
        grid(view, name)
    with right:
        selected(view)
        best(view, name)
    numbers(view)


def grid(view: View, name: str) -> None:
    """The map. A click selects a head; each makes the next map a new one, without a selection."""
    clicks = st.session_state.setdefault("_clicks", 0)
    key = f"grid {clicks}"

    def clicked() -> None:
        points = st.session_state[key].selection.points
        if points:
            st.session_state["_clicks"] = clicks + 1
            select(HeadId(int(points[0]["y"]), int(points[0]["x"])))

    metric = METRICS[name]
    figure = charts.grid(
        view.index.metric(name), view.head, unit=metric.unit, low_high=metric.low_high
    )
    st.plotly_chart(
        figure, key=key, on_select=clicked, selection_mode="points", config=charts.config()
    )


def best(view: View, name: str) -> None:
    """The ten heads with the highest value, or the lowest."""
    lowest = bool(st.session_state["lowest"])
    found = best_heads(view.index, name, BEST, lowest=lowest)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"**{'Lowest' if lowest else 'Highest'} {len(found)}**", width="content")
        st.toggle("Lowest", key="lowest", persist_state="session")
    with st.grid(min_column_width=110, gap="xsmall"):
        for head, value in found:
            text = f"**{head}** {value:.3f}"
            st.button(text, key=f"best {head}", on_click=select, args=(head,), width="stretch")


run_page("heads", body)
