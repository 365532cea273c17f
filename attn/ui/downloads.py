"""Downloads: tables, figures and a head's report. They are made when their button is clicked."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import streamlit as st

from attn.show import charts, html_page
from attn.ui.components import save_picture
from attn.ui.sidebar import View

Columns = Mapping[str, Sequence[Any]]


def as_csv(columns: Columns) -> str:
    """A table as CSV: the names, then one line for each row; empty where there is no number."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    for row in zip(*columns.values(), strict=True):
        writer.writerow(["" if isinstance(v, float) and math.isnan(v) else v for v in row])
    return out.getvalue()


def as_parquet(columns: Columns) -> bytes:
    """A table as the bytes of a Parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    out = io.BytesIO()
    pq.write_table(pa.table({name: list(values) for name, values in columns.items()}), out)
    return out.getvalue()


def _made(kind: Callable[[Columns], str | bytes], columns: Callable[[], Columns]) -> str | bytes:
    return kind(columns())


def buttons(what: str, name: str, columns: Callable[[], Columns]) -> None:
    """Two buttons that save a table as ``name`` with the ending of its kind."""
    kinds: tuple[tuple[str, str, str, Callable[[Columns], str | bytes]], ...] = (
        ("CSV", "csv", "text/csv", as_csv),
        ("Parquet", "parquet", "application/vnd.apache.parquet", as_parquet),
    )
    with st.container(horizontal=True, gap="xsmall"):
        for title, ending, mime, made in kinds:
            st.download_button(
                f"{what} as {title}",
                partial(_made, made, columns),
                f"{name}.{ending}",
                mime,
                key=f"download {ending}",
                icon=":material/download:",
                on_click="ignore",
            )


def figure(drawn: Any, key: str, name: str, **options: Any) -> None:
    """A Plotly figure with a menu that saves it as PNG, SVG and a page of its own.

    ``key`` of the chart, ``name`` of the files, ``options`` of ``st.plotly_chart``.
    """
    st.plotly_chart(drawn, key=key, config=charts.config(drawn, name), **options)
    with (
        st.container(horizontal=True, horizontal_alignment="right"),
        st.popover("Save figure", icon=":material/download:", type="tertiary"),
    ):
        save_picture(key)
        st.download_button(
            "Interactive HTML",
            partial(_page, drawn, name),
            f"{name}.html",
            "text/html",
            key=f"html {key}",
            help="One file of some 5 MB that needs no network.",
            on_click="ignore",
            width="stretch",
        )


def _page(drawn: Any, name: str) -> str:
    return html_page.page(name, html_page.place(name), {name: drawn})


def report(view: View) -> None:
    """A button that saves the selected head's report as one HTML page."""
    from attn.show.report import file_name
    from attn.show.report import report as made

    index, head = view.index, view.head
    st.download_button(
        "Download report",
        partial(made, index, head),
        file_name(index, head),
        "text/html",
        key="download report",
        icon=":material/download:",
        help=f"All of {head} as one HTML file of some 5 MB that needs no network: numbers, maps, "
        "examples, descriptions, definitions.",
        on_click="ignore",
    )
