"""What a page shows as files: tables, and a head's report. They are made on the click."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import streamlit as st

from attn.ui.sidebar import View

Columns = Mapping[str, Sequence[Any]]


def as_csv(columns: Columns) -> str:
    """One line a row, under the names; empty where there is no number."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    for row in zip(*columns.values(), strict=True):
        writer.writerow(["" if isinstance(v, float) and math.isnan(v) else v for v in row])
    return out.getvalue()


def as_parquet(columns: Columns) -> bytes:
    """The same as a Parquet file."""
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


def report(view: View) -> None:
    """A button that saves all that the index says of the selected head as one HTML page."""
    from attn.report import file_name
    from attn.report import report as made

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
