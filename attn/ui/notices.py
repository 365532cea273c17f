"""Sentences for the user. What others wrote shows as the characters it is."""

from __future__ import annotations

import re

import streamlit as st

_PUNCTUATION = re.compile(r"([!-/:-@\[-`{-~])")
_ADDRESS = re.compile(r"(?<=:)(?=//)|(?<=www)(?=\.)|(?=@)", re.IGNORECASE)
_JOINER = "\u2060"  # has no width; Markdown would make a link of an address even where escaped


def plain(text: str) -> str:
    """Markdown that shows ``text`` as it is: no link, picture, directive or formula in it."""
    line = _ADDRESS.sub(_JOINER, re.sub(r"\s+", " ", text))
    return _PUNCTUATION.sub(r"\\\1", line)


def sentence(text: str) -> str:
    """Markdown of a message whose `code` in backticks may stand; all else shows as it is."""
    parts = re.sub(r"\s+", " ", text).split("`")
    if len(parts) % 2 == 0:
        return plain(text)
    return "".join(f"`{part}`" if i % 2 and part else plain(part) for i, part in enumerate(parts))


def warn(text: str) -> None:
    """A notice that something is not as asked."""
    st.warning(sentence(text), icon=":material/info:")


def fail(text: str) -> None:
    """A notice that something did not work."""
    st.error(sentence(text), icon=":material/error:")
