"""Describe: what a language model says a head does, and whether to believe it."""

from __future__ import annotations

import streamlit as st

from attn.ui.describe import describe, language_model
from attn.ui.router import run_page
from attn.ui.sidebar import View
from attn.ui.state import MOST_SAMPLES

HELP = {
    "samples": "How many examples the prompt holds: the strongest pairs, one a document, some "
    "weaker ones, and some rows at rest.",
    "draw": "Another seed draws other weak examples and other marks.",
    "told": "Tell the model where the head's attention goes in numbers, too.",
    "prompt": "Examples are left out, whole, until the prompt fits.",
    "answer": "A longer answer is cut at its last whole sentence.",
    "brief": "Ask for one sentence instead of three paragraphs: all that a small model can do.",
    "questions": "Pairs that the head attends to. As many that it does not are asked about, too.",
}
CUSTOM = "Words of your own, added to the prompt"


def evidence(builtin: bool) -> bool:
    """The switches that decide what is sent; gives whether one sentence is asked for."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.number_input(
            "Examples", 1, MOST_SAMPLES, key="samples", width=110,
            persist_state="session", help=HELP["samples"],
        )  # fmt: skip
        st.number_input(
            "Seed", 0, 2**31, key="draw", width=110, persist_state="session", help=HELP["draw"]
        )
        for key, title, low, high, start in (
            ("prompt", "Longest prompt", 500, 200_000, 6000),
            ("answer", "Longest answer", 50, 20_000, 600),
        ):
            st.number_input(
                title, low, high, start, 100, key=f"_{key}_tokens", width=150,
                persist_state="session", help=HELP[key],
            )  # fmt: skip
        st.toggle("Tell the numbers", key="told", persist_state="session", help=HELP["told"])
        brief = st.toggle(
            "One sentence", builtin, key=f"_brief {builtin}", persist_state="session",
            help=HELP["brief"],
        )  # fmt: skip
    st.text_area(CUSTOM, key="_custom", height=70, persist_state="session")
    return brief


def body(view: View) -> None:
    """Numbers, language model, prompt, descriptions and their scores."""
    st.header(f"What does {view.head} do?", anchor=False)
    describe.summary(view)
    describe.rules_table(view)
    server = language_model.choose_server()
    st.subheader("Ask a language model", anchor=False)
    brief = evidence(language_model.serves_builtin(server))
    drafted = describe.prepare(view, brief)
    describe.preview(drafted)
    describe.describe_button(view, server, drafted)
    st.subheader("Descriptions and their scores", anchor=False)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.number_input(
            "Questions", 2, 500, 30, key="_questions", width=110,
            persist_state="session", help=HELP["questions"],
        )  # fmt: skip
        describe.cost_note(view)
    describe.running_test(view)
    describe.history(view, server)
    own = st.text_area("Or a description of your own", key="_own", persist_state="session")
    describe.trial_button(view, server, (own or "").strip(), None)
    describe.exchange(view)


run_page("describe", body)
