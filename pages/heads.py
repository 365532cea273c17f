"""Heads: all heads of the model, by one metric or by several."""

from __future__ import annotations

import streamlit as st

from attn.ui import downloads
from attn.ui.heads import atlas, circuits, numbers
from attn.ui.notices import plain
from attn.ui.router import run_page
from attn.ui.sidebar import View


def body(view: View) -> None:
    """Map, scatter or list, best heads, and the numbers of the selected head."""
    atlas_view = atlas.with_effect(view)
    index = atlas_view.index
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
        meant = atlas.filters(index)
    st.caption(atlas.CAPTIONS[kind])
    st.markdown(numbers.explain(index.definition(name)))
    left, right = st.columns([3, 1], gap="medium")
    with left:
        if kind == "list":
            atlas.ranked(atlas_view, name, meant)
        else:
            atlas.draw(atlas_view, name, scatter, meant)
    with right:
        numbers.selected(view)
        atlas.best(atlas_view, name, meant)
    downloads.buttons("All metrics", f"{index.name}.heads", lambda: atlas.table(index))
    numbers.numbers(view)
    circuits.weights(view)
    atlas.similar_heads(view)


run_page("heads", body)
