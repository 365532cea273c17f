"""What every word and number of the app means: the texts of the Methods page."""

from __future__ import annotations

import streamlit as st

from attn.metrics import METRICS
from attn.ui import circuits, describing, searching
from attn.words import WORDS

MEANS = (
    "Each is a mean over the rows counted, those from `min_row` on, unless it is of the weights."
)

METRIC = "| **{m.title}** `{m.name}` | `{formula}` ({m.unit}). {m.text} {m.warning} |"

LIMITS = """
- Attention says where a head reads, not what it moves: a cell of 0.9 can carry next to nothing.
- A high metric is a habit on this corpus, not a purpose. Names such as "induction head" need tests
  of their own: ablation, or patching.
- Heads rest on the first position. A high attention there says that the head had nothing to do.
- Ranked examples are the extreme ones. Read random ones too before you say what a head does.
- Texts are cut at the scan's context length, so nothing further back is ever seen.
"""

NOTEBOOK = """
The notebook that this app grew from divided each row by `1 − a[first]`, or by a column's mean, to
take the first position out. A row that rests by 99.9 % then looks like the strongest of all, and a
perfectly uniform head shows a multiple of 29 on its last token. Here nothing is renormalised: the
resting mass stays where it is, a uniform head has a multiple of 1 everywhere, and rows at rest stay
at the bottom. Multiples are therefore lower than the notebook's, most of all for heads that rest.
"""

RANKINGS = """
- **Ranked**: the pairs with the highest multiple, or attention, in the whole corpus. Equal scores:
  the earlier document, destination and source first.
- **Reversed**: the pairs nearest above average, the lowest multiple over 1 first.
- **Random**: drawn evenly, without replacement, from all pairs above average; the seed decides.
- **One per document**: the best pair of each document.
- A **source token** filter by multiple is exact over the whole corpus: the index keeps the best
  pairs of every source token. Other filters look among the examples that it keeps, and say so.
- **Bands**: drawn evenly from the pairs whose attention is below 1/16, then 1/8, 1/4, 1/2 and 1.
- **Token tables** count every row of the corpus; the first position is left out of them.
"""

SECTIONS = (
    ("From the weights", circuits.METHODS),
    ("Rankings", RANKINGS),
    ("Searching for heads", searching.METHODS),
    ("How descriptions are scored", describing.METHODS),
    ("What attention does not show", LIMITS),
    ("Why the numbers differ from the notebook's", NOTEBOOK),
)


def show() -> None:
    """Words, metrics, then the sections."""
    st.subheader("Words", anchor="words")
    words = (f"| {word} | {meaning} |" for word, meaning in WORDS.items())
    st.markdown("| word | meaning |\n|---|---|\n" + "\n".join(words))
    st.subheader("Metrics", anchor="metrics")
    st.markdown(MEANS)
    rows = (METRIC.format(m=m, formula=m.formula.replace("|", "\\|")) for m in METRICS.values())
    st.markdown("| metric | of a row, and what that says |\n|---|---|\n" + "\n".join(rows))
    for title, text in SECTIONS:
        st.subheader(title, anchor=False)
        st.markdown(text)
