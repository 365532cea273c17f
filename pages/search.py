"""Search: which heads of the model look at a token, or make a pattern."""

from __future__ import annotations

import streamlit as st

from attn.ui.prompt.patterns import read_text
from attn.ui.router import run_page
from attn.ui.search import search
from attn.ui.sidebar import View
from attn.ui.state import FINDS

TITLES = {"token": "Look at a token", "pattern": "Make a pattern"}


def body(view: View) -> None:
    """The kind of question, the question, the heads."""
    st.header("Which heads …", anchor=False)
    kind = st.segmented_control(
        "Which heads",
        FINDS,
        key="find",
        format_func=TITLES.__getitem__,
        persist_state="session",
        label_visibility="collapsed",
        required=True,
    )
    if kind == "token":
        search.by_token(view)
        return
    text = st.text_area("Your text", key="text", height=90, persist_state="session")
    read = read_text(view.index, view.head, text)
    if read is not None:
        search.by_pattern(view, read)


run_page("search", body)
