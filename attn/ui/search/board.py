"""The board: a grid of a text's pairs to draw on, over the pattern of the selected head."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import streamlit as st

from attn.formatting import shown
from attn.show import charts
from attn.ui.components import base64_of
from attn.ui.state import write_pairs

_FOLDER = Path(__file__).parent
_HTML = """<div class="board">
<div class="room"><canvas tabindex="0" role="application" aria-describedby="told"
  aria-label="Cells: rows look, columns are looked at. Arrow keys move, Space draws."></canvas>
</div>
<div class="told" id="told" role="status"></div>
</div>"""

_board = st.components.v2.component(
    "attn_board",
    html=_HTML,
    css=(_FOLDER / "board.css").read_text(encoding="utf-8"),
    js=(_FOLDER / "board.js").read_text(encoding="utf-8"),
)


def board(
    texts: tuple[str, ...],
    pattern: np.ndarray,
    cells: np.ndarray,
    *,
    bidirectional: bool,
    on_draw: Callable[[str], None],
) -> None:
    """Draw the board of a text. When a stroke ends, ``on_draw`` gets all drawn cells as text.

    ``texts`` (position,); ``pattern`` (dst, src) attention of the selected head, drawn beneath;
    ``cells`` (dst, src) bool, those asked for. The text is one that ``state.read_pairs`` reads.
    """
    key = "board"

    def changed() -> None:
        change = st.session_state[key].change
        if change:
            st.session_state["_stroke"] = int(change["stroke"])
            on_draw(str(change["cells"]))

    _board(
        key=key,
        data={
            "texts": [shown(text) for text in texts],
            "shades": base64_of(charts.shades(pattern)),
            "palette": base64_of(charts.palette()),
            "cells": write_pairs([(int(dst), int(src)) for dst, src in np.argwhere(cells)]),
            "causal": not bidirectional,
            "stroke": st.session_state.get("_stroke", 0),
        },
        on_change_change=changed,
    )
