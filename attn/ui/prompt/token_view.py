"""The token view: a text of which every token shows where it looks, and what looks at it.

Pointing, keys and the slider of heads work without the server. What belongs in a link comes back
as a change: the selected token, pairs, the scale, visible spaces, the head.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import streamlit as st

from attn.formatting import shown
from attn.heads import HeadId, Tokens, Window
from attn.show.token_html import direction, explained
from attn.ui.components import base64_of
from attn.ui.library import LayerReading
from attn.ui.sidebar import select

MOST_BYTES = 4_000_000
"""The most bytes of a layer's patterns. Above that, only the selected head's are sent."""

_FOLDER = Path(__file__).parent
_RADIOS = "".join(
    f'<label><input type="radio" name="shade" value="{mode}"> {mode}</label>'
    for mode in ("attention", "multiple", "write")
)
_HTML = f"""<div class="view">
<div class="bar">
<fieldset><legend>Colour by</legend>{_RADIOS}</fieldset>
<label><input type="checkbox"> Spaces and line ends</label>
<label class="heads">Head
<input type="range" min="0" step="1" aria-label="Head of this layer"> <b></b>
</label>
</div>
<div class="text" role="group" aria-label="Tokens of the text"></div>
<div class="told" role="status"></div>
<p class="hint"></p>
</div>"""

_view = st.components.v2.component(
    "attn_token_view",
    html=_HTML,
    css=(_FOLDER / "token_view.css").read_text(encoding="utf-8"),
    js=(_FOLDER / "token_view.js").read_text(encoding="utf-8"),
)


def plain_text(text: str) -> str:
    """A token's text with spaces and line ends kept, and other invisible characters as codes."""
    return "".join(char if char in " \n\t" else shown(char) for char in text)


def packed(patterns: np.ndarray, *, causal: bool) -> np.ndarray:
    """(head, cells) float16: each pattern row by row; of causal ones, only the visible cells."""
    half = np.asarray(patterns, np.float16)
    if not causal:
        return half.reshape(len(half), -1)
    return half[:, *np.tril_indices(half.shape[1])]


def token_view(
    tokens: Tokens | Window,
    layer: LayerReading,
    head: HeadId,
    *,
    bidirectional: bool,
    bos: bool,
    held: int,
    pairs: list[tuple[int, int]],
    on_pair: Callable[[int, int], None] | None = None,
) -> None:
    """Draw the view of one head on one text.

    ``tokens`` of the text; ``layer`` the reading of the head's layer; ``held`` the token whose
    looks stay, -1 for none; ``pairs`` (destination, source) that are marked; ``on_pair`` what a
    click on a second token calls, none where a click always holds.
    """
    key, causal, texts = "token_view", not bidirectional, tokens.texts
    n = len(texts)
    names, kinds = tokens.names or texts, tokens.kinds or ("",) * n
    cells = packed(layer.patterns, causal=causal)
    all_heads = cells.nbytes <= MOST_BYTES
    start = 0 if all_heads else head.head
    stop = len(cells) if all_heads else head.head + 1
    sent = cells[start:stop]
    digest = hashlib.sha1(sent.tobytes(), usedforsecurity=False)
    digest.update("\0".join(texts).encode("utf-8", "replace"))

    def changed() -> None:
        change: dict[str, Any] = st.session_state[key].change or {}
        if "head" in change:
            select(HeadId(head.layer, min(max(int(change["head"]), 0), len(cells) - 1)))
        for name in ("shade", "marks"):
            if name in change:
                st.session_state[name] = change[name]
        if "held" in change:
            st.session_state["held"] = max(int(change["held"]), -1)
        if "pair" in change and on_pair is not None:
            dst, src = change["pair"]
            on_pair(int(dst), int(src))

    _view(
        key=key,
        data={
            "id": digest.hexdigest(),
            "plain": [plain_text(text) for text in texts],
            "visible_texts": [shown(text) for text in tokens.labels],
            "kinds": ["special" if bos and not i else kinds[i] for i in range(n)],
            "dir": direction(texts, kinds),
            "notes": [explained(*one) for one in zip(texts, names, kinds, strict=True)],
            "visible": [int(n) for n in layer.visible],
            "names": [str(HeadId(head.layer, number)) for number in range(len(cells))],
            "head": head.head,
            "start": start,
            "sent": len(sent),
            "patterns": base64_of(sent, np.float16),
            "norms": base64_of(layer.norms[start:stop], np.float32),
            "causal": causal,
            "bos": bos,
            "rest": bool(st.session_state["rest"]),
            "shade": st.session_state["shade"],
            "marks": bool(st.session_state["marks"]),
            "held": held if held < len(texts) else -1,
            "pairs": [list(pair) for pair in pairs],
            "pairable": on_pair is not None,
        },
        on_change_change=changed,
    )
