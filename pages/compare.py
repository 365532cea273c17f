"""Compare: two to four heads side by side."""

from __future__ import annotations

import streamlit as st

from attn.ui import View, comparing, map_switches, run_page


def body(view: View) -> None:
    """Which heads; their numbers; the same rows under each; their patterns on the user's text."""
    st.header("Heads side by side", anchor=False)
    sides = comparing.choose(view)
    comparing.numbers(sides)
    st.subheader("The same examples under each head", anchor=False)
    comparing.examples(view, sides)
    st.subheader("On your text", anchor=False)
    text = st.text_area("Your text", key="text", height=90, persist_state="session")
    with st.container(horizontal=True, vertical_alignment="bottom"):
        map_switches()
    comparing.patterns(view, sides, text)


run_page("compare", body)
