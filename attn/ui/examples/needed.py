"""The tokens whose prediction needs a head most, where that was measured."""

from __future__ import annotations

import streamlit as st

from attn.index.effects import Needed
from attn.show.token_html import STYLE, needed_head, needed_text
from attn.ui import downloads
from attn.ui.examples.ranking import pager
from attn.ui.heads.effects import missing, told
from attn.ui.library import effects_of
from attn.ui.notices import sentence
from attn.ui.sidebar import View


def title(order: str) -> str:
    """What an order of examples is called."""
    return "Most needed" if order == "needed" else order.capitalize()


def show(view: View) -> None:
    """Show the tokens with the largest rise of the loss, or how to measure that."""
    effects, state = effects_of(view.index), st.session_state
    if effects is None or not effects.is_exact(view.head):
        st.info(sentence(missing(view, exact=True)), icon=":material/search_off:")
        return
    found = effects.needed(view.head)
    first = int(state["first"]) - 1
    rows = found[first : first + int(state["rows"])]
    st.markdown(sentence(told(effects, view.head)))
    if not found:
        st.info("Every token is predicted as well without it.", icon=":material/search_off:")
        return
    st.html(STYLE)
    st.caption(
        f"The underlined token is predicted from what stands before it. Without {view.head} its "
        "loss, how surprised the model is, is higher by the number in bold."
    )
    for rank, needed in enumerate(rows, first + 1):
        window = view.index.window(needed.document, needed.start)
        with st.container(border=True, gap="xsmall"):
            st.html(needed_head(needed, window, rank))
            st.html(needed_text(needed, window))
    pager(len(found))
    name = f"{view.index.name}.{view.head}.needed"
    downloads.buttons("These rows", name, lambda: _table(view, rows))


def _table(view: View, rows: list[Needed]) -> dict[str, list[object]]:
    """Column → values of the rows shown."""
    texts = [view.index.window(one.document, one.start).labels[one.position] for one in rows]
    return {
        "document": [one.document for one in rows],
        "start": [one.start for one in rows],
        "position": [one.position for one in rows],
        "token": [*texts],
        "loss": [one.loss for one in rows],
        "change": [one.change for one in rows],
    }
