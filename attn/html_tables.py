"""Rows → an HTML table, as notebooks show values. Whatever comes from a text is escaped here."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

from attn.formatting import shown


class Safe(str):
    """HTML that is whole and safe already: it goes into a table as it is."""

    __slots__ = ()


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], title: str = "") -> str:
    """A table as HTML; a cell is text, which is escaped, or :class:`Safe`.

    >>> table(["token"], [["<b>"]], "one")
    '<table><caption>one</caption><tr><th>token</th></tr><tr><td>&lt;b&gt;</td></tr></table>'
    """
    caption = f"<caption>{_cell(title)}</caption>" if title else ""
    head = "".join(f"<th>{_cell(column)}</th>" for column in columns)
    body = "".join(
        "<tr>" + "".join(f"<td>{_cell(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f"<table>{caption}<tr>{head}</tr>{body}</table>"


def _cell(cell: object) -> str:
    return cell if isinstance(cell, Safe) else html.escape(shown(str(cell), " "))
