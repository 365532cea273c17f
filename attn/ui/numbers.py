"""What a head's numbers are and mean: the lower part of the Heads page."""

from __future__ import annotations

import numpy as np
import streamlit as st

from attn.heads import HeadId
from attn.index import Index
from attn.metrics import METRICS, Metric
from attn.ui.router import page_link
from attn.ui.sidebar import View


def explain(metric: Metric) -> str:
    """A metric in one line of Markdown: what it is, its range, when to distrust it."""
    low, high = metric.low_high
    span = f"From {low:g} up" if high is None else f"{low:g} to {high:g}"
    return f"**{metric.title}** · {metric.text} {span}, {metric.unit}. *Mind:* {metric.warning}"


def best_heads(index: Index, name: str, n: int, *, lowest: bool) -> list[tuple[HeadId, float]]:
    """The ``n`` heads with the highest value of a metric, or the lowest; none without a value."""
    values = index.metric(name)
    order = np.argsort(values if lowest else -values, axis=None, kind="stable")
    heads = (HeadId(*divmod(int(place), values.shape[1])) for place in order)
    pairs = ((head, float(values[head.layer, head.head])) for head in heads)
    return [(head, value) for head, value in pairs if np.isfinite(value)][:n]


def selected(view: View) -> None:
    """The selected head, and what to do next with it."""
    with st.container(border=True, gap="xsmall"):
        st.markdown(f"**{view.head}** is selected")
        page_link(view, "examples", "See where it looks")
        page_link(view, "prompt", "Try it on your text")
        page_link(view, "describe", "Ask what it does")


def numbers(view: View) -> None:
    """Every metric of the selected head, and its place among all heads."""
    index, head = view.index, view.head
    st.subheader(f"Head {head} in numbers", anchor=False)
    with st.grid(5, min_column_width=170, gap="xsmall"):
        for name, value in index.numbers(head).items():
            _number(METRICS[name], value, index.metric(name))
    st.caption(
        f"Means over {index.rows(head):,} rows; {index.pairs(head):,} pairs above average. The "
        "small number is the head's place among all, the highest first."
    )
    if index.nonfinite(head):
        st.warning(f"{index.nonfinite(head):,} rows are left out: their attention is not finite.")


def _number(metric: Metric, value: float, everyone: np.ndarray) -> None:
    rank = int((everyone > value).sum()) + 1
    st.metric(
        metric.title.replace(" on random tokens", ", random")
        if metric.low_high[1] is not None
        else f"{metric.title} ({metric.unit})",
        f"{value:.3f}" if metric.low_high[1] is not None else f"{value:.2f}",
        f"{rank} of {everyone.size}",
        delta_color="off",
        delta_arrow="off",
        help=f"{metric.text} `{metric.formula}`. {metric.warning}",
        border=True,
    )
