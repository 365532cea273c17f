"""The questions that the Examples page asks the index, and how it shows the answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import streamlit as st

from attn.errors import QueryError
from attn.formatting import shown
from attn.heads import Example, HeadId, Window
from attn.index.index import Index
from attn.index.query import Ranking, parse_distance
from attn.measure.scores import BANDS
from attn.show.token_html import STYLE, example_head, example_text, legend
from attn.ui.notices import plain, warn
from attn.ui.prompt.patterns import show_document
from attn.ui.sidebar import View

_BAD = "_bad_distance"

More = Callable[[Example, Window], None]
"""Draws more buttons beside an example."""


@st.cache_data(max_entries=256, show_spinner=False)
def common_tokens(
    path: Path, identity: str, head: HeadId, order: str, by: str, _index: Index
) -> list[str]:
    """Source tokens of the examples that the index keeps for an order, the most frequent first."""
    if order in ("random", "banded"):
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
        st.session_state["token"] = entered_token(st.session_state["token"], known)


def tokens_of(index: Index, head: HeadId) -> list[str]:
    """Suggestions for the token filter; each has rows in the chosen order."""
    state = st.session_state
    order, by = state["order"], state["by"]
    return common_tokens(index.path, index.manifest.identity, head, order, by, index)


def entered_token(typed: str | None, known: list[str]) -> str | None:
    """The token that a user typed: ``·the`` and ``' the'`` both mean `` the``."""
    if not typed:
        return None
    if typed in known:
        return typed
    if len(typed) > 2 and typed[0] == typed[-1] and typed[0] in "'\"":
        typed = typed[1:-1]
    return typed.replace("·", " ").replace("↵", "\n").replace("⇥", "\t")


def chosen_filters() -> dict[str, Any]:
    """The filters set on the page, as keyword arguments of the index's questions."""
    state = st.session_state
    distance = parse_distance(state["apart"]) if state["apart"] else None
    return {
        "token": state["token"],
        "destination": state["to"],
        "regex": state["regex"],
        "distance": distance,
    }


def asked_ranking(index: Index, head: HeadId) -> Ranking:
    """The ranking that the page's switches ask for, up to the last example on the page."""
    state, about = st.session_state, chosen_filters()
    last = int(state["first"]) + state["rows"] - 1
    if state["order"] == "random":
        return index.random(head, last, seed=state["seed"], **about)
    reverse = state["order"] == "reversed"
    return index.top(
        head,
        last,
        by="multiple" if reverse else state["by"],
        reverse=reverse,
        one_per_document=state["one"],
        **about,
    )


def asked_bands(index: Index, head: HeadId) -> list[tuple[str, Ranking]]:
    """The ranking in each band of attention, with the band's name, the highest band first."""
    state, about = st.session_state, chosen_filters()
    return [
        (
            f"Attention {Fraction(low)} to {Fraction(high)}",
            index.band(head, number, state["rows"], seed=state["seed"], **about),
        )
        for number, (low, high) in reversed([*enumerate(BANDS)])
    ]


def examples_on_page(ranking: Ranking) -> tuple[Example, ...]:
    """The examples of the ranking that are on the current page."""
    return ranking.examples[int(st.session_state["first"]) - 1 :]


def pager(kept: int) -> None:
    """Buttons for the previous and next rows of those kept, if there are any."""
    state = st.session_state
    first, rows = int(state["first"]), int(state["rows"])
    more = kept >= first + rows
    if first == 1 and not more:
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        for name, sign, step, there in (
            ("Earlier rows", "arrow_back", -rows, first > 1),
            ("More rows", "arrow_forward", rows, more),
        ):
            st.button(
                name, key=name, icon=f":material/{sign}:", disabled=not there,
                on_click=_turn, args=(max(first + step, 1),),
            )  # fmt: skip
        last = min(first + rows - 1, kept)
        st.caption(f"Rows {first:,} to {last:,} of {kept:,} that the index keeps")


def _turn(first: int) -> None:
    st.session_state["first"] = first
    st.session_state["open"] = ""


def show(view: View, more: More) -> tuple[Example, ...]:
    """Show the rows that the switches ask for, or why there are none. Returns those shown."""
    ranking = asked_ranking(view.index, view.head)
    if not ranking.examples:
        say_nothing_found(view.index, view.head, ranking)
        return ()
    st.markdown(headline(ranking))
    taken_note(view.index)
    show_legend()
    shown_rows = examples_on_page(ranking)
    for rank, example in enumerate(shown_rows, int(st.session_state["first"])):
        example_card(view, example, rank, more)
    pager(ranking.kept)
    return shown_rows


def taken_note(index: Index) -> None:
    """Say which tokens the filters take, where their text does not say it."""
    for name in ("token", "to"):
        text = st.session_state[name]
        if text and (sentence := index.taken(text, regex=st.session_state["regex"])):
            st.caption(plain(sentence))


def show_bands(view: View, more: More) -> tuple[Example, ...]:
    """Show rows of each band of attention, the strongest band first. Returns those shown."""
    shown_rows: list[Example] = []
    taken_note(view.index)
    show_legend()
    for name, ranking in asked_bands(view.index, view.head):
        st.subheader(name, anchor=False)
        if not ranking.examples:
            st.caption("The index keeps no such pair.")
        for rank, example in enumerate(ranking.examples, 1):
            example_card(view, example, rank, more)
        shown_rows += ranking.examples
    return tuple(shown_rows)


def table(examples: Sequence[Example]) -> dict[str, list[object]]:
    """Column → values of the rows shown, under the names that ``--json`` gives them."""
    records = [example.record() for example in examples]
    names = dict.fromkeys(name for record in records for name in record)
    return {name: [record.get(name) for record in records] for name in names}


def headline(ranking: Ranking) -> str:
    """How many rows of how many are shown, as Markdown: "10 of 17,031 pairs above average"."""
    n, pairs = len(examples_on_page(ranking)), f"{ranking.pairs:,}"
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


def say_nothing_found(index: Index, head: HeadId, ranking: Ranking) -> None:
    """Say that no example matches, and which tokens are similar."""
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


def other_filters(help_texts: Mapping[str, str]) -> None:
    """The filters by destination token and distance, and whether tokens are expressions."""
    st.text_input(
        "Destination token", key="to", placeholder="any", help=help_texts["to"], width=150,
        persist_state="session", on_change=_to_typed,
    )  # fmt: skip
    state = st.session_state
    if state.get("_apart") != state["apart"] and not state.get(_BAD):
        state["_apart"] = state["apart"]
    st.text_input(
        "Distance", key="_apart", placeholder="any, or 1:5", help=help_texts["apart"], width=120,
        on_change=_apart_typed,
    )  # fmt: skip
    st.toggle("Regex", key="regex", help=help_texts["regex"], persist_state="session")


def bad_distance() -> None:
    """Say what is wrong with the distance that was typed."""
    if st.session_state.get(_BAD):
        warn(st.session_state[_BAD])


def _apart_typed() -> None:
    state = st.session_state
    typed = state["_apart"].strip()
    state[_BAD] = ""
    try:
        if typed:
            parse_distance(typed)
        state["apart"] = typed
    except QueryError as error:
        state[_BAD] = str(error)


def _to_typed() -> None:
    typed = st.session_state["to"]
    st.session_state["to"] = typed if st.session_state["regex"] else entered_token(typed, [])


def show_legend() -> None:
    """Show what the shades and marks of the rows mean."""
    st.html(STYLE)
    st.html(legend())


def place_of(example: Example) -> str:
    """An example's place as links write it: document-destination-source, then the window's start.

    The start is left out where it is 0.
    """
    place = f"{example.document}-{example.dst}-{example.src}"
    return place + (f"-{example.start}" if example.start else "")


def example_card(view: View, example: Example, rank: int, more: More) -> None:
    """Show an example, with its document's patterns if it is open; ``more`` adds buttons."""
    manifest, place = view.index.manifest, place_of(example)
    window = view.index.window(example.document, example.start)
    opened = st.session_state["open"] == place
    with st.container(border=True, gap="xsmall"):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.html(example_head(example, window, rank))
            st.button(
                "Close" if opened else "Whole text",
                key=f"open {place}",
                type="tertiary",
                icon=":material/close:" if opened else ":material/open_in_full:",
                help=None if opened else "This head on the whole document: tokens and heat map.",
                on_click=_toggle,
                args=(place, example.dst),
            )
            more(example, window)
        st.html(
            example_text(example, window, bidirectional=manifest.bidirectional, bos=manifest.bos)
        )
        if opened:
            show_document(view.index, window, example)


def example_row(index: Index, example: Example, window: Window, rank: int | str) -> None:
    """Show an example without buttons: its numbers and its text."""
    manifest = index.manifest
    st.html(example_head(example, window, rank))
    st.html(example_text(example, window, bidirectional=manifest.bidirectional, bos=manifest.bos))


def _toggle(place: str, dst: int) -> None:
    """Open a row with its destination selected, or close it. Only one is open at a time."""
    opened = st.session_state["open"] != place
    st.session_state["open"] = place if opened else ""
    st.session_state["held"] = dst if opened else -1
