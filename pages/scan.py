"""Scan: run a model over a corpus, here and in the background, and get an index to look at."""

from __future__ import annotations

import streamlit as st

from attn.ui.router import run_text
from attn.ui.scan import form


def body() -> None:
    """The scan at work, then the controls of a new one, its estimate and its start."""
    st.header("Scan a corpus with a model", anchor=False)
    st.markdown(
        "Every page reads an *index*: what all heads of one model did on one corpus. A scan makes "
        "it. It runs on this server, goes on when you close this tab, and can be stopped and "
        "resumed."
    )
    if not form.allowed():
        return
    form.progress()
    form.start(form.form())


run_text(body)
