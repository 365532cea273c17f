"""Methods: what every word and number of the app means."""

from __future__ import annotations

import streamlit as st

from attn.ui.methods import methods
from attn.ui.router import run_text


def body() -> None:
    """Words, metrics, rankings, scores, limits."""
    st.header("Methods", anchor=False)
    methods.show()


run_text(body)
