"""What predictions lose without a head, where that was measured: a line, and how to measure it."""

from __future__ import annotations

import streamlit as st

from attn.heads import HeadId
from attn.index.effects import Effects
from attn.ui.library import effects_of
from attn.ui.notices import sentence
from attn.ui.router import page_button
from attn.ui.sidebar import View

METHODS = """
The **effect** of a head is how much the loss of the next token rises, in nats, when the head's
output is replaced by its mean over the documents it is measured on, at every position. It is the
mean over all tokens of these documents that the model predicts. `python -m attn effects INDEX`
measures it.

- **Exact**: the layers from the head's own upwards are run again with the head replaced. The layers
  below give what they gave before, so nothing is approximated.
- **Estimated**, for all heads at once by attribution patching (Nanda 2023; Syed and others,
  arXiv 2310.10348): `Σ gradient · (mean − z)` over positions, from one forward and one backward
  pass. It is the first order of the exact effect. Where a head moves a softmax or a norm far from
  where it is, as in the first layers, it can have the wrong size and even the wrong sign. As a
  rule it is too low, since the loss curves upwards away from what a trained model does: a head
  measured exactly then stands above its neighbours that were only estimated. The command says how
  well the estimates rank the heads measured exactly, and by how much they are off.
  Those are mostly the heads with the largest estimates: what is true of them need not be true of
  the others.
- **Interval**: 95 %, by drawing documents with replacement. It knows that other documents would
  give other numbers; of an estimate it does not know how far that is from exact.
- **Rank**: the highest effect first, exact and estimated ones together.
- **Most needed**, on the Examples page: the tokens whose loss rises most without the head. Only a
  head that was measured exactly has such a list.
- A head with a small effect may still do much: another may step in for it, and a mean keeps
  whatever is the same at every position. Heads that hurt predictions have an effect below 0.
"""


def line(view: View) -> None:
    """The selected head's effect, its rank and how it was measured; or how to measure it."""
    effects = effects_of(view.index)
    if effects is None:
        st.caption(sentence(missing(view)))
        return
    st.markdown(sentence(told(effects, view.head)))
    if effects.is_exact(view.head):
        page_button("examples", "See which tokens need it most", "needed", order="needed")


def told(effects: Effects, head: HeadId) -> str:
    """A head's effect in a sentence, as people say it."""
    rank, at = effects.rank(head), (head.layer, head.head)
    if rank is None:
        return f"Effect: none, for the layer of {head} has no attention."
    kind = "exact" if effects.is_exact(head) else "estimated"
    low, high = effects.low[at], effects.high[at]
    span = f", 95 % interval {low:+.4f} to {high:+.4f}" if low == low else ""
    measured = effects.measured
    return (
        f"Effect {effects.effect[at]:+.4f} nats/token, rank {rank[0]} of {rank[1]}, {kind}{span}, "
        f"over {measured.tokens:,} tokens of {measured.documents:,} documents."
    )


def missing(view: View, *, exact: bool = False) -> str:
    """The command that measures what is missing: all effects, or those of the head exactly."""
    what = f"Which tokens need {view.head} most is" if exact else "Effect:"
    more = f" --head {view.head}" if exact else ""
    return (
        f"{what} not measured: run `python -m attn effects INDEX{more}`, where INDEX is the folder "
        f"of this index, {view.index.name}."
    )
