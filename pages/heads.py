"""Heads: all heads of the model, by one metric or by several."""

from __future__ import annotations

import streamlit as st

from attn.ui import (
    METRICS,
    View,
    atlas,
    best_heads,
    circuits,
    downloads,
    explain,
    numbers,
    plain,
    run_page,
    select,
    selected,
)

BEST = 10


def body(view: View) -> None:
    """Map or scatter, best heads, and the numbers of the selected head."""
    index = view.index
    st.header(f"Heads of {plain(index.manifest.model)}", anchor=False)
    scatter = None
    with st.container(horizontal=True, vertical_alignment="bottom"):
        kind = atlas.kind()
        name = atlas.metric_picker(index, "Colour by", "metric")
        if kind == "scatter":
            scatter = (
                atlas.metric_picker(index, "Across", "x"),
                atlas.metric_picker(index, "Up", "y"),
            )
    st.caption(
        "Each cell is one head: layers down, heads across. Click one to select it."
        if scatter is None
        else "Each point is one head. Click one to select it."
    )
    st.markdown(explain(METRICS[name]))
    left, right = st.columns([3, 1], gap="medium")
    with left:
        atlas.draw(view, name, scatter)
    with right:
        selected(view)
        best(view, name)
    downloads.buttons("All metrics", f"{index.name}.heads", lambda: atlas.table(index))
    numbers(view)
    circuits.weights(view)
    atlas.similar_heads(view)


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
