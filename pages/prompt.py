"""Prompt: a head's attention on the user's own text."""

from __future__ import annotations

import streamlit as st

from attn.ui.prompt import edited_example, switch_off
from attn.ui.prompt.patterns import all_heads, map_switches, read_text, text_view
from attn.ui.router import run_page
from attn.ui.search import search
from attn.ui.sidebar import View
from attn.ui.state import LONGEST_TEXT
from attn.ui.why import links


def body(view: View) -> None:
    """The text, the selected head's heat map, all heads of its layer."""
    st.header(f"{view.head} on your text", anchor=False)
    text = st.text_area(
        "Your text",
        key="text",
        height=110,
        persist_state="session",
        help=f"Copy link takes the text along up to {LONGEST_TEXT:,} characters.",
    )
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.button("Show attention", type="primary", icon=":material/visibility:")
        map_switches()
    if len(text) > LONGEST_TEXT:
        st.caption(f"The text is over {LONGEST_TEXT:,} characters: a link leaves it out.")
    read = read_text(view.index, view.head, text)
    if read is None:
        return
    pairs = text_view(view.index, view.head, read)
    if pairs:
        links.of_pairs(view, read.tokens, pairs)
        search.by_pairs(view, read, pairs)
    switch_off.show(view, read, pairs)
    edited_example.show(view, read)
    st.subheader(f"All heads of layer {view.head.layer}", anchor=False)
    st.caption("Rows and columns as above. Click a head to select it.")
    all_heads(view.index, view.head, read.layer)


run_page("prompt", body)
