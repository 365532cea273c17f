"""Examples: where a head looks, ranked, at random or by band. No torch until a row is opened."""

from __future__ import annotations

from typing import Any

import streamlit as st

from attn.heads import Example, Window
from attn.ui import downloads
from attn.ui.examples import needed, ranking, shelf
from attn.ui.prompt import edited_example
from attn.ui.router import run_page
from attn.ui.sidebar import View
from attn.ui.state import BY, MOST_ROWS, ORDERS
from attn.ui.why import links

HELP = {
    "order": "Ranked: the strongest pairs first. Reversed: those nearest above average first. "
    "Random: drawn evenly from all pairs above average. Banded: drawn evenly from each band of "
    "attention, from a sixteenth up to all. Most needed: the tokens that the model predicts worse "
    "without this head, the worst first.",
    "token": "The exact text of the source token, a space before it written as · or a space.",
    "by": "Multiple: attention times how many sources the row sees. Attention: the plain share. "
    "Write: attention times the length of what the source's value writes.",
    "to": "The exact text of the destination token. Looks among the examples that the index keeps.",
    "apart": "How many tokens the destination stands after its source: a number, or 1:5, 10:, :3.",
    "regex": "Both token filters are regular expressions, found anywhere in a token.",
    "one": "Only the best pair of each document, so that one text cannot fill the list.",
    "rows": "Rows on a page; of bands, rows in each.",
    "seed": "Another seed draws other examples; the same one the same.",
}


def controls(view: View) -> str:
    """The switches; each keeps its value in the URL → the order."""
    keep: dict[str, Any] = {"persist_state": "session"}
    with st.container(horizontal=True, vertical_alignment="bottom"):
        order: str = st.segmented_control(
            "Order", ORDERS, key="order", required=True, help=HELP["order"],
            format_func=needed.title, **keep,
        )  # fmt: skip
        st.number_input("Rows", 1, MOST_ROWS, key="rows", width=100, help=HELP["rows"], **keep)
        if order == "needed":
            return order
        ranking.token_picker(view.index, view.head, HELP["token"])
        ranking.other_filters(HELP)
        if order in ("random", "banded"):
            st.number_input("Seed", 0, 2**31, key="seed", width=110, help=HELP["seed"], **keep)
            return order
        if order == "ranked":
            scores = BY if view.index.manifest.write else BY[:2]
            st.segmented_control(
                "By", scores, key="by", required=True, help=HELP["by"],
                format_func=str.capitalize, **keep,
            )  # fmt: skip
        st.toggle("One per document", key="one", help=HELP["one"], **keep)
    return order


def body(view: View) -> None:
    """Switches, how many of how many, legend, rows, the shelf."""
    st.header(f"Examples of {view.head}", anchor=False)
    order = controls(view)
    ranking.bad_distance()

    def buttons(example: Example, window: Window) -> None:
        shelf.pin_button(view, example)
        edited_example.edit_button(window, ranking.place_of(example))
        links.of_example(example)

    if order == "needed":
        needed.show(view)
    elif shown := (ranking.show_bands if order == "banded" else ranking.show)(view, buttons):
        name = f"{view.index.name}.{view.head}"
        downloads.buttons("These rows", name, lambda: ranking.table(shown))
    shelf.show(view)


run_page("examples", body)
