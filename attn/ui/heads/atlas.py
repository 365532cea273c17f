"""All heads of the model at once: a map by one metric, points by two, a list, a file."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import streamlit as st

from attn.analyse.filters import LAYER, Range, parse, within, write
from attn.analyse.roles import labels, roles
from attn.analyse.similar import similar
from attn.heads import HeadId
from attn.index.index import Index
from attn.show import charts
from attn.ui import downloads
from attn.ui.heads.numbers import best_heads
from attn.ui.library import with_effects
from attn.ui.sidebar import View, select
from attn.ui.state import VIEWS

BEST = 10
SIMILAR = 6
CAPTIONS = {
    "map": "Each cell is one head: layers down, heads across. Click one to select it.",
    "scatter": "Each point is one head. Click one to select it.",
    "list": "Each row is one head. Click the box at its left to select it.",
}


def with_effect(view: View) -> View:
    """The view, its heads with their effects as one metric more where these were measured."""
    return replace(view, index=with_effects(view.index))


def kind() -> str:
    """Map, scatter or list, by the user's choice."""
    chosen: str | None = st.segmented_control(
        "View", VIEWS, key="view", required=True, format_func=str.capitalize,
        persist_state="session",
    )  # fmt: skip
    return chosen or VIEWS[0]


def metric_picker(index: Index, title: str, key: str) -> str:
    """A choice of one of the index's metrics, kept in the URL."""
    chosen: str = st.selectbox(
        title, index.metric_names, key=key, format_func=lambda name: index.definition(name).title,
        persist_state="session", width=240,
    )  # fmt: skip
    return chosen


def filters(index: Index) -> np.ndarray:
    """A choice of layers and ranges of metrics, kept in the URL → (layer, head) bool."""
    ranges = parse(st.session_state["where"])
    meant = within(index, ranges)
    limits = {one.name: one for one in ranges}
    label = f"Filter: {int(meant.sum())} of {meant.size} heads" if ranges else "Filter"
    with st.popover(
        label, icon=":material/filter_alt:", help="Leave heads out, by layer or metric"
    ):
        if index.manifest.n_layers > 1:
            last = index.manifest.n_layers - 1
            _range(limits.get(LAYER, Range(LAYER)), "Layers", 0, last)
        named = [name for name in limits if name != LAYER]
        if st.session_state.get("_limited") != named:
            st.session_state["_limited"] = named
        st.multiselect(
            "By metric", index.metric_names, key="_limited", on_change=_limit,
            format_func=lambda name: index.definition(name).title,
            placeholder="Choose metrics to limit",
        )  # fmt: skip
        for name in named:
            values = index.metric(name)
            known = values[np.isfinite(values)]
            if known.size and known.min() < known.max():
                _range(
                    limits[name],
                    index.definition(name).title,
                    float(known.min()),
                    float(known.max()),
                )
        st.button("Show all heads", on_click=_unlimited, disabled=not ranges)
    return meant


def _range(limit: Range, title: str, low: float, high: float) -> None:
    """A slider with two ends. An end at the edge of the range means no limit."""
    key = f"_range {limit.name}"
    value = (min(max(limit.low, low), high), max(min(limit.high, high), low))
    if limit.name == LAYER:
        value = int(value[0]), int(value[1])
    if st.session_state.get(key) != value:
        st.session_state[key] = value

    def moved() -> None:
        left, right = st.session_state[key]
        now = {one.name: one for one in parse(st.session_state["where"])}
        now[limit.name] = Range(
            limit.name, left if left > low else -math.inf, right if right < high else math.inf
        )
        st.session_state["where"] = write([*now.values()])

    if limit.name == LAYER:
        st.slider(title, low, high, key=key, on_change=moved)
    else:
        step = (high - low) / 200
        st.slider(title, low, high, key=key, on_change=moved, step=step, format="%.3f")


def _limit() -> None:
    """Give the chosen metrics ranges; existing ranges stay as they are."""
    chosen, before = st.session_state["_limited"], parse(st.session_state["where"])
    known = {one.name: one for one in before}
    layers = [one for one in before if one.name == LAYER]
    st.session_state["where"] = write([*layers, *(known.get(name, Range(name)) for name in chosen)])


def _unlimited() -> None:
    st.session_state["where"] = ""


def ranked(view: View, name: str, meant: np.ndarray) -> None:
    """List the heads that pass the filters, with bars. A click on a row selects its head."""
    index, metric = view.index, view.index.definition(name)
    values = index.metric(name)
    lowest = bool(st.session_state["lowest"])
    found = best_heads(index, name, values.size, lowest=lowest, meant=meant)
    others = [other for other in index.main_metrics if other != name]
    columns: dict[str, list[object]] = {
        "head": [str(head) for head, _ in found],
        "roles": ["; ".join(map(str, roles(index, head))) for head, _ in found],
        metric.title: [value for _, value in found],
    }
    for other in others:
        numbers = index.metric(other)
        columns[index.definition(other).title] = [float(numbers[h.layer, h.head]) for h, _ in found]
    known = values[np.isfinite(values)]
    low = min(0.0, float(known.min(initial=0.0)))
    high = max(float(known.max(initial=0.0)), low + 1e-6)
    key = _key("list")
    st.dataframe(
        columns,
        key=key,
        on_select=_picked(lambda: [found[row][0] for row in st.session_state[key].selection.rows]),
        selection_mode="single-row",
        hide_index=True,
        height=600,
        column_config={
            metric.title: st.column_config.ProgressColumn(
                format="%.3f", min_value=low, max_value=high, help=metric.text
            )
        }
        | {
            index.definition(other).title: st.column_config.NumberColumn(
                format="%.3f", help=index.definition(other).text
            )
            for other in others
        },
    )


def best(view: View, name: str, meant: np.ndarray) -> None:
    """The ten heads with the highest value, or the lowest."""
    lowest = bool(st.session_state["lowest"])
    found = best_heads(view.index, name, BEST, lowest=lowest, meant=meant)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"**{'Lowest' if lowest else 'Highest'} {len(found)}**", width="content")
        st.toggle("Lowest", key="lowest", persist_state="session")
    with st.grid(min_column_width=110, gap="xsmall"):
        for head, value in found:
            text = f"**{head}** {value:.3f}"
            st.button(text, key=f"best {head}", on_click=select, args=(head,), width="stretch")


def draw(view: View, colour: str, scatter: tuple[str, str] | None, meant: np.ndarray) -> None:
    """Draw the heads that pass the filters as a map or scatter. A click selects a head.

    Each click gives the next figure a new key, so that it starts without a selection.
    """
    index, metric = view.index, view.index.definition(colour)
    values = np.where(meant, index.metric(colour), np.nan)
    if scatter is None:
        figure = charts.grid(
            values, view.head, unit=metric.unit, low_high=metric.low_high, labels=labels(index)
        )
    else:
        x, y = scatter
        figure = charts.scatter(
            (index.metric(x), index.metric(y), values),
            (index.definition(x).title, index.definition(y).title, metric.title),
            view.head,
        )
    key, known = _key("grid"), figure.data[-1].customdata

    def clicked() -> list[HeadId]:
        points = st.session_state[key].selection.points
        return [HeadId(*map(int, known[point["point_index"]][:2])) for point in points]

    name = f"{index.name}.{'.'.join([*(scatter or ()), colour])}"
    downloads.figure(figure, key, name, on_select=_picked(clicked), selection_mode="points")


def _key(name: str) -> str:
    return f"{name} {st.session_state.setdefault('_clicks', 0)}"


def _picked(heads: Callable[[], list[HeadId]]) -> Callable[[], None]:
    """A callback that selects the first clicked head; the figure is then drawn anew."""

    def select_head() -> None:
        chosen = heads()
        if chosen:
            st.session_state["_clicks"] += 1
            select(chosen[0])

    return select_head


def table(index: Index) -> dict[str, list[float]]:
    """Column → values of all heads: layer, head, rows and pairs counted, then every metric."""
    heads = index.heads()
    counts = {
        "layer": [head.layer for head in heads],
        "head": [head.head for head in heads],
        "rows": [index.rows(head) for head in heads],
        "pairs": [index.pairs(head) for head in heads],
    }
    metrics = {name: index.metric(name).reshape(-1).tolist() for name in index.metric_names}
    return {**counts, **metrics}


def similar_heads(view: View) -> None:
    """The heads most like the selected one, as buttons."""
    found = similar(view.index, view.head, SIMILAR)
    if not found:
        return
    st.markdown(
        "**Similar heads**",
        help="By all metrics and by the tokens looked at; 0 is the same, two heads drawn at random "
        "are near 1.",
    )
    with st.grid(min_column_width=140, gap="xsmall"):
        for one in found:
            st.button(
                f"**{one.head}** {one.distance:.2f}",
                key=f"similar {one.head}",
                on_click=select,
                args=(one.head,),
                width="stretch",
                help=f"Metrics {one.metrics:.2f}, tokens {one.tokens:.2f}.",
            )
