"""Ways to the Why page: from an example, and from the pairs chosen on a text."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from attn.formatting import shown
from attn.heads import Example, Tokens
from attn.ui.notices import plain
from attn.ui.router import pages
from attn.ui.sidebar import View
from attn.ui.state import write_pairs
from attn.ui.why.asked import Look


def of_example(view: View, example: Example) -> None:
    """A button that asks why the head looks where an example shows it."""
    place = f"{example.document}-{example.start}"
    look = example.dst, example.src
    _button("Why?", f"why {place} {look}", place, look, "What made the head look there.")


def of_pairs(view: View, tokens: Tokens, pairs: Sequence[Look]) -> None:
    """A button for each chosen pair of the text."""
    if view.index.manifest.bidirectional:
        return
    with st.container(horizontal=True):
        for dst, src in pairs:
            to, of = (plain(shown(tokens.labels[i])) for i in (dst, src))
            help_text = f"What makes {view.head} look there, from token {dst} to {src}."
            _button(f"Why {to} → {of}?", f"why {dst} {src}", "", (dst, src), help_text)


def _button(label: str, key: str, document: str, look: Look, help_text: str) -> None:
    if st.button(
        label,
        key=key,
        type="tertiary",
        icon=":material/account_tree:",
        help=help_text,
        on_click=_ask,
        args=(document, look),
    ):
        st.switch_page(pages()["why"])


def _ask(document: str, look: Look) -> None:
    state = st.session_state
    state["document"], state["look"], state["trail"] = document, write_pairs([look]), ""
