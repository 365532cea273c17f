"""The Why page: the look, what it is made of, where that came from, and what the look does."""

from __future__ import annotations

import streamlit as st

from attn.analyse.why.answers import Split
from attn.errors import AttnError
from attn.formatting import shown
from attn.heads import HeadId, Tokens, Window
from attn.html_tables import table
from attn.show import charts
from attn.ui import downloads
from attn.ui.components import details
from attn.ui.library import models
from attn.ui.notices import fail, plain
from attn.ui.prompt.patterns import read_text, reading
from attn.ui.sidebar import View, select
from attn.ui.state import read_pins, write_pins
from attn.ui.why import graph as drawn
from attn.ui.why.asked import (
    MOST_TOKENS,
    Answer,
    Look,
    answer,
    chosen_look,
    set_look,
    written,
)

BARS = 10
MOST_TRAIL = 12
FAVOURITES = 12
METHODS = """
What a layer's attention reads is a sum: the embedding of the token and, in some models, of its
position, what every earlier head and MLP wrote there, and biases. A head's score for a pair comes
from that sum through a norm, the query and key weights, and rotations by position.

- **Holding the norms' scales.** A norm divides by the size of the whole stream. With that size held
  at what it was on this text, queries and keys are linear in the parts, and the score is a sum over
  every pair of a part at the destination and a part at the source. What a part *would* do if the
  sum had another size is not in these numbers.
- **Against the row.** The softmax cares only about differences, so each number is what a part adds
  to this source's score, less its mean over all sources that the row sees, in nats. All parts of
  the **query side** add to `log a(dst, src) − mean log a(dst, ·)`, and so do all parts of the **key
  side**: they are two ways to cut the same total, not halves of it. Where a model caps its scores,
  the numbers are those before the cap.
- **An earlier head's part** is a sum over the sources that it read from. So a look is explained by
  earlier looks, and these can be asked the same. Every look's numbers are about its own score; they
  are not multiplied along the way. The graph shows the strongest parts of each look, none below the
  threshold; beside it stands what share of the score the shown part carries. It can be more than
  all of it, where what is not shown takes away.
- **Direct effect**: what the head wrote at the destination, source by source, through the final
  norm (its scale held) and the unembedding: what it adds to the logit of the token that came next,
  less its mean over the vocabulary. Later layers may use or undo what was written; that is not in
  it.
- **From the weights**: what the head writes when it looks at a token, whatever the text: the
  token's embedding as it is after the first MLP, the head's values and output at full attention,
  the final norm, the unembedding (as for name movers, Wang et al. 2022). The layers between are
  left out, and the norm's scale is that of the write alone, so compare logits within a row only.
- **What attribution cannot show**: whether the head would look elsewhere without a part, because
  other parts and the softmax would change too. That takes an intervention, measured by a forward
  pass.
- The sums are checked on every answer; a model whose scores are no such sum is refused by name.
  Norms in the residual stream itself (BERT) are such a case. Half precision is not exact enough.
"""


def show(view: View) -> None:
    """The page."""
    st.header(f"Why {view.head} looks there", anchor=False)
    _trail(view)
    tokens = _tokens(view)
    if tokens is None:
        return
    if len(tokens.texts) > MOST_TOKENS:
        st.warning(
            f"The text is {len(tokens.texts):,} tokens long and this page takes {MOST_TOKENS:,}: "
            "shorten it.",
            icon=":material/content_cut:",
        )
        return
    manifest = view.index.manifest
    ids = tuple(int(i) for i in tokens.ids)
    try:
        with reading(manifest):
            look = chosen_look(manifest, ids, view.head)
        _pick(tokens, look)
        with st.container(horizontal=True, vertical_alignment="bottom"):
            _switches()
        with st.spinner("Splitting the score …"):
            found = answer(
                manifest, ids, view.head, look, int(st.session_state["steps"]),
                int(st.session_state["least"]) / 100,
            )  # fmt: skip
    except AttnError as error:
        fail(str(error))
        return
    made = found.graph.splits[found.graph.root]
    _headline(tokens, made)
    _sides(tokens, made, view)
    _pairs(found)
    _graph(view, tokens, found)
    _direct(view, tokens, found, made)
    _favourites(view)


def _tokens(view: View) -> Tokens | Window | None:
    """The text that is asked about: a document of the corpus, or the user's own."""
    place = str(st.session_state["document"])
    if place:
        document, start = (int(part) for part in place.split("-"))
        with st.container(horizontal=True, vertical_alignment="center"):
            try:
                window = view.index.window(document, start)
            except AttnError as error:
                fail(str(error))
                return None
            st.caption(f"Document {document:,} of the index's corpus.")
            st.button("Use a text of your own", icon=":material/edit_note:", on_click=_own_text)
        return window
    text = st.text_area("Your text", key="text", height=90, persist_state="session")
    read = read_text(view.index, view.head, text)
    return None if read is None else read.tokens


def _own_text() -> None:
    st.session_state["document"] = st.session_state["look"] = st.session_state["trail"] = ""


def _pick(tokens: Tokens | Window, look: Look) -> None:
    """The destination and the source, each by its token."""
    names = [f"{i}  {shown(label)}" for i, label in enumerate(tokens.labels)]
    state = st.session_state
    state["_dst"], state["_src"] = look

    def changed() -> None:
        dst = int(state["_dst"])
        state["trail"] = ""
        set_look((dst, min(int(state["_src"]), dst)))

    with st.container(horizontal=True):
        st.selectbox(
            "Destination", range(len(names)), key="_dst", format_func=names.__getitem__,
            on_change=changed, width=220, help="The token that looks.",
        )  # fmt: skip
        st.selectbox(
            "Source", range(look[0] + 1), key="_src", format_func=names.__getitem__,
            on_change=changed, width=220, help="The token that it looks at.",
        )  # fmt: skip
        st.button(
            "Strongest look", icon=":material/vertical_align_top:", on_click=set_look, args=(None,),
            help="The pair of this text with the head's highest multiple.",
        )  # fmt: skip


def _switches() -> None:
    st.segmented_control(
        "Steps back", [1, 2, 3], key="steps", required=True, persist_state="session",
        help="How many times earlier looks are asked the same.",
    )  # fmt: skip
    st.number_input(
        "Threshold, %",
        1,
        50,
        key="least",
        width=130,
        persist_state="session",
        help="The graph leaves out what carries less of a look's score than this.",
    )


def _headline(tokens: Tokens | Window, made: Split) -> None:
    dst, src = (plain(shown(tokens.labels[i])) for i in (made.dst, made.src))
    st.markdown(
        f"**{made.head}** at **{dst}** ({made.dst}) gives **{src}** ({made.src}) "
        f"**{made.attention:.1%}** of its attention, one of {made.visible:,} sources. Its score "
        f"stands **{made.total:+.2f} nats** against the mean of the row."
        + (" The model caps scores after this." if made.capped else "")
    )


def _sides(tokens: Tokens | Window, made: Split, view: View) -> None:
    """Both ways to cut the total, as bars."""
    for column, side in zip(st.columns(2), ("query", "key"), strict=True):
        at = made.dst if side == "query" else made.src
        strongest = made.strongest(side, BARS)
        rest = made.total - sum(nats for _, nats in strongest)
        names = [part.name for part, _ in strongest] + ["all the rest"]
        values = [nats for _, nats in strongest] + [rest]
        with column:
            st.subheader(f"{side.capitalize()} side", anchor=False)
            st.caption(
                f"What wrote at {plain(shown(tokens.labels[at]))} ({at})"
                + (": what the head looks for." if side == "query" else ": what it finds there.")
                + f" All {len(made.parts)} parts add to {made.total:+.2f} nats."
            )
            figure = charts.contributions(names, values)
            downloads.figure(figure, f"why_{side}", f"{made.head}.{side}")


def _pairs(found: Answer) -> None:
    with st.expander("The strongest pairs of parts"):
        st.caption("A part at the destination times a part at the source, in nats.")
        rows = [(query, key, f"{nats:+.2f}") for query, key, nats in found.pairs]
        st.html(table(("query side", "key side", "nats"), rows))


def _graph(view: View, tokens: Tokens | Window, found: Answer) -> None:
    graph = found.graph
    st.subheader("Where that came from", anchor=False)
    shares = {side: graph.shown[graph.root, side] for side in ("query", "key")}
    st.caption(
        f"Earlier looks and other parts that carry at least {graph.threshold:.0%} of a look's "
        f"score. What is shown carries {shares['query']:.0%} of it on the query side and "
        f"{shares['key']:.0%} on the key side; over 100 % means that the rest takes away. Click an "
        "earlier look to ask the same of it."
    )
    places = {node.id: node for node in graph.nodes}
    root = graph.splits[graph.root]

    def picked(name: str) -> None:
        node = places[name]
        if node.head is not None and name != graph.root:
            _go(view.head, (root.dst, root.src), node.head, (node.dst, node.src))

    labels = tokens.labels
    nodes = [
        drawn.Node(
            id=node.id,
            title=node.part.name,
            text=f"{labels[node.dst]} → {labels[node.src]}" if node.head else labels[node.dst],
            position=node.dst,
            layer=node.part.layer,
            head=str(node.head or ""),
            open=node.id in graph.splits,
        )
        for node in graph.nodes
    ]
    drawn.why_graph(
        nodes,
        [drawn.Edge(one.source, one.target, one.nats, one.side) for one in graph.edges],
        tokens=labels,
        selected=graph.root,
        key="why_graph",
        on_pick=picked,
    )


def _go(head: HeadId, look: Look, to: HeadId, at: Look) -> None:
    """Ask about an earlier look, with a way back."""
    pins = read_pins(st.session_state["trail"])
    pins.append((head, f"0-{look[0]}-{look[1]}"))
    st.session_state["trail"] = write_pins(pins[-MOST_TRAIL:])
    set_look(at)
    select(to)


def _back(number: int) -> None:
    pins = read_pins(st.session_state["trail"])
    head, place = pins[number]
    _, dst, src = (int(part) for part in place.split("-"))
    st.session_state["trail"] = write_pins(pins[:number])
    set_look((dst, src))
    select(head)


def _trail(view: View) -> None:
    """The looks that led here, each a way back."""
    pins = read_pins(st.session_state["trail"])
    if not pins:
        return
    with st.container(horizontal=True, vertical_alignment="center", gap="xsmall"):
        for number, (head, place) in enumerate(pins):
            _, dst, src = place.split("-")
            st.button(
                f"{head} {dst} → {src}", key=f"trail {number}", type="tertiary",
                icon=":material/subdirectory_arrow_left:", on_click=_back, args=(number,),
            )  # fmt: skip
        st.caption(f"then {view.head}")


def _direct(view: View, tokens: Tokens | Window, found: Answer, made: Split) -> None:
    """What the head's looks from this destination do to the next token."""
    st.subheader("What the look does", anchor=False)
    direct = found.direct
    if direct is None:
        st.caption(found.without)
        return
    vocabulary = models().get(view.index.manifest.model, dtype=view.index.manifest.dtype)
    last = direct.dst + 1 == len(tokens.texts)
    token = plain(shown(vocabulary.tokenizer.decode([direct.token])))
    share = float(direct.sources[made.src])
    which = "the likeliest next token" if last else "the token that came next"
    st.markdown(
        f"What it read at **{plain(shown(tokens.labels[made.src]))}** changes the logit of "
        f"**{token}**, {which}, by **{share:+.2f}** at once; all that it read from this "
        f"destination, by **{direct.total:+.2f}**."
        + (" The model caps its logits after this." if direct.capped else "")
    )
    order = sorted(range(len(tokens.texts)), key=lambda i: (-abs(direct.sources[i]), i))[:BARS]
    left, right = st.columns(2)
    with left:
        st.caption("By source: what each look adds to that logit, against the vocabulary's mean.")
        names = [f"{i} {shown(tokens.labels[i])}" for i in order]
        figure = charts.contributions(names, [float(direct.sources[i]) for i in order], "logits")
        downloads.figure(figure, "why_direct", f"{made.head}.direct")
    with right:
        st.caption("The tokens that all it wrote here raises and lowers most.")
        rows = [
            (vocabulary.tokenizer.decode([up]), f"{more:+.2f}",
             vocabulary.tokenizer.decode([down]), f"{less:+.2f}")
            for (up, more), (down, less) in zip(direct.raised, direct.lowered, strict=True)
        ]  # fmt: skip
        st.html(table(("raised", "logits", "lowered", "logits"), rows))


def _favourites(view: View) -> None:
    """From the weights: what the head writes when it looks at the tokens that it looks at most."""
    label = "From the weights: what it writes when it looks at the tokens it looks at most"
    with details(label, "written") as opened:
        if not opened:
            return
        manifest = view.index.manifest
        ids = tuple(view.index.source_ids(view.head, FAVOURITES))
        try:
            with st.spinner("Reading the weights …"):
                found = written(manifest, view.head, ids)
        except AttnError as error:
            fail(str(error))
            return
        decode = models().get(manifest.model, dtype=manifest.dtype).tokenizer.decode
        rows = [
            (
                decode([one.token]),
                "  ".join(shown(decode([token])) for token, _ in one.raised),
                "  ".join(shown(decode([token])) for token, _ in one.lowered),
                f"{one.rank + 1:,} of {one.vocabulary:,}",
            )
            for one in found
        ]
        st.html(table(("it looks at", "raises", "lowers", "the token's own rank"), rows))
        st.caption(
            "No text: the token's embedding after the first MLP, through the head at full "
            "attention. A first rank means that the head copies the token."
        )
