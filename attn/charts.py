"""Domain → what a page draws: Plotly figures, and shades for small pictures. No Streamlit.

Plotly is imported when a figure is made, not before. Every label that comes from a text goes
through :func:`label`: Plotly reads some HTML in its labels.

One colour scale serves all: "mako" without its blackest tenth, which runs evenly in lightness from
dark violet through blue and teal to pale green, so it reads on light and dark pages and without
colour vision. Shares of attention lie on it as :mod:`attn.scales` says, by square root unless
a page says otherwise: 0.01 is a tenth of the scale, 0.25 half of it.
"""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any

import numpy as np

from attn.heads import HeadId
from attn.scales import SCALES, places, said, shares, ticks
from attn.texts import shown

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
PARTS = ("#8a94a6", "#4c6ef5", "#15aabf", "#fab005", "#f76707", "#be4bdb", "#adb5bd")
"""The parts of a budget, sink first: apart in lightness as well as in hue."""

MARK = "#f76707"
"""The colour that marks what is selected; nowhere in the scale."""

_CLEAR = "rgba(0,0,0,0)"
_MONO = "ui-monospace, SFMono-Regular, Menlo, Consolas, monospace"


def config(figure: Any, name: str) -> dict[str, Any]:
    """Options of Plotly's own tools: few buttons, none but saving where nothing can be dragged.

    ``name`` of the file, without ending, that the figure is saved as.
    """
    buttons = [
        ["toImage"],
        *([["zoom2d", "pan2d", "resetScale2d"]] if figure.layout.dragmode else []),
    ]
    return {
        "displayModeBar": "hover",
        "displaylogo": False,
        "doubleClick": "reset",
        "modeBarButtons": buttons,
        "scrollZoom": False,
        "showTips": False,
        "toImageButtonOptions": {"format": "png", "filename": name, "scale": 2},
    }


def library() -> str:
    """The JavaScript that draws figures, for pages that bring it along: 4.8 MB."""
    from plotly.offline import get_plotlyjs

    script: str = get_plotlyjs()
    return script


def label(text: str, longest: int = 24) -> str:
    """A token's text as Plotly may draw it: visible, short, and with no HTML left in it."""
    text = shown(text)
    text = text if len(text) <= longest else text[: longest - 1] + "…"
    return html.escape(text).replace("$", "&#36;")


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


def grid(
    values: np.ndarray,
    selected: HeadId,
    *,
    unit: str,
    low_high: tuple[float, float | None],
    highest: int = 960,
) -> Any:
    """Layer × head heat map of one metric, with the selected head framed.

    ``values`` (layer, head) float; NaN leaves a cell empty. Clicks land on invisible squares, one a
    cell, whose customdata is (layer, head, value). ``unit`` labels the scale; ``low_high`` is the
    metric's range, as in :data:`attn.metrics.METRICS`: shares, 0 to 1, are drawn by their square
    root up to the highest; else the colours run evenly over the range, where an end of None is the
    values' own. ``highest`` pixels that the figure may take.

    >>> head = attn.HeadId.parse("L18H6")
    >>> figure = attn.charts.grid(
    ...     index.metric("induction"), head, unit="share of attention", low_high=(0, 1)
    ... )
    >>> figure.data[0].z.shape
    (30, 9)
    """
    import plotly.graph_objects as go

    values = np.asarray(values, np.float32)
    n_layers, n_heads = values.shape
    finite = values[np.isfinite(values)]
    share = low_high == (0.0, 1.0)
    if low_high[1] is None:
        low = float(finite.min()) if finite.size else 0.0
        high = max(float(finite.max(initial=0.0)), low + 1e-6)
    else:
        low, high = low_high[0], low_high[1]
    if share:
        high = max(float(finite.max(initial=0.0)), 1e-6)
    scale = {"zmin": 0.0, "zmax": 1.0} if share else {"zmin": low, "zmax": high}
    bar = (_bar("root", high) if share else _bar()) | {"title": {"text": unit, "side": "right"}}
    layer, head = np.divmod(np.arange(values.size), n_heads)
    names = [str(HeadId(int(a), int(b))) for a, b in zip(layer, head, strict=True)]
    height = int(np.clip(18 * n_layers + 60, 240, highest))
    figure = go.Figure(
        go.Heatmap(
            z=places(values, "root", high).astype(np.float32) if share else values,
            colorscale=list(MAKO),
            xgap=1,
            ygap=1,
            hoverinfo="skip",
            colorbar=bar,
            **scale,
        )
    )
    hidden = {"marker": {"opacity": 0}}
    figure.add_scatter(
        x=head.astype(np.int16),
        y=layer.astype(np.int16),
        mode="markers",
        marker={"symbol": "square", "size": 16, "opacity": 0, "color": MARK},
        selected=hidden,
        unselected=hidden,
        text=names,
        customdata=np.stack([layer, head, values.reshape(-1)], axis=1).astype(np.float32),
        hovertemplate="%{text}: %{customdata[2]:.4f}<extra></extra>",
        showlegend=False,
    )
    x, y = selected.head, selected.layer
    figure.add_shape(
        type="rect",
        x0=x - 0.5,
        x1=x + 0.5,
        y0=y - 0.5,
        y1=y + 0.5,
        line={"color": MARK, "width": 3},
    )
    figure.update_layout(
        height=height,
        margin={"l": 44, "r": 8, "t": 8, "b": 44},
        plot_bgcolor=_CLEAR,
        hovermode="closest",
        hoverdistance=60,
        dragmode=False,
        clickmode="event+select",
    )
    figure.update_xaxes(
        title="head",
        dtick=max(1, -(-n_heads // 16)),
        range=[-0.5, n_heads - 0.5],
        automargin=False,
        **_plain(),
    )
    figure.update_yaxes(
        title="layer",
        dtick=max(1, -(-14 * n_layers // (height - 52))),
        range=[n_layers - 0.5, -0.5],
        automargin=False,
        **_plain(),
    )
    return figure


def scatter(
    values: tuple[np.ndarray, np.ndarray, np.ndarray],
    titles: tuple[str, str, str],
    selected: HeadId,
) -> Any:
    """Every head as a point, by two metrics, coloured by a third; the selected one is ringed.

    ``values`` (layer, head) float of x, y and colour; a head without one of them is left out;
    ``titles`` of the three. The customdata of a point is (layer, head, colour).

    >>> names = ("sink", "entropy", "induction")
    >>> values = tuple(index.metric(name) for name in names)
    >>> figure = attn.charts.scatter(values, names, attn.HeadId.parse("L18H6"))
    >>> figure.data[0].customdata.shape
    (270, 3)
    """
    import plotly.graph_objects as go

    x, y, colour = (np.asarray(one, np.float64).reshape(-1) for one in values)
    layer, head = np.divmod(np.arange(x.size), values[0].shape[1])
    names = np.array([str(HeadId(int(a), int(b))) for a, b in zip(layer, head, strict=True)])
    mine = (layer == selected.layer) & (head == selected.head)
    order = np.lexsort((colour, mine))  # the brightest above the others, the selected above all
    some = order[(np.isfinite(x) & np.isfinite(y) & np.isfinite(colour))[order]]
    figure = go.Figure(
        go.Scatter(
            x=x[some],
            y=y[some],
            mode="markers",
            marker={
                "size": np.where(mine, 16, 10)[some],
                "color": colour[some],
                "colorscale": list(MAKO),
                "colorbar": _bar() | {"title": {"text": titles[2], "side": "right"}},
                "line": {
                    "width": np.where(mine, 3, 0.5)[some],
                    "color": np.where(mine, MARK, "#8a94a6")[some],
                },
            },
            selected={"marker": {"opacity": 1}},
            unselected={"marker": {"opacity": 1}},
            text=names[some],
            customdata=np.stack([layer, head, colour], 1)[some],
            hovertemplate=f"%{{text}}<br>{titles[0]} %{{x:.4f}}<br>{titles[1]} %{{y:.4f}}"
            f"<br>{titles[2]} %{{customdata[2]:.4f}}<extra></extra>",
            showlegend=False,
        )
    )
    figure.update_layout(
        height=560,
        margin={"l": 56, "r": 8, "t": 8, "b": 44},
        plot_bgcolor=_CLEAR,
        hovermode="closest",
        dragmode=False,
        clickmode="event+select",
    )
    lines = {"gridcolor": "rgba(128,128,128,.2)", "zerolinecolor": "rgba(128,128,128,.4)"}
    figure.update_xaxes(title=titles[0], fixedrange=True, **lines)
    figure.update_yaxes(title=titles[1], fixedrange=True, **lines)
    return figure


def pattern(
    attention: np.ndarray,
    visible: np.ndarray,
    texts: tuple[str, ...],
    *,
    mark: tuple[int, int] | None = None,
    hide_first: bool = False,
    bidirectional: bool = False,
    scale: str = "root",
    around: tuple[int, int] | None = None,
    highest: int = 800,
) -> Any:
    """Token × token heat map of one head on one text.

    ``attention`` (dst, src) float 0..1; ``visible`` (dst,) how many sources each row sees;
    ``mark`` a (dst, src) to frame; ``hide_first`` leaves the first source out and lets the colours
    run up to the strongest cell that is left; ``texts`` (position,) the tokens; ``bidirectional``
    where rows see later positions; ``scale`` one of :data:`attn.scales.SCALES`; ``around`` the
    first and the last position to show at first; ``highest`` pixels that the figure may take.
    Dragging zooms, a double click returns.

    >>> head, tokens = attn.HeadId.parse("L18H6"), model.encode("one two. one two. one two")
    >>> figure = attn.charts.pattern(
    ...     model.pattern(tokens.ids, head).numpy(),
    ...     model.visible(head.layer, len(tokens)).numpy(),
    ...     tokens.texts,
    ... )
    >>> figure.data[0].z.shape == (len(tokens), len(tokens))
    True
    """
    import plotly.graph_objects as go

    cells = np.array(attention, np.float32)  # (dst, src)
    n = len(cells)
    if not bidirectional:
        cells[np.triu_indices(n, 1)] = np.nan
    if hide_first:
        cells[:, 0] = np.nan
    multiple = cells * np.asarray(visible, np.float32)[:, None]
    finite = cells[np.isfinite(cells)]
    high = max(float(finite.max(initial=0.0)), 0.02) if hide_first else 1.0
    names = [f"{i} {label(text, 16)}" for i, text in enumerate(texts)]
    figure = go.Figure(
        go.Heatmap(
            z=cells,
            x=names,
            y=names,
            zmin=0.0,
            zmax=high,
            colorscale=_stretched(scale, high),
            showscale=False,
            customdata=multiple[:, :, None],
            hovertemplate=(
                "looks from %{y}<br>at %{x}<br>attention %{z:.4f}"
                "<br>multiple %{customdata[0]:.2f}×<extra></extra>"
            ),
            hoverongaps=False,
        )
    )
    bar = {"orientation": "h", "x": 0.5, "y": 1, "yanchor": "bottom", "len": 0.9}
    title = {"text": f"attention, {SCALES[scale].lower()} scale", "side": "top"}
    figure.add_scatter(  # draws nothing but the legend: the colours at equal steps
        x=[None],
        y=[None],
        marker={
            "color": [0],
            "cmin": 0,
            "cmax": 1,
            "colorscale": list(MAKO),
            "colorbar": _bar(scale, high) | bar | {"title": title},
        },
        hoverinfo="skip",
        showlegend=False,
    )
    first, last = around or (0, n - 1)
    if mark is not None:
        dst, src = mark
        half = max(0.5, (last + 1 - first) / 80)
        figure.add_shape(
            type="rect",
            x0=src - half,
            x1=src + half,
            y0=dst - half,
            y1=dst + half,
            line={"color": MARK, "width": 2.5},
        )
    figure.update_layout(
        height=int(np.clip(20 * (last + 1 - first) + 200, 380, highest)),
        margin={"l": 8, "r": 8, "t": 8, "b": 8},
        plot_bgcolor=_CLEAR,
        dragmode="zoom",
    )
    axis = _plain() | {
        "type": "category",  # Plotly then leaves out the labels that have no room
        "tickfont": {"family": _MONO, "size": 10},
        "automargin": True,
        "fixedrange": False,
        "constrain": "domain",
    }
    ends = (first - 0.5, last + 0.5)
    figure.update_xaxes(
        title={"text": "source: the token looked at", "standoff": 12},
        tickangle=-90,
        range=ends,
        **axis,
    )
    figure.update_yaxes(
        title="destination",
        range=ends[::-1],
        scaleanchor="x",  # cells are squares, also when zoomed
        constraintoward="top",
        **axis,
    )
    return figure


def budget(heads: Mapping[str, Mapping[str, float]], titles: Mapping[str, str]) -> Any:
    """One bar a head, which is its whole attention, cut into its parts; ``titles`` name them.

    ``heads`` a head's name → name → share, 0..1, adding to 1; one head alone is not named.

    >>> parts = index.budget(attn.HeadId.parse("L18H6"))
    >>> figure = attn.charts.budget({"L18H6": parts}, {name: name for name in parts})
    >>> [bar.name for bar in figure.data] == list(parts)
    True
    """
    import plotly.graph_objects as go

    figure = go.Figure()
    for i, (name, title) in enumerate(titles.items()):
        shares = [parts[name] for parts in heads.values()]
        figure.add_bar(
            x=shares,
            y=list(heads) if len(heads) > 1 else [""],
            orientation="h",
            name=title,
            text=[f"{100 * share:.0f} %" if share >= 0.06 else "" for share in shares],
            textposition="inside",
            insidetextanchor="middle",
            insidetextfont={"color": "#0b1013"},
            marker={"color": PARTS[i % len(PARTS)], "line": {"width": 0}},
            hovertemplate=f"{title}: %{{x:.2%}}<extra></extra>",
        )
    figure.update_layout(
        barmode="stack",
        height=84 + 44 * len(heads),
        margin={"l": 0, "r": 0, "t": 4, "b": 80},  # four lines of legend, where it is narrow
        plot_bgcolor=_CLEAR,
        dragmode=False,
        legend={
            "orientation": "h",
            "y": 0,
            "yanchor": "top",
            "traceorder": "normal",
            "maxheight": 1,
        },
    )
    figure.update_xaxes(range=[0, 1], visible=False, fixedrange=True)
    figure.update_yaxes(visible=len(heads) > 1, fixedrange=True, autorange="reversed", title=None)
    return figure


def spectrum(values: Mapping[str, np.ndarray]) -> Any:
    """The singular values of a head's circuits, one line a circuit, falling.

    ``values`` a circuit's name → (d_head,) singular values.

    >>> found = index.singular_values(attn.HeadId.parse("L18H6"))
    >>> figure = attn.charts.spectrum(found)
    >>> [len(line.y) for line in figure.data]
    [64, 64]
    """
    import plotly.graph_objects as go

    figure = go.Figure()
    for (name, singular), colour, dash in zip(
        values.items(), (MAKO[3], MARK), ("solid", "dot"), strict=False
    ):
        figure.add_scatter(
            x=np.arange(1, len(singular) + 1),
            y=np.asarray(singular, np.float32),
            name=name,
            mode="lines",
            line={"color": colour, "width": 2.5, "dash": dash},
            hovertemplate=f"{name}: number %{{x}}, %{{y:.3f}}<extra></extra>",
        )
    figure.update_layout(
        height=260,
        margin={"l": 56, "r": 8, "t": 8, "b": 44},
        plot_bgcolor=_CLEAR,
        dragmode=False,
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"},
    )
    lines = {"gridcolor": "rgba(128,128,128,.2)", "fixedrange": True}
    figure.update_xaxes(title="direction, the largest first", **lines)
    figure.update_yaxes(title="singular value", rangemode="tozero", **lines)
    return figure


def _stretched(scale: str, high: float) -> list[tuple[float, str]]:
    """The colours for a scale of shares, 0 to ``high``, that Plotly takes to be even."""
    steps = np.linspace(0, 1, 65)
    ends = shares(steps, scale, high) / high
    ends[[0, -1]] = 0, 1
    colours = palette()[np.rint(255 * steps).astype(int)]
    return [(float(e), f"rgb({r},{g},{b})") for e, (r, g, b) in zip(ends, colours, strict=True)]


def _bar(scale: str | None = None, high: float = 1.0) -> dict[str, Any]:
    """The legend of a scale; that of shares runs over places, 0 to 1, and is labelled by them."""
    bar: dict[str, Any] = {"thickness": 10, "outlinewidth": 0}
    if scale is None:
        return bar
    kept = ticks(scale, high)
    text = [said(tick, scale) for tick in kept]
    return bar | {"tickvals": places(np.array(kept), scale, high), "ticktext": text, "tickangle": 0}


def _plain() -> dict[str, Any]:
    return {"showgrid": False, "zeroline": False, "ticks": "", "fixedrange": True}
