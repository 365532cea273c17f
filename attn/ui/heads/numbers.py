"""What a head's numbers are and mean: the lower part of the Heads page."""

from __future__ import annotations

import numpy as np
import streamlit as st

from attn.analyse.roles import roles
from attn.analyse.summary import not_measured, summary
from attn.formatting import shown
from attn.heads import HeadId
from attn.index.index import Index
from attn.index.token_tables import TokenRow
from attn.measure.budget import PART_TITLES
from attn.measure.metrics import Metric
from attn.show import charts
from attn.ui import downloads
from attn.ui.components import details
from attn.ui.heads import effects
from attn.ui.notices import plain
from attn.ui.router import page_link
from attn.ui.sidebar import View

MOST_TOKENS = 200


def explain(metric: Metric) -> str:
    """A metric in one line of Markdown: what it is, its range, when to distrust it."""
    return (
        f"**{metric.title}** · {metric.text} {metric.span}, {metric.unit}. *Mind:* {metric.warning}"
    )


def best_heads(
    index: Index, name: str, n: int, *, lowest: bool, meant: np.ndarray
) -> list[tuple[HeadId, float]]:
    """The ``n`` heads with the highest value of a metric, or the lowest; none without a value.

    ``meant`` (layer, head) bool: which heads may be among them.
    """
    values = np.where(meant, index.metric(name), np.nan)
    order = np.argsort(values if lowest else -values, axis=None, kind="stable")
    heads = (HeadId(*divmod(int(place), values.shape[1])) for place in order)
    pairs = ((head, float(values[head.layer, head.head])) for head in heads)
    return [(head, value) for head, value in pairs if np.isfinite(value)][:n]


def selected(view: View) -> None:
    """Show the selected head, with links to what can be done next."""
    with st.container(border=True, gap="xsmall"):
        st.markdown(f"**{view.head}** is selected")
        for role in roles(view.index, view.head):
            meant = view.index.definition(role.metric)
            st.badge(str(role), color="blue", help=f"{meant.text} {meant.warning}")
        page_link(view, "examples", "See where it looks")
        page_link(view, "prompt", "Try it on your text")
        page_link(view, "describe", "Ask what it does")


def numbers(view: View) -> None:
    """Show the selected head in words, and its budget, tokens and metrics."""
    index, head = view.index, view.head
    with st.container(horizontal=True, vertical_alignment="center"):
        st.subheader(f"Head {head} in numbers", anchor=False)
        downloads.report(view)
    st.markdown(plain(summary(index, head)))
    effects.line(view)
    if not index.rows(head):
        return
    figure = charts.budget({str(head): index.budget(head)}, PART_TITLES)
    downloads.figure(figure, "budget", f"{head}.budget")
    found = index.numbers(head)
    _cards(view, {name: found[name] for name in index.main_metrics})
    st.caption(
        f"Means over {index.rows(head):,} rows; {index.pairs(head):,} pairs above average. The "
        "small number is the head's place among all, the highest first."
    )
    with details("All metrics", "metrics") as opened:
        if opened:
            first = index.main_metrics
            _cards(view, {name: value for name, value in found.items() if name not in first})
            if index.not_measured:
                st.caption(plain(not_measured(index)))
    with details("Tokens it looks at, and from", "tokens") as opened:
        if not opened:
            return
        left, right = st.columns(2, gap="medium")
        with left:
            _tokens("Looked at most, over the whole corpus", index.sources(head), "lift")
        with right:
            _tokens("From where it looks, not resting", index.destinations(head), "a row")


def _cards(view: View, found: dict[str, float]) -> None:
    with st.grid(5, min_column_width=170, gap="xsmall"):
        for name, value in found.items():
            _number(view.index.definition(name), value, view.index.metric(name))


def _tokens(title: str, rows: list[TokenRow], lift: str) -> None:
    """A token table, the largest mass first."""
    st.markdown(f"**{title}**")
    st.dataframe(
        {
            "token": [shown(row.token) for row in rows[:MOST_TOKENS]],
            "mass": [row.mass for row in rows[:MOST_TOKENS]],
            lift: [row.lift for row in rows[:MOST_TOKENS]],
            "pairs": [row.pairs for row in rows[:MOST_TOKENS]],
            "best": [row.maximum for row in rows[:MOST_TOKENS]],
            "times": [row.count for row in rows[:MOST_TOKENS]],
        },
        column_config={
            "mass": st.column_config.NumberColumn(format="%.1f", help="Attention, added up."),
            lift: st.column_config.NumberColumn(
                format="%.2f",
                help="Mass over what a head that looks evenly would give it."
                if lift == "lift"
                else "Mass a row that begins at this token.",
            ),
            "pairs": st.column_config.NumberColumn(help="Pairs above average."),
            "best": st.column_config.NumberColumn(format="%.1f×", help="Its best multiple."),
            "times": st.column_config.NumberColumn(help="How often it stands in the corpus."),
        },
        hide_index=True,
        height=320,
    )


def _number(metric: Metric, value: float, everyone: np.ndarray) -> None:
    known = np.isfinite(value)  # unknown in layers without attention, and where no row counts
    rank = f"{int((everyone > value).sum()) + 1} of {int(np.isfinite(everyone).sum())}"
    st.metric(
        metric.title.replace(" on random tokens", ", random")
        if metric.low_high[1] is not None
        else f"{metric.title} ({metric.unit})",
        (f"{value:.3f}" if metric.low_high[1] is not None else f"{value:.2f}") if known else "none",
        rank if known else None,
        delta_color="off",
        delta_arrow="off",
        help=f"{metric.text} `{metric.formula}`. {metric.warning}",
        border=True,
    )
