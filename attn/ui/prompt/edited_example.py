"""An example's text edited on the Prompt page, its pattern beside the one it had."""

from __future__ import annotations

import streamlit as st

from attn.heads import Window
from attn.ui.notices import plain
from attn.ui.prompt.patterns import Read, heat_map, read_text
from attn.ui.router import page_button
from attn.ui.sidebar import View


def edit_button(window: Window, place: str) -> None:
    """A button that opens an example's text on the Prompt page, where it can be edited."""
    page_button(
        "prompt",
        "Edit",
        f"edit {place}",
        "Change the text on the Prompt page, and see the new pattern beside this one.",
        text=window.text,
        before=window.text,
        held="-1",
        pairs="",
    )


def show(view: View, read: Read) -> None:
    """Show the heat map of the text beside the one of the text before it was edited."""
    before = str(st.session_state["before"])
    st.subheader("As a heat map", anchor=False)
    if not before:
        heat_map(view.index, view.head, read.tokens.labels, read.layer)
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        unchanged = before == st.session_state["text"]
        st.caption(
            "Change the text above: its new pattern appears beside this one."
            if unchanged
            else "Left, the text as it was; right, as it is now."
        )
        st.button("Forget the text before", icon=":material/close:", on_click=_forget)
    old = read if unchanged else read_text(view.index, view.head, before)
    if unchanged or old is None:
        heat_map(view.index, view.head, read.tokens.labels, read.layer)
        return
    left, right = st.columns(2)
    with left:
        st.markdown(f"**Before**  \n{plain(_short(before))}")
        heat_map(view.index, view.head, old.tokens.labels, old.layer, key="heat_map_before")
    with right:
        st.markdown(f"**Now**  \n{plain(_short(st.session_state['text']))}")
        heat_map(view.index, view.head, read.tokens.labels, read.layer)


def _forget() -> None:
    st.session_state["before"] = ""


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 80 else line[:79] + "…"
