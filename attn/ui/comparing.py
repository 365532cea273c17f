"""Two to four heads side by side: numbers, tokens, and their patterns on one text."""

from __future__ import annotations

import numpy as np
import streamlit as st

from attn import charts
from attn.compare import cells, correlations, differences
from attn.errors import HeadError
from attn.heads import HeadId
from attn.metrics import METRICS, PART_TITLES
from attn.similar import similar
from attn.texts import shown
from attn.ui import downloads
from attn.ui.library import LayerReading
from attn.ui.notices import warn
from attn.ui.patterns import read_text
from attn.ui.sidebar import View

MOST = 4
_TOKENS = 12
_PAIRS = 12


def choose(view: View) -> list[HeadId]:
    """The selected head and up to three others, named in a field and in the URL."""
    manifest = view.index.manifest
    nearest = ",".join(str(one.head) for one in similar(view.index, view.head, 1))
    text = st.text_input(
        f"Compare {view.head} with",
        key="with",
        persist_state="session",
        width=320,
        placeholder=f"{nearest}, the head most like it",
        help=f"Up to {MOST - 1} heads, like L10H7,L4H2.",
    )
    heads = [view.head]
    for part in (text or nearest).replace(",", " ").split():
        try:
            head = HeadId.parse(part)
            head.check(manifest.n_layers, manifest.n_heads)
        except HeadError as error:
            warn(str(error))
            continue
        if head not in heads:
            heads.append(head)
    if len(heads) > MOST:
        warn(f"{MOST} heads fit side by side: the others are left out.")
    return heads[:MOST]


def numbers(view: View, heads: list[HeadId]) -> None:
    """Budgets as bars, metrics as a table, and the tokens that each looks at most."""
    index = view.index
    figure = charts.budget({str(head): index.budget(head) for head in heads}, PART_TITLES)
    downloads.figure(figure, "budgets", f"{'-'.join(map(str, heads))}.budget")
    columns = {str(head): list(index.numbers(head).values()) for head in heads}
    with st.expander("All metrics"):
        st.dataframe(
            {"metric": [METRICS[name].title for name in index.metric_names]} | columns,
            hide_index=True,
            column_config={name: st.column_config.NumberColumn(format="%.3f") for name in columns},
        )
    with st.expander("Tokens they look at most"):
        for place, head in zip(st.columns(len(heads)), heads, strict=True):
            with place:
                rows = index.sources(head, _TOKENS)
                st.markdown(f"**{head}**")
                st.dataframe(
                    {"token": [shown(row.token) for row in rows], "lift": [r.lift for r in rows]},
                    hide_index=True,
                    column_config={"lift": st.column_config.NumberColumn(format="%.2f")},
                )


def patterns(view: View, heads: list[HeadId], text: str) -> None:
    """The heads' patterns on a text: side by side, how they agree, where they differ most."""
    found: list[tuple[HeadId, LayerReading]] = []
    texts: tuple[str, ...] = ()
    for head in heads:
        read = read_text(view.index, head, text)
        if read is None:
            return
        texts = read.tokens.texts
        found.append((head, read.layer))
    two_way = view.index.manifest.bidirectional
    hide = bool(st.session_state.get("rest"))
    for start in range(0, len(found), 2):
        for place, (head, layer) in zip(st.columns(2), found[start : start + 2], strict=False):
            with place:
                st.markdown(f"**{head}**")
                figure = charts.pattern(
                    layer.patterns[head.head],
                    layer.visible,
                    texts,
                    hide_first=hide,
                    bidirectional=two_way,
                    scale=st.session_state["scale"],
                    highest=560,
                )
                downloads.figure(figure, f"pattern {head}", f"{head}.attention")
    some = cells(len(texts), bidirectional=two_way)
    if len(heads) < 2 or not some.any():
        return
    values = [layer.patterns[head.head].astype(np.float32) for head, layer in found]
    _agreement(heads, correlations(values, some))
    _apart(heads, values, some, texts)


def _agreement(heads: list[HeadId], found: np.ndarray) -> None:
    st.subheader("How alike the patterns are", anchor=False)
    st.caption("Correlation over the pairs of this text, the first position left out.")
    names = [str(head) for head in heads]
    with st.grid(min_column_width=170, gap="xsmall"):
        for i, one in enumerate(names):
            for j in range(i + 1, len(names)):
                value = found[i, j]
                st.metric(
                    f"{one} and {names[j]}",
                    f"{value:.2f}" if np.isfinite(value) else "none",
                    border=True,
                )


def _apart(
    heads: list[HeadId], values: list[np.ndarray], some: np.ndarray, texts: tuple[str, ...]
) -> None:
    st.subheader("Where they differ most", anchor=False)
    pairs = differences(values, some, _PAIRS)
    columns = {str(head): [pair.attention[i] for pair in pairs] for i, head in enumerate(heads)}
    st.dataframe(
        {
            "from": [f"{pair.dst} · {shown(texts[pair.dst])}" for pair in pairs],
            "to": [f"{pair.src} · {shown(texts[pair.src])}" for pair in pairs],
        }
        | columns,
        hide_index=True,
        column_config={name: st.column_config.NumberColumn(format="%.3f") for name in columns},
    )
