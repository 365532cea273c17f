"""Which head does this? The questions of the Search page, and their answers as a map."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import streamlit as st

from attn.analyse import search
from attn.analyse.search import CellsAnswer, TokenAnswer
from attn.formatting import shown
from attn.heads import HeadId, Tokens
from attn.index.index import Index
from attn.show import charts
from attn.ui import downloads
from attn.ui.examples.ranking import example_row, show_legend
from attn.ui.library import find_heads
from attn.ui.notices import plain
from attn.ui.prompt.patterns import Read, in_text
from attn.ui.router import page_button
from attn.ui.search.board import board
from attn.ui.sidebar import View, select
from attn.ui.state import BY_HAND, LONGEST_TEXT, PATTERNS, read_pairs

BEST = 20
EXAMPLES = 3
METHODS = """
- **By token**: the attention that a head gave the token over the whole corpus, the first position
  left out, over what a head that spreads every row evenly would have given it: the *lift*. Heads
  that gave it less than one row's worth in all are left out.
- **By pattern** and **by pair**: over the rows of the text that have such a pair, the mean share of
  attention on those pairs, and the *multiple*: that attention over the mean of (such pairs) ÷
  visible, which the command line calls lift. For one pair they are the pair's own. One text is one
  text: try another before you name a head.
- **Similar heads** (Heads page): half the root mean square of the differences of the metrics that
  both have, in standard deviations over all heads over √2, and half the share of attention that
  would have to move from token to token; 0 is the same, two heads drawn at random are near 1 in the
  first.
- **Compare**: the correlation of two heads is Pearson's, over the pairs of the text that a row
  sees, without the first source and the first row; the pairs that differ most are those whose
  attention is furthest apart between any two of the heads.
- **Opening bracket**: the innermost bracket still open at the destination. **Start of the
  sentence**: its first token; a sentence ends at a full stop, an exclamation or question mark, or a
  line end.
"""
_RANKS = {"attention": "share", "multiple": "lift", "write": "write"}
HELP = {
    "looks": "A token as it stands in texts: most begin with a space.",
    "expr": "Every token in which the expression finds something, like not|n't|never.",
    "pattern": "The pairs of the text that the head should put its attention on: a template, or "
    "what you draw below.",
}


def by_token(view: View) -> None:
    """Find heads by token. The answer is exact over the index's corpus and needs no model."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        text = st.text_input(
            "Token", key="looks", width=260, persist_state="session", help=HELP["looks"]
        )
        regex = st.toggle("Expression", key="expr", persist_state="session", help=HELP["expr"])
    if not text:
        st.info("Write a token above, like ‘ not’ with its space.", icon=":material/edit_note:")
        return
    index = view.index
    found = _by_token(index.path, index.manifest.identity, text, regex, index)
    if not found:
        st.info("No head gave these tokens the attention of a whole row: too little to rank by.")
        return
    st.caption(
        "Lift: the attention that the head gave the token over what a head that looks evenly would "
        "have given it, over the whole corpus. An empty cell: less than one row's worth in all."
    )
    _answers(view, found, "lift", "lift")
    _best_examples(view, text, regex)


def _best_examples(view: View, text: str, regex: bool) -> None:
    """The selected head's best pairs with the tokens asked for, one of a document."""
    index, head = view.index, view.head
    ranking = index.top(head, EXAMPLES, token=text, regex=regex, one_per_document=True)
    st.subheader(f"Where {head} looks at it", anchor=False)
    if not ranking.examples:
        st.info("This head has no such pair above average.", icon=":material/search_off:")
        return
    show_legend()
    for rank, example in enumerate(ranking.examples, 1):
        with st.container(border=True, gap="xsmall"):
            example_row(index, example, index.window(example.document, example.start), rank)
    more = {"token": text, "regex": str(int(regex))}
    page_button("examples", "See more of them", "more", **more)


@st.cache_data(max_entries=64, show_spinner=False)
def _by_token(
    path: Path, identity: str, text: str, regex: bool, _index: Index
) -> list[TokenAnswer]:
    return search.by_token(_index, text, regex=regex)


def by_pattern(view: View, read: Read) -> None:
    """Find heads by a template on the user's text, or by cells drawn by hand."""
    name = st.selectbox(
        "Pattern",
        PATTERNS,
        key="pattern",
        format_func=str.capitalize,
        persist_state="session",
        width=260,
        help=HELP["pattern"],
    )
    n, two_way = len(read.tokens), view.index.manifest.bidirectional
    if name == BY_HAND:
        cells = np.zeros((n, n), bool)
        for dst, src in in_text(read_pairs(st.session_state["cells"]), n, two_way):
            cells[dst, src] = True
    else:
        cells = search.template(name, read.tokens)
    board(
        read.tokens.labels,
        read.layer.patterns[view.head.head],
        cells,
        bidirectional=two_way,
        on_draw=_drawn,
    )
    if name == BY_HAND and not cells.any():
        st.info("Draw the cells that the head should attend to.", icon=":material/draw:")
        return
    if len(st.session_state["cells"]) > LONGEST_TEXT and name == BY_HAND:
        st.caption("These are more cells than a link can carry.")
    _on_cells(view, read, cells)


def _drawn(cells: str) -> None:
    """Find heads by what is on the board now, which is no longer a template."""
    st.session_state["cells"], st.session_state["pattern"] = cells, BY_HAND


def by_pairs(view: View, read: Read, pairs: list[tuple[int, int]]) -> None:
    """Find the heads that connect the pairs chosen on the Prompt page."""
    st.subheader("Which heads join them", anchor=False)
    cells = np.logical_or.reduce([search.pair(read.tokens, dst, src) for dst, src in pairs])
    st.button("Let go of the pairs", icon=":material/close:", on_click=_no_pairs)
    _on_cells(view, read, cells)


def _no_pairs() -> None:
    st.session_state["pairs"] = ""


def _on_cells(view: View, read: Read, cells: np.ndarray) -> None:
    answers = find_heads(view.index.manifest, read.tokens, cells)
    rows = int(cells.any(1).sum())
    pairs = int(cells.sum())
    what = "one pair" if pairs == 1 else f"{pairs:,} pairs in {rows:,} rows"
    st.caption(
        f"Attention: what the head puts on {what}, a row. Multiple: that over what a head that "
        "looks evenly would put there. Write: that attention by the length of what the sources' "
        "values write."
    )
    rank = st.segmented_control(
        "Rank by", list(_RANKS), key="rank", required=True, format_func=str.capitalize,
        persist_state="session",
    )  # fmt: skip
    by = _RANKS[rank or "attention"]
    ordered = sorted(answers, key=lambda one: (-getattr(one, by), one.head))
    _answers(view, ordered, by, rank or "attention")
    _marked(read.tokens, cells)


def _answers(view: View, found: Sequence[TokenAnswer | CellsAnswer], by: str, unit: str) -> None:
    """The answers as a map of all heads, and the best as buttons; a click selects a head."""
    manifest = view.index.manifest
    values = np.full((manifest.n_layers, manifest.n_heads), np.nan)
    for one in found:
        values[one.head.layer, one.head.head] = getattr(one, by)
    left, right = st.columns([2, 1], gap="medium")
    with left:
        figure = charts.grid(
            values,
            view.head,
            unit=unit,
            low_high=(0.0, 1.0) if by == "share" else (0.0, None),
        )
        key = _key("map")

        def clicked() -> None:
            points = st.session_state[key].selection.points
            if points:
                _pick(HeadId(int(points[0]["y"]), int(points[0]["x"])))

        name = f"{view.index.name}.search.{by}"
        downloads.figure(figure, key, name, on_select=clicked, selection_mode="points")
    with right:
        st.markdown(f"**Best {min(BEST, len(found))}**")
        with st.grid(min_column_width=150, gap="xsmall"):
            for one in found[:BEST]:
                _button(view, one, by)


def _button(view: View, one: TokenAnswer | CellsAnswer, by: str) -> None:
    value = f"{one.share:.3f} · {one.lift:.1f}×"
    if isinstance(one, TokenAnswer):
        value = f"{one.lift:.1f}×"
    elif by == "write":
        value = f"{one.share:.3f} · write {one.write:.3g}"
    st.button(
        f"**{one.head}** {value}",
        key=f"found {one.head}",
        on_click=_pick,
        args=(one.head,),
        width="stretch",
        type="primary" if one.head == view.head else "secondary",
    )


def _marked(tokens: Tokens, cells: np.ndarray) -> None:
    """Say in words which pairs were asked for."""
    some = np.argwhere(cells)[:8]
    named = [f"{shown(tokens.labels[dst])} → {shown(tokens.labels[src])}" for dst, src in some]
    more = int(cells.sum()) - len(some)
    st.caption(plain("The pairs: " + ", ".join(named) + (f", and {more:,} more" if more else "")))


def _key(name: str) -> str:
    return f"{name} {st.session_state.setdefault('_finds', 0)}"


def _pick(head: HeadId) -> None:
    """Select a head. The next map gets a new key, so that it starts without a selection."""
    st.session_state["_finds"] = st.session_state.get("_finds", 0) + 1
    select(head)
