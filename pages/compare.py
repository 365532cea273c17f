"""Compare: two to four heads side by side."""

from __future__ import annotations

import streamlit as st

from attn.ui.compare import compare
from attn.ui.prompt.patterns import map_switches
from attn.ui.router import run_page
from attn.ui.sidebar import View


def body(view: View) -> None:
    """Which heads; their numbers; the same rows under each; their patterns on the user's text."""
    st.header("Heads side by side", anchor=False)
    sides = compare.choose(view)
    compare.numbers(sides)
    st.subheader("The same examples under each head", anchor=False)
    compare.examples(view, sides)
    st.subheader("On your text", anchor=False)
    text = st.text_area("Your text", key="text", height=90, persist_state="session")
    with st.container(horizontal=True, vertical_alignment="bottom"):
        map_switches()
    compare.patterns(view, sides, text)


run_page("compare", body)
