"""The tour of a first visit: a card in the corner that follows the user until it is dismissed.

The browser remembers the step, and that the tour is over; the server knows nothing of it.
"""

from __future__ import annotations

from pathlib import Path

import streamlit as st

_FOLDER = Path(__file__).parent
_HTML = """<aside class="tour" aria-label="Tour" hidden>
<div class="top"><b></b><button type="button" class="end" aria-label="End the tour">✕</button></div>
<p aria-live="polite"></p>
<div class="bar">
<button type="button" class="back">Back</button><span></span>
<button type="button" class="next">Next</button>
</div>
</aside>"""

STEPS = (
    (
        "heads",
        "Every head on one map",
        "A transformer looks back at its own text with attention heads. Each cell here is one head "
        "of the model, layers down. A bright cell has much of the metric chosen above. Click one.",
    ),
    (
        "heads",
        "What one head does, in numbers",
        "Below the map is where the selected head's attention goes. The first position is where "
        "heads rest when they have nothing to do: a large part of it is normal.",
    ),
    (
        "examples",
        "Read what it looks at",
        "Each row is a text: the head looks from the underlined token at the framed one. 60× is "
        "sixty times the row's average. Try Random, too: the top rows are the extreme ones.",
    ),
    (
        "prompt",
        "Try a text of your own",
        "On Prompt, point at a token to see where it looks, and click to hold it. A second click "
        "on an earlier token asks which heads of the model join the two.",
    ),
    (
        "search",
        "Which head does this?",
        "Search ranks all heads: by a token that they look at, by a pattern like induction, or by "
        "cells that you draw.",
    ),
    (
        "describe",
        "Let a language model say it",
        "Describe asks a language model what the head looks for, and tests the answer on texts "
        "that the model has not seen. Believe the score, not the sentence.",
    ),
    (
        "",
        "Show it to somebody",
        "The address always says all that you see: Copy link sends it. Methods defines every word "
        "and number.",
    ),
)

_tour = st.components.v2.component(
    "attn_tour",
    html=_HTML,
    css=(_FOLDER / "tour.css").read_text(encoding="utf-8"),
    js=(_FOLDER / "tour.js").read_text(encoding="utf-8"),
)


def again() -> None:
    """A button that starts the tour again."""
    st.button(
        "Tour",
        key="tour",
        icon=":material/tour:",
        type="tertiary",
        help="What there is to see, in two minutes.",
        on_click=_begin,
    )


def _begin() -> None:
    st.session_state["_tours"] = st.session_state.get("_tours", 0) + 1


def show(page: str, names: dict[str, str]) -> None:
    """Show the card while the tour is not over. It moves on to the step of the open page.

    ``names`` what the sidebar calls each page.
    """
    # A tuple, because Streamlit imports pandas to find out whether a list is a table.
    steps = tuple(
        {"page": of, "name": names.get(of, ""), "title": title, "text": text}
        for of, title, text in STEPS
    )
    begun = st.session_state.get("_tours", 0)
    _tour(key="tour_card", data={"steps": steps, "page": page, "begun": begun})
