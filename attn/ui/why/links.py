"""Ways to the Why page: from an example, and from the pairs chosen on a text."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from attn.formatting import shown
from attn.heads import Example, Tokens
from attn.ui.notices import plain
from attn.ui.router import page_link
from attn.ui.sidebar import View
from attn.ui.state import write_pairs


def of_example(view: View, example: Example) -> None:
    """A link that asks why the head looks where an example shows it."""
    page_link(
        view,
        "why",
        "Why?",
        document=f"{example.document}-{example.start}",
        look=write_pairs([(example.dst, example.src)]),
        trail="",
    )


def of_pairs(view: View, tokens: Tokens, pairs: Sequence[tuple[int, int]]) -> None:
    """A link for each chosen pair of the text."""
    if view.index.manifest.bidirectional:
        return
    with st.container(horizontal=True):
        for dst, src in pairs:
            names = (plain(shown(tokens.labels[i])) for i in (dst, src))
            page_link(
                view,
                "why",
                "Why {} → {}?".format(*names),
                document="",
                look=write_pairs([(dst, src)]),
                trail="",
            )
