"""Examples: where a head looks, ranked, reversed or at random. No torch until a row is opened."""

from __future__ import annotations

from typing import Any

import streamlit as st

from attn.ui import (
    BY,
    MOST_ROWS,
    ORDERS,
    View,
    ask,
    destination_filter,
    downloads,
    example_card,
    headline,
    nothing,
    ranking_table,
    run_page,
    show_legend,
    token_picker,
)

HELP = {
    "order": "Ranked: the strongest pairs first. Reversed: those nearest above average first. "
    "Random: drawn evenly from all pairs above average.",
    "token": "The exact text of the source token, a space before it written as · or a space.",
    "by": "Multiple: attention times how many sources the row sees. Attention: the plain share. "
    "Write: attention times the length of what the source's value writes.",
    "to": "The exact text of the destination token. Looks among the examples that the index keeps.",
    "regex": "Both token filters are regular expressions, found anywhere in a token.",
    "one": "Only the best pair of each document, so that one text cannot fill the list.",
    "seed": "Another seed draws other examples; the same one the same.",
}


def controls(view: View) -> None:
    """The switches; each keeps its value in the URL."""
    keep: dict[str, Any] = {"persist_state": "session"}
    with st.container(horizontal=True, vertical_alignment="bottom"):
        order = st.segmented_control(
            "Order", ORDERS, key="order", required=True, help=HELP["order"],
            format_func=str.capitalize, **keep,
        )  # fmt: skip
        token_picker(view.index, view.head, HELP["token"])
        destination_filter(HELP["to"], HELP["regex"])
        st.number_input("Rows", 1, MOST_ROWS, key="rows", width=100, **keep)
        if order == "random":
            st.number_input("Seed", 0, 2**31, key="seed", width=110, help=HELP["seed"], **keep)
            return
        if order == "ranked":
            scores = BY if view.index.manifest.write else BY[:2]
            st.segmented_control(
                "By", scores, key="by", required=True, help=HELP["by"],
                format_func=str.capitalize, **keep,
            )  # fmt: skip
        st.toggle("One per document", key="one", help=HELP["one"], **keep)


def body(view: View) -> None:
    """Switches, how many of how many, legend, rows."""
    st.header(f"Examples of {view.head}", anchor=False)
    controls(view)
    ranking = ask(view.index, view.head)
    if not ranking.examples:
        nothing(view.index, view.head, ranking)
        return
    st.markdown(headline(ranking))
    show_legend()
    for rank, example in enumerate(ranking.examples, 1):
        example_card(view, example, rank)
    name = f"{view.index.name}.{view.head}"
    downloads.buttons("These rows", name, lambda: ranking_table(ranking))


run_page("examples", body)
