"""Switch it off: what the model loses on the user's text without some looks, or without a head."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import streamlit as st

from attn.analyse.interventions import Intervention, Outcome
from attn.errors import AttnError
from attn.formatting import shown
from attn.heads import HeadId
from attn.html_tables import table
from attn.index.manifest import Manifest
from attn.show import charts
from attn.ui import downloads
from attn.ui.library import models
from attn.ui.notices import fail, plain
from attn.ui.prompt.patterns import Read, reading
from attn.ui.sidebar import View, select
from attn.ui.state import OFF

MOST_TOKENS = 24
MOST_HEADS = 8
TITLES = {
    "nothing": "Nothing",
    "looks": "Looks",
    "head": "Head",
    "mean": "Mean",
    "row": "Row",
}
HELP = {
    "off": "Looks: the pairs that are chosen above. Head: all of its looks. Mean: at every token "
    "it writes the mean of what it writes over this text. Row: the selected token looks where an "
    "earlier one looked.",
    "evened": "What is left of a row is made to add to 1 again. Without it, the head writes less.",
    "instead": "The earlier token whose row the selected token gets.",
}
METHODS = """
The text is run as it is and once more with the head's pattern changed; nothing is inferred.

- **Change of loss**: the loss of each token, given those before it, with the change less without
  it, in nats. Above 0, the model predicted that token better with what was switched off.
- **Head**: its pattern is 0, so it writes nothing. **Mean**: at every token it writes the mean of
  what it wrote over this text. **Row**: a token looks where an earlier one looked.
- **Later heads that moved**: half the sum of the differences of a row's attention, 0 to 1, in the
  mean over the rows from the first change on.
- One text is one text: `attn effects` measures the same over a corpus, with intervals.
"""


def show(view: View, read: Read, pairs: Sequence[tuple[int, int]]) -> None:
    """The choice of what to switch off, and what that changes."""
    if view.index.manifest.bidirectional:
        return
    st.subheader("Switch it off", anchor=False)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        off = st.segmented_control(
            "Switch off", OFF, key="off", required=True, format_func=TITLES.__getitem__,
            persist_state="session", help=HELP["off"],
        )  # fmt: skip
        if off == "looks":
            st.toggle(
                "Even out the rest", key="evened", persist_state="session", help=HELP["evened"]
            )
        if off == "row":
            st.number_input(
                "Row of token", 0, len(read.tokens) - 1, key="instead", width=130,
                persist_state="session", help=HELP["instead"],
            )  # fmt: skip
    held = int(st.session_state["held"])
    if off in (None, "nothing"):
        st.caption(f"Choose what {view.head} should do without, to see what the model loses.")
        return
    if off == "looks" and not pairs:
        st.info("Choose a look above: click the token that looks, then the one it looks at.")
        return
    if off == "row" and not int(st.session_state["instead"]) <= held < len(read.tokens):
        st.info("Select the token above whose row is replaced, and name an earlier one here.")
        return
    change = Intervention(
        view.head,
        off,
        tuple(pairs) if off == "looks" else (),
        renormalise=off == "looks" and bool(st.session_state["evened"]),
        dst=held if off == "row" else -1,
        row=int(st.session_state["instead"]) if off == "row" else -1,
    )
    ids = tuple(int(i) for i in read.tokens.ids)
    position = held if 0 <= held < len(ids) else len(ids) - 1
    try:
        with reading(view.index.manifest):
            found = _outcome(view.index.manifest, ids, change, position)
    except AttnError as error:
        fail(str(error))
        return
    _losses(view.head, read, found)
    left, right = st.columns(2)
    with left:
        _next(view, read, found)
    with right:
        _moved(read, found)


def _outcome(
    manifest: Manifest, ids: tuple[int, ...], change: Intervention, position: int
) -> Outcome:
    return _run(manifest.model, manifest.dtype, manifest.weights, ids, change, position)


@st.cache_resource(max_entries=32, show_spinner=False)
def _run(
    model: str, dtype: str, weights: str, ids: tuple[int, ...], change: Intervention, position: int
) -> Outcome:
    from attn.analyse.interventions import intervene

    session = models().get(model, dtype=dtype)
    session.need_weights(weights)
    return intervene(session, ids, [change], position)


def _losses(head: HeadId, read: Read, found: Outcome) -> None:
    change = np.nan_to_num(found.after - found.before)
    order = sorted(range(1, len(change)), key=lambda i: (-abs(change[i]), i))[:MOST_TOKENS]
    kept = sorted(i for i in order if change[i])
    st.markdown(
        f"The model loses **{float(change[1:].mean()):+.3f} nats a token** over this text, "
        f"{float(change[1:].sum()):+.2f} in all."
    )
    if not kept:
        st.caption("No token's loss changes.")
        return
    st.caption(
        "Change of each token's loss, those that change most, in the order of the text. Above 0: "
        "the model predicted it better with what is switched off."
    )
    names = [f"{i} {shown(read.tokens.labels[i])}" for i in kept]
    figure = charts.contributions(names, [float(change[i]) for i in kept])
    downloads.figure(figure, "switched_off", f"{head}.loss")


def _next(view: View, read: Read, found: Outcome) -> None:
    decode = (
        models().get(view.index.manifest.model, dtype=view.index.manifest.dtype).tokenizer.decode
    )
    token = plain(shown(read.tokens.labels[found.position]))
    st.caption(f"The token after {token} ({found.position}), before and after.")
    rows = [
        (decode([token_id]), f"{before:.1%}", f"{after:.1%}")
        for token_id, before, after in found.likeliest()
    ]
    st.html(table(("next token", "before", "after"), rows))


def _moved(read: Read, found: Outcome) -> None:
    if not found.moved:
        st.caption("It is in the last layer, so no later head can move.")
        return
    st.caption("The later heads whose patterns moved most, 0 to 1 a row. Click one to select it.")
    for one in found.moved[:MOST_HEADS]:
        where = plain(shown(read.tokens.labels[one.dst]))
        st.button(
            f"**{one.head}** {one.mean:.3f}, most at {where} ({one.most:.2f})",
            key=f"moved {one.head}",
            on_click=select,
            args=(one.head,),
            width="stretch",
        )
