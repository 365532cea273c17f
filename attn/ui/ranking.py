"""What the Examples page asks of the index, and how it says what came back."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import streamlit as st

from attn.heads import Example, HeadId, Window
from attn.index import Index, Ranking
from attn.texts import shown
from attn.tokens import STYLE, example_head, example_text, legend
from attn.ui.notices import plain
from attn.ui.patterns import show_document
from attn.ui.sidebar import View


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
    if not st.session_state["regex"]:
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
    about = {"token": state["token"], "destination": state["to"], "regex": state["regex"]}
    if state["order"] == "random":
        return index.random(head, state["rows"], seed=state["seed"], **about)
    reverse = state["order"] == "reversed"
    return index.top(
        head,
        state["rows"],
        by="multiple" if reverse else state["by"],
        reverse=reverse,
        one_per_document=state["one"],
        **about,
    )


def table(ranking: Ranking) -> dict[str, list[object]]:
    """Column → values of the rows shown, under the names that ``--json`` gives them."""
    records = [example.record() for example in ranking.examples]
    names = dict.fromkeys(name for record in records for name in record)
    return {name: [record.get(name) for record in records] for name in names}


def headline(ranking: Ranking) -> str:
    """What the rows are out of, as Markdown: "10 of 17,031 pairs above average"."""
    n, pairs = len(ranking.examples), f"{ranking.pairs:,}"
    plural = "pair" if ranking.pairs == 1 else "pairs"
    matching = ranking.matching
    if ranking.exact and matching is None:
        return f"**{n} of {pairs} {plural} above average**"
    if ranking.exact and matching is not None:
        short = n < min(matching, st.session_state["rows"]) and not st.session_state["one"]
        held = f" The index keeps the best {n}." if short else ""
        return f"**{n} of {matching:,} that match**, out of {pairs} {plural} above average.{held}"
    match = "matching examples" if ranking.kept != 1 else "matching example"
    among = f"{ranking.kept:,} {match} that the index keeps"
    known = "" if matching is None else f" of {matching:,} that match"
    return f"**{n} of {among}**{known}, out of {pairs} {plural} above average"


def nothing(index: Index, head: HeadId, ranking: Ranking) -> None:
    """Say that there is no such example, and which tokens come near."""
    token, known = st.session_state["token"], tokens_of(index, head)
    if not ranking.pairs:
        st.info("This head has no pair above average here.", icon=":material/search_off:")
        return
    where = "No pair above average" if ranking.exact else "No example that the index keeps"
    if token is None or st.session_state["to"] or st.session_state["regex"]:
        st.info(f"{where} matches these filters.", icon=":material/search_off:")
        return
    same = [other for other in known if other.strip().lower() == token.strip().lower()]
    near = ", ".join(shown(other) for other in same if other != token)
    st.info(
        f"{where} has the source token **{plain(shown(token))}**."
        + (f" Near it: **{plain(near)}**." if near else ""),
        icon=":material/search_off:",
    )


def destination_filter(help_text: str, regex_help: str) -> None:
    """The filter by destination token, and whether both filters are expressions."""
    st.text_input(
        "Destination token", key="to", placeholder="any", help=help_text, width=150,
        persist_state="session", on_change=_to_typed,
    )  # fmt: skip
    st.toggle("Regex", key="regex", help=regex_help, persist_state="session")


def _to_typed() -> None:
    typed = st.session_state["to"]
    st.session_state["to"] = typed if st.session_state["regex"] else meant(typed, [])


def show_legend() -> None:
    """The style of the rows, and what their shades and marks mean."""
    st.html(STYLE)
    st.html(legend())


def example_card(view: View, example: Example, rank: int) -> None:
    """One example, and its document's heat map where it is open."""
    manifest, place = view.index.manifest, f"{example.document}-{example.dst}-{example.src}"
    place += f"-{example.start}" if example.start else ""
    window = view.index.window(example.document, example.start)
    opened = st.session_state["open"] == place
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


def example_row(index: Index, example: Example, window: Window, rank: int | str) -> None:
    """One example without buttons: its numbers and its text."""
    manifest = index.manifest
    st.html(example_head(example, window, rank))
    st.html(example_text(example, window, bidirectional=manifest.bidirectional, bos=manifest.bos))


def _toggle(place: str) -> None:
    """Open a row, or close it; one is open at a time."""
    st.session_state["open"] = "" if st.session_state["open"] == place else place
