"""A head's weights: which heads it reads from, whether it copies, its singular values."""

from __future__ import annotations

import streamlit as st

from attn.measure.metrics import WAYS
from attn.show import charts
from attn.ui import downloads
from attn.ui.components import details
from attn.ui.sidebar import View, select

METHODS = """
From the weights alone, without a text, with the norms folded in: the gain of every norm, and the
mean that a LayerNorm takes off, are multiplied into the weights beside it (those before queries,
keys and values, on queries and keys, after the attention, after the embedding, and the last one).
Left out are the scale of each norm, which depends on the text, biases, and rotations by position.
Where norms stand in the residual stream itself (BERT), heads read the stream as it is, and nothing
is folded.

- The **OV circuit** `W_V W_O` says what a head writes of what it looks at, the **QK circuit**
  `W_Q W_Kᵀ` what it looks for. Their **singular values** say how strongly, in each direction.
- **Copying**: the eigenvalues λ of `W_E W_V W_O W_U`, from token to next token. `Σ Re λ / Σ |λ|` is
  1 where every token looked at becomes more likely itself, −1 where it becomes less likely. They
  are the eigenvalues of `W_O W_U W_E W_V`, so no vocabulary × vocabulary matrix is made. A model
  whose unembedding has a layer of its own before it, as masked models do, has no such number.
- **Composition** of an earlier head with this one: `‖A B‖ / (‖A‖ ‖B‖)` by Frobenius norms, A the
  earlier head's OV. B is this head's QK for queries (Q), QKᵀ for keys (K), and OV for values (V). 1
  says that all that A writes is in the directions that B reads most. Random weights have
  `1/√d_model` in the mean of the square, so compare with that and not with 0.
"""


def weights(view: View) -> None:
    """The earlier heads that the selected one composes with, as buttons, and its singular values.

    Shows nothing if the index has no numbers of the weights.
    """
    index, head = view.index, view.head
    partners, values = index.composes_with(head), index.singular_values(head)
    if not partners or not values["ov"].size:
        return
    st.subheader("From its weights", anchor=False)
    if any(partners.values()):
        st.caption(
            "The earlier heads whose output its queries, keys and values read most, with the "
            "composition score, 0 to 1. Random weights of the same shapes would score about "
            f"{index.random_composition(head):.3f}. Click one to select it."
        )
        for place, (way, found) in zip(st.columns(3), partners.items(), strict=True):
            title, text = WAYS[way]
            with place:
                st.markdown(f"**{title}**", help=text)
                for other, score in found:
                    st.button(
                        f"**{other}** {score:.3f}",
                        key=f"{way} {other}",
                        on_click=select,
                        args=(other,),
                        width="stretch",
                    )
    else:
        st.caption("No head comes before it, so it composes with none.")
    with details("Singular values of its OV and QK circuits", "circuits") as opened:
        if opened:
            figure = charts.spectrum({name.upper(): some for name, some in values.items()})
            downloads.figure(figure, "spectrum", f"{head}.singular-values")
