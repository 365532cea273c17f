"""What the Examples page asks of the index, and how it says what came back."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import streamlit as st

from attn.charts import shown
from attn.heads import Example, HeadId
from attn.index import Index, Ranking
from attn.ui.notices import plain
from attn.ui.patterns import show_document
from attn.ui.sidebar import View
from attn.ui.tokens import STYLE, example_head, example_text, legend


@st.cache_data(max_entries=256, show_spinner=False)
def common_tokens(
    path: Path, identity: str, head: HeadId, order: str, by: str, _index: Index
) -> list[str]:
    """Source tokens of the examples that the index keeps for an order, the most frequent first."""
    if order == "random":
        kept = _index.random(head, 1000)
    elif order == "reversed":
        kept = _index.top(head, 1000, reverse=True)
    else:
        kept = _index.top(head, 1000, by=by)
    counts = Counter(example.token for example in kept.examples)
    return [token for token, _ in counts.most_common(60)]


def token_picker(index: Index, head: HeadId, help_text: str) -> None:
    """The filter by source token: pick one of the kept examples' tokens, or type any."""
    known = tokens_of(index, head)
    asked = st.session_state["token"]
    st.selectbox(
        "Source token",
        known if asked in (None, *known) else [asked, *known],
        index=None,
        key="token",
        format_func=shown,
        help=help_text,
        placeholder="any; pick or type",
        accept_new_options=True,
        persist_state="session",
        on_change=_typed,
        args=(known,),
        width=180,
    )


def _typed(known: list[str]) -> None:
    st.session_state["token"] = meant(st.session_state["token"], known)


def tokens_of(index: Index, head: HeadId) -> list[str]:
    """Suggestions for the token filter: each has rows in the chosen order."""
    state = st.session_state
    order, by = state["order"], state["by"]
    return common_tokens(index.path, index.manifest.identity, head, order, by, index)


def meant(typed: str | None, known: list[str]) -> str | None:
    """The token that a user's entry stands for: ``·the`` and ``' the'`` are `` the``."""
    if not typed:
        return None
    if typed in known:
        return typed
    if len(typed) > 2 and typed[0] == typed[-1] and typed[0] in "'\"":
        typed = typed[1:-1]
    return typed.replace("·", " ").replace("↵", "\n").replace("⇥", "\t")


def ask(index: Index, head: HeadId) -> Ranking:
    """The examples that the page's switches ask for."""
    state = st.session_state
    token = state["token"]
    if state["order"] == "random":
        return index.random(head, state["rows"], seed=state["seed"], token=token)
    reverse = state["order"] == "reversed"
    return index.top(
        head,
        state["rows"],
        by="multiple" if reverse else state["by"],
        token=token,
        reverse=reverse,
        one_per_document=state["one"],
    )


def headline(ranking: Ranking) -> str:
    """What the rows are out of, as Markdown: "10 of 17,031 pairs above average"."""
    token = st.session_state["token"]
    n, pairs = len(ranking.examples), f"{ranking.pairs:,}"
    plural = "pair" if ranking.pairs == 1 else "pairs"
    if token is None and ranking.exact:
        return f"**{n} of {pairs} {plural} above average**"
    match = "matching examples" if ranking.kept != 1 else "matching example"
    among = f"{ranking.kept:,} {match} that the index keeps"
    return f"**{n} of {among}**, out of {pairs} {plural} above average"


def nothing(index: Index, head: HeadId) -> None:
    """Say that there is no such example, and which tokens come near."""
    token, known = st.session_state["token"], tokens_of(index, head)
    if token is None:
        st.info("This head has no pair above average here.", icon=":material/search_off:")
        return
    same = [other for other in known if other.strip().lower() == token.strip().lower()]
    near = ", ".join(shown(other) for other in same if other != token)
    st.info(
        f"No example that the index keeps has the source token **{plain(shown(token))}**."
        + (f" Near it: **{plain(near)}**." if near else ""),
        icon=":material/search_off:",
    )


def show_legend() -> None:
    """The style of the rows, and what their shades and marks mean."""
    st.html(STYLE)
    st.html(legend())


def example_card(view: View, example: Example, rank: int) -> None:
    """One example, and its document's heat map where it is open."""
    manifest, place = view.index.manifest, f"{example.document}-{example.dst}-{example.src}"
    window, opened = view.index.window(example.document), st.session_state["open"] == place
    with st.container(border=True, gap="xsmall"):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.html(example_head(example, window, rank))
            st.button(
                "Close" if opened else "Heat map",
                key=f"open {place}",
                type="tertiary",
                icon=":material/close:" if opened else ":material/grid_on:",
                help=None if opened else "This head's heat map of the whole document.",
                on_click=_toggle,
                args=(place,),
            )
        st.html(
            example_text(example, window, bidirectional=manifest.bidirectional, bos=manifest.bos)
        )
        if opened:
            show_document(view.index, window, example)


def _toggle(place: str) -> None:
    """Open a row, or close it; one is open at a time."""
    st.session_state["open"] = "" if st.session_state["open"] == place else place
