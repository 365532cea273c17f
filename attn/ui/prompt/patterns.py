"""Heat maps of one head on one text. Only this part of the pages needs the model."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
import streamlit as st

from attn.errors import AttnError
from attn.heads import Example, HeadId, Tokens, Window
from attn.index.index import Index
from attn.index.manifest import Manifest
from attn.show import charts
from attn.show.scales import SCALES
from attn.ui import downloads, setup
from attn.ui.components import heads_of_layer
from attn.ui.library import LayerReading, encode, lacks_builtin, longest, models, read_layer
from attn.ui.notices import fail
from attn.ui.prompt.token_view import token_view
from attn.ui.sidebar import select
from attn.ui.state import read_pairs, write_pairs

REST = "Leave out the first position"
REST_HELP = (
    "Heads rest on the first position. Its column takes most of the attention and most of the "
    "colour; without it, the colours run up to the strongest of the other cells."
)
NEAR = 12
MOST_ROWS = 512
"""The most rows of a heat map."""

NEAR_HELP = (
    f"Show the tokens between source and destination, and {NEAR} on each side; without it, the "
    "whole text."
)
SCALE_HELP = (
    "Square root: weak attention is seen, and strong still differs. Linear: equal steps. "
    "Logarithmic: each step is ten times the one before."
)


@dataclass(frozen=True, eq=False)
class Read:
    """A text that the model has read: its tokens, and one layer's patterns."""

    tokens: Tokens
    layer: LayerReading


def read_text(index: Index, head: HeadId, text: str) -> Read | None:
    """Run the model on the user's text. None, with a notice, if that is not possible."""
    manifest = index.manifest
    if not text.strip():
        st.info("Write or paste a text above.", icon=":material/edit_note:")
        return None
    if not _model_there(manifest):
        return None
    try:
        with reading(manifest):
            tokens, limit = encode(manifest, text), longest(manifest)
            if sum(kind != "special" for kind in tokens.kinds) < 2:
                st.info("That is one token: a head needs at least two to choose between.")
                return None
            if len(tokens) > limit:
                st.warning(
                    f"The text is {len(tokens):,} tokens long and this page shows {limit:,}: "
                    "shorten it.",
                    icon=":material/content_cut:",
                )
                return None
            ids = tuple(int(i) for i in tokens.ids)
            return Read(tokens, read_layer(manifest, ids, head.layer))
    except AttnError as error:
        fail(str(error))
        return None


def show_document(index: Index, window: Window, example: Example) -> None:
    """Show a head on an example's document: tokens, and the heat map with the pair framed."""
    manifest = index.manifest
    if not _model_there(manifest):
        return
    try:
        with reading(manifest):
            layer = read_layer(manifest, window.ids, example.head.layer)
    except AttnError as error:
        fail(str(error))
        return
    token_view(
        window,
        layer,
        example.head,
        bidirectional=manifest.bidirectional,
        bos=manifest.bos,
        held=int(st.session_state["held"]),
        pairs=[(example.dst, example.src)],
    )
    with st.container(horizontal=True, vertical_alignment="bottom"):
        map_switches()
        near = st.toggle(
            "Window around the pair", key="near", help=NEAR_HELP, persist_state="session"
        )
    pair = (example.dst, example.src)
    heat_map(index, example.head, window.labels, layer, pair, around=_window(pair, window, near))


def _window(pair: tuple[int, int], window: Window, near: bool) -> tuple[int, int] | None:
    """The first and last token to show around a pair; None to show all."""
    if not near:
        return None
    return max(0, min(pair) - NEAR), min(len(window.texts) - 1, max(pair) + NEAR)


def heat_map(
    index: Index,
    head: HeadId,
    texts: tuple[str, ...],
    layer: LayerReading,
    mark: tuple[int, int] | None = None,
    *,
    around: tuple[int, int] | None = None,
    key: str = "heat_map",
) -> None:
    """Draw one head's heat map; of a long text, the tokens around the selected one."""
    if around is None and len(texts) > MOST_ROWS:
        start = int(np.clip(st.session_state["held"] - MOST_ROWS // 2, 0, len(texts) - MOST_ROWS))
        around = start, start + MOST_ROWS - 1
        st.caption(
            f"The map shows tokens {around[0]:,} to {around[1]:,} of {len(texts):,}: hold another "
            "token above to move it."
        )
    hide = bool(st.session_state.get("rest"))
    figure = charts.pattern(
        layer.patterns[head.head],
        layer.visible,
        texts,
        mark=mark,
        hide_first=hide,
        bidirectional=index.manifest.bidirectional,
        scale=st.session_state["scale"],
        around=around,
    )
    downloads.figure(figure, key, f"{head}.attention")
    first = layer.patterns[head.head][1:, 0]
    st.caption(
        f"A row is where one token looks; it adds to 1. Drag over the map to zoom in, double-click "
        f"to return. The first position takes "
        f"{float(first.mean()):.0%} of this head's attention here."
        + (" It is left out of the picture." if hide else "")
    )


def text_view(index: Index, head: HeadId, read: Read) -> list[tuple[int, int]]:
    """Draw the token view. A click on two tokens adds their pair. Returns the chosen pairs."""
    n, two_way = len(read.tokens), index.manifest.bidirectional
    state = st.session_state
    chosen = in_text(read_pairs(state["pairs"]), n, two_way)

    def toggle(dst: int, src: int) -> None:
        pair = dst, src
        kept = [one for one in chosen if one != pair]
        state["pairs"] = write_pairs(kept if pair in chosen else [*chosen, pair])

    token_view(
        read.tokens,
        read.layer,
        head,
        bidirectional=two_way,
        bos=index.manifest.bos,
        held=int(state["held"]),
        pairs=chosen,
        on_pair=toggle,
    )
    return chosen


def in_text(pairs: list[tuple[int, int]], n: int, bidirectional: bool) -> list[tuple[int, int]]:
    """The pairs (destination, source) that are visible in a text of ``n`` tokens."""
    return [(dst, src) for dst, src in pairs if max(dst, src) < n and (bidirectional or src <= dst)]


def all_heads(index: Index, head: HeadId, layer: LayerReading) -> None:
    """Draw every head of the layer as a small picture; a click selects it."""
    cells = charts.shades(layer.patterns, st.session_state["scale"])
    if st.session_state.get("rest"):
        cells[:, :, 0] = 0
    heads_of_layer(
        cells,
        charts.palette(),
        [str(HeadId(head.layer, i)) for i in range(len(cells))],
        head.head,
        causal=not index.manifest.bidirectional,
        on_pick=lambda number: select(HeadId(head.layer, number)),
    )


def map_switches() -> None:
    """Switches: the colour scale of heat maps, and whether they leave out the first position."""
    st.segmented_control(
        "Scale", SCALES, key="scale", required=True, format_func=SCALES.__getitem__,
        help=SCALE_HELP, persist_state="session",
    )  # fmt: skip
    st.toggle(REST, key="rest", help=REST_HELP, persist_state="session")


def _model_there(manifest: Manifest) -> bool:
    if lacks_builtin(manifest.model):
        setup.fetch_model(manifest.model)
        return False
    return True


def reading(manifest: Manifest) -> AbstractContextManager[None]:
    """A spinner that shows while the model loads and reads."""
    held = models().holds(manifest.model, dtype=manifest.dtype)
    return st.spinner(
        "Reading the text …" if held else "Loading the model, about ten seconds the first time …"
    )
