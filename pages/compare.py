"""Compare: two to four heads side by side."""

from __future__ import annotations

import streamlit as st

from attn.ui import View, comparing, map_switches, run_page


def body(view: View) -> None:
    """Which heads; their numbers; their patterns on the user's text."""
    st.header("Heads side by side", anchor=False)
    heads = comparing.choose(view)
    comparing.numbers(view, heads)
    st.subheader("On your text", anchor=False)
    text = st.text_area("Your text", key="text", height=90, persist_state="session")
    with st.container(horizontal=True, vertical_alignment="bottom"):
        map_switches()
    comparing.patterns(view, heads, text)


run_page("compare", body)
