"""The colour scale and the colours of marks and budgets."""

from __future__ import annotations

import numpy as np

from attn.show.scales import places, shares

MAKO = (
    "#28192f",
    "#3b2f5e",
    "#40498e",
    "#366a9f",
    "#348aa6",
    "#38aaac",
    "#54c9ad",
    "#a0dfb9",
    "#def5e5",
)


PARTS = (
    "#8a94a6", "#4c6ef5", "#15aabf", "#5c6b80", "#fab005", "#f76707", "#be4bdb", "#adb5bd",
)  # fmt: skip
"""The parts of a budget, sink first: apart in lightness as well as in hue."""


MARK = "#f76707"
"""The colour that marks what is selected; nowhere in the scale."""


def palette() -> np.ndarray:
    """(256, 3) uint8: the colour scale as red, green, blue."""
    anchors = np.array([[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in MAKO], np.float64)
    place = np.linspace(0, 1, len(MAKO))
    steps = np.linspace(0, 1, 256)
    channels = [np.interp(steps, place, anchors[:, i]) for i in range(3)]
    return np.stack(channels, axis=1).round().astype(np.uint8)


def icon() -> str:
    """The tab's icon, as SVG: a small causal pattern with an induction stripe."""
    cells = "".join(
        f'<rect x="{src}" y="{dst}" width="1" height="1" fill="{MAKO[shade]}"/>'
        for dst in range(8)
        for src in range(dst + 1)
        for shade in [7 if dst - src == 3 else 4 if src == 0 else 1]
    )
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 8 8">{cells}</svg>'


def shades(attention: np.ndarray, scale: str = "root") -> np.ndarray:
    """uint8 of the same shape: where on the colour scale each attention (0..1) lies."""
    clean = np.nan_to_num(np.asarray(attention, np.float64), nan=0.0)
    found: np.ndarray = np.rint(255 * places(clean, scale)).astype(np.uint8)
    return found


def stretched(scale: str, high: float) -> list[tuple[float, str]]:
    """The colours for a scale of shares, 0 to ``high``, that Plotly takes to be even."""
    steps = np.linspace(0, 1, 65)
    ends = shares(steps, scale, high) / high
    ends[[0, -1]] = 0, 1
    colours = palette()[np.rint(255 * steps).astype(int)]
    return [(float(e), f"rgb({r},{g},{b})") for e, (r, g, b) in zip(ends, colours, strict=True)]
