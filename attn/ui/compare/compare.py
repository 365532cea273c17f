"""Two to four heads side by side: numbers, tokens, and their patterns on one text."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import streamlit as st

from attn.analyse.compare import cells, correlations, differences, same_place
from attn.analyse.similar import similar
from attn.errors import AttnError, HeadError
from attn.formatting import shown
from attn.heads import Example, HeadId, Window
from attn.index.index import Index
from attn.measure.budget import PART_TITLES
from attn.show import charts
from attn.ui import downloads
from attn.ui.components import details
from attn.ui.examples.ranking import example_row, show_legend
from attn.ui.library import encode, entries, lacks_builtin, longest, read_layer
from attn.ui.notices import fail, plain, warn
from attn.ui.prompt.patterns import Read, read_text, reading
from attn.ui.sidebar import View

MOST = 4
EXAMPLES = 3
_TOKENS = 12
_PAIRS = 12


@dataclass(frozen=True)
class Side:
    """One of the compared heads: its index, the head, and its name on the page."""

    index: Index
    head: HeadId
    name: str


def choose(view: View) -> list[Side]:
    """The selected head and up to three others, named in fields and in the URL."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        other = _index(view.index)
        mine = other is view.index
        if mine:
            offered = ",".join(str(one.head) for one in similar(other, view.head, 1))
            why = f"{offered}, the head most like it"
        else:
            offered = why = str(_fitting(other, view.head))
        text = st.text_input(
            f"Compare {view.head} with",
            key="with",
            persist_state="session",
            width=320,
            placeholder=why,
            help=f"Up to {MOST - 1} heads, like L10H7,L4H2.",
        )
    sides = [Side(view.index, view.head, str(view.head))]
    for part in (text or offered).replace(",", " ").split():
        try:
            head = HeadId.parse(part)
            head.check(other.manifest.n_layers, other.manifest.n_heads)
        except HeadError as error:
            warn(str(error))
            continue
        side = Side(other, head, str(head) if mine else f"{head} · {_told(other, view.index)}")
        if all(side.name != one.name for one in sides):
            sides.append(side)
    if len(sides) > MOST:
        warn(f"{MOST} heads fit side by side: the others are left out.")
    return sides[:MOST]


def _index(index: Index) -> Index:
    """The index of the other heads: this one, or another one over the same corpus."""
    known = {"": index} | {
        entry.name: entry.index
        for entry in entries()
        if entry.index and entry.name != index.name and _corpus(entry.index) == _corpus(index)
    }
    asked = st.session_state["against"]
    if asked and asked not in known:
        if asked != index.name:
            warn(f"There is no index {asked} of the same corpus here: this one's heads are shown.")
        st.session_state["against"] = ""
    if len(known) == 1:
        return index
    chosen = st.selectbox(
        "Other heads from",
        list(known),
        key="against",
        persist_state="session",
        width=260,
        format_func=lambda name: _told(known[name], index) if name else "the same index",
        help="Another index over the same corpus: of another model, or made in another way.",
    )
    return known[chosen or ""]


def _corpus(index: Index) -> tuple[object, ...]:
    return index.manifest.corpus, index.manifest.skip, index.manifest.docs


def _told(other: Index, index: Index) -> str:
    """What distinguishes an index from another: its model, or else the end of its name."""
    name = other.manifest.model.rsplit("/", 1)[-1]
    same = other.manifest.model == index.manifest.model
    return f"{name} {other.name[-6:]}" if same else name


def _fitting(index: Index, head: HeadId) -> HeadId:
    """The head at the same place, or the last one if the model is smaller."""
    shape = index.manifest
    return HeadId(min(head.layer, shape.n_layers - 1), min(head.head, shape.n_heads - 1))


def numbers(sides: list[Side]) -> None:
    """Budgets as bars, metrics as a table, and the tokens that each looks at most."""
    figure = charts.budget({side.name: side.index.budget(side.head) for side in sides}, PART_TITLES)
    downloads.figure(figure, "budgets", f"{_file(sides)}.budget")
    with details("All metrics", "metrics") as opened:
        if opened:
            _metrics(sides)
    with details("Tokens they look at most", "tokens") as opened:
        if not opened:
            return
        for place, side in zip(st.columns(len(sides)), sides, strict=True):
            with place:
                rows = side.index.sources(side.head, _TOKENS)
                st.markdown(f"**{plain(side.name)}**")
                st.dataframe(
                    {"token": [shown(row.token) for row in rows], "lift": [r.lift for r in rows]},
                    hide_index=True,
                    column_config={"lift": st.column_config.NumberColumn(format="%.2f")},
                )


def _metrics(sides: list[Side]) -> None:
    found = {side.name: side.index.numbers(side.head) for side in sides}
    titles = {
        name: side.index.definition(name).title
        for side in sides
        for name in side.index.metric_names
    }
    names = list(titles)
    columns = {title: [of_head.get(name) for name in names] for title, of_head in found.items()}
    st.dataframe(
        {"metric": list(titles.values())} | columns,
        hide_index=True,
        column_config={name: st.column_config.NumberColumn(format="%.3f") for name in columns},
    )


def _file(sides: list[Side]) -> str:
    return "-".join(dict.fromkeys(str(side.head) for side in sides))


def examples(view: View, sides: list[Side]) -> None:
    """The selected head's best rows, each under every compared head."""
    ranking = view.index.top(view.head, EXAMPLES, one_per_document=True)
    if not ranking.examples:
        st.info("This head has no pair above average here.", icon=":material/search_off:")
        return
    if any(lacks_builtin(side.index.manifest.model) for side in sides):
        st.caption("This needs the model, which is not fetched yet.")
        return
    show_legend()
    with reading(sides[-1].index.manifest):
        for example in ranking.examples:
            window = view.index.window(example.document, example.start)
            with st.container(border=True, gap="xsmall"):
                for side in sides:
                    _row(view.index, example, window, side)


def _row(index: Index, example: Example, window: Window, side: Side) -> None:
    """The example's row under one head, at the same place of the same text."""
    theirs, first = side.index.manifest, int(index.manifest.bos)
    try:
        if same_words(index, side.index):
            ids, texts, places = window.ids, window.texts, [example.dst, example.src]
            names, kinds = window.names, window.kinds
        else:
            tokens = encode(theirs, window.text)
            ids, texts = tuple(int(i) for i in tokens.ids), tokens.texts
            names, kinds = tokens.names, tokens.kinds
            skip, end = int(theirs.bos), len(texts) - theirs.suffix
            mine = window.texts[first : len(window.texts) - index.manifest.suffix]
            found = [
                same_place(mine, texts[skip:end], place - first) if place >= first else None
                for place in (example.dst, example.src)
            ]
            places = [place + skip for place in found if place is not None]
        if len(places) < 2 or len(ids) > longest(theirs):
            st.caption(f"{plain(side.name)} does not read this text in the same way.")
            return
        layer = read_layer(theirs, ids, side.head.layer)
    except AttnError as error:
        fail(str(error))
        return
    dst, src = places
    row = layer.patterns[side.head.head, dst].astype(np.float32)
    seen = replace(
        example, head=side.head, dst=dst, src=src, token=texts[src] or names[src], row=row,
        write=None, attention=float(row[src]), multiple=float(row[src]) * int(layer.visible[dst]),
    )  # fmt: skip
    example_row(
        side.index, seen, replace(window, texts=texts, ids=ids, names=names, kinds=kinds), side.name
    )


def same_words(one: Index, other: Index) -> bool:
    """Whether both indexes are of the same model, so that they tokenize a text alike."""
    a, b = one.manifest, other.manifest
    return (a.model, a.weights, a.bos) == (b.model, b.weights, b.bos)


def patterns(view: View, sides: list[Side], text: str) -> None:
    """The heads' patterns on a text: side by side, how they agree, where they differ most."""
    found: list[tuple[Side, Read]] = []
    for side in sides:
        read = read_text(side.index, side.head, text)
        if read is None:
            return
        found.append((side, read))
    hide = bool(st.session_state.get("rest"))
    for start in range(0, len(found), 2):
        for place, (side, read) in zip(st.columns(2), found[start : start + 2], strict=False):
            with place:
                st.markdown(f"**{plain(side.name)}**")
                figure = charts.pattern(
                    read.layer.patterns[side.head.head],
                    read.layer.visible,
                    read.tokens.labels,
                    hide_first=hide,
                    bidirectional=side.index.manifest.bidirectional,
                    scale=st.session_state["scale"],
                    highest=560,
                )
                name = f"{side.index.name}.{side.head}.attention"
                downloads.figure(figure, f"pattern {side.name}", name)
    texts = found[0][1].tokens.labels
    if any(read.tokens.labels != texts for _, read in found):
        st.caption("The models cut this text into different tokens: no cell answers to another.")
        return
    some = cells(len(texts), bidirectional=view.index.manifest.bidirectional)
    if len(sides) < 2 or not some.any():
        return
    names = [side.name for side in sides]
    values = [read.layer.patterns[side.head.head].astype(np.float32) for side, read in found]
    _agreement(names, correlations(values, some))
    _apart(names, values, some, texts)


def _agreement(names: list[str], found: np.ndarray) -> None:
    st.subheader("How alike the patterns are", anchor=False)
    st.caption("Correlation over the pairs of this text, the first position left out.")
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
    names: list[str], values: list[np.ndarray], some: np.ndarray, texts: tuple[str, ...]
) -> None:
    st.subheader("Where they differ most", anchor=False)
    pairs = differences(values, some, _PAIRS)
    columns = {name: [pair.attention[i] for pair in pairs] for i, name in enumerate(names)}
    st.dataframe(
        {
            "from": [f"{pair.dst} · {shown(texts[pair.dst])}" for pair in pairs],
            "to": [f"{pair.src} · {shown(texts[pair.src])}" for pair in pairs],
        }
        | columns,
        hide_index=True,
        column_config={name: st.column_config.NumberColumn(format="%.3f") for name in columns},
    )
