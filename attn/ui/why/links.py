"""Ways to the Why page: from an example, and from the pairs chosen on a text."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from attn.formatting import shown
from attn.heads import Example, Tokens
from attn.ui.notices import plain
from attn.ui.router import page_button
from attn.ui.sidebar import View
from attn.ui.state import write_pairs
from attn.ui.why.asked import Look


def of_example(example: Example) -> None:
    """A button that asks why the head looks where an example shows it."""
    place = f"{example.document}-{example.start}"
    _button("Why?", place, (example.dst, example.src), "What made the head look there.")


def of_pairs(view: View, tokens: Tokens, pairs: Sequence[Look]) -> None:
    """A button for each chosen pair of the text."""
    if view.index.manifest.bidirectional:
        return
    with st.container(horizontal=True):
        for dst, src in pairs:
            to, of = (plain(shown(tokens.labels[i])) for i in (dst, src))
            help_text = f"What makes {view.head} look there, from token {dst} to {src}."
            _button(f"Why {to} → {of}?", "", (dst, src), help_text)


def _button(label: str, document: str, look: Look, help_text: str) -> None:
    asked = write_pairs([look])
    key = f"why {document} {asked}"
    page_button("why", label, key, help_text, document=document, look=asked, trail="")
