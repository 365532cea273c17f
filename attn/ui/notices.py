"""Notices for the user. Text from elsewhere is escaped, so that it shows as plain characters."""

from __future__ import annotations

import re

import streamlit as st

_PUNCTUATION = re.compile(r"([!-/:-@\[-`{-~])")
_ADDRESS = re.compile(r"(?<=:)(?=//)|(?<=www)(?=\.)|(?=@)", re.IGNORECASE)
_JOINER = "\u2060"  # has no width; Markdown would make a link of an address even where escaped


def plain(text: str) -> str:
    """Markdown that shows ``text`` literally: no links, pictures, directives or formulas."""
    line = _ADDRESS.sub(_JOINER, re.sub(r"\s+", " ", text))
    return _PUNCTUATION.sub(r"\\\1", line)


def sentence(text: str) -> str:
    """Markdown of a message: `code` in backticks is kept, everything else shows literally."""
    parts = re.sub(r"\s+", " ", text).split("`")
    if len(parts) % 2 == 0:
        return plain(text)
    return "".join(f"`{part}`" if i % 2 and part else plain(part) for i, part in enumerate(parts))


def warn(text: str) -> None:
    """Show a warning: something differs from what was asked for."""
    st.warning(sentence(text), icon=":material/info:")


def fail(text: str) -> None:
    """Show an error: something did not work."""
    st.error(sentence(text), icon=":material/error:")
