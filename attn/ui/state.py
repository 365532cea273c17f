"""What a view is made of, kept in the session and in the URL.

Every parameter lives in the session under its name, which is also its widget's key. The URL is read
once when a session starts and whenever the browser goes back or forward; each run writes it anew,
defaults included, so the address is always a permalink.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from attn.analyse.filters import parse, write
from attn.analyse.search import TEMPLATES
from attn.errors import HeadError, QueryError
from attn.heads import HeadId
from attn.index.query import parse_distance
from attn.show.scales import SCALES

MOST_ROWS = 100
MOST_SAMPLES = 100
LONGEST_TEXT = 1500
"""The most characters of a user's text that a link carries."""

TEXT = (
    "Mira Castell opened the old ferry office at seven. By noon, Mira Castell had sold twelve "
    "tickets, and the old ferry office smelled of coffee again."
)

_READ = "_url_read"
_QUESTION = "_question"
_NOTICES = "_url_notices"
_DECIDED = "_url_decided"
_UNREAD = "_url_unread"


@dataclass(frozen=True)
class Param:
    """One value of the URL.

    ``page`` the page that has it, "" for all; ``read`` text → value, ValueError when it is bad;
    ``expected`` what a good value is, for the notice; ``write`` value → text.
    """

    name: str
    page: str
    default: Any
    read: Callable[[str], Any]
    expected: str
    write: Callable[[Any], str] = str


def _whole(low: int, high: int | None = None) -> Callable[[str], int]:
    def read(text: str) -> int:
        if len(text) > 18:
            raise ValueError(text)
        value = int(text)
        if value < low or (high is not None and value > high):
            raise ValueError(text)
        return value

    return read


def _choice(*options: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in options:
            raise ValueError(text)
        return text

    return read


def _flag(text: str) -> bool:
    return _choice("0", "1")(text) == "1"


def _place(text: str) -> str:
    parts = text.split("-")
    if text and (len(parts) not in (3, 4) or not all(part.isdecimal() for part in parts)):
        raise ValueError(text)
    return text


def _document(text: str) -> str:
    parts = text.split("-")
    if text and (len(parts) != 2 or not all(part.isdecimal() for part in parts)):
        raise ValueError(text)
    return text


def _ranges(text: str) -> str:
    try:
        return write(parse(text))
    except QueryError as error:
        raise ValueError(text) from error


def read_pairs(text: str) -> list[tuple[int, int]]:
    """Read the (destination, source) pairs of a text like ``9-2,17-4``; ValueError if malformed."""
    found = []
    for part in filter(None, text.split(",")):
        dst, src = (_whole(0)(piece) for piece in part.split("-"))
        found.append((dst, src))
    return found


def write_pairs(pairs: list[tuple[int, int]]) -> str:
    """Write pairs as a text that :func:`read_pairs` can read."""
    return ",".join(f"{dst}-{src}" for dst, src in pairs)


Pin = tuple[HeadId, str]
"""A head, and the place of one of its pairs: document-destination-source."""


def read_pins(text: str) -> list[Pin]:
    """Read the pins of a text like ``L18H6:20-33-21``; ValueError if malformed."""
    found = []
    for part in filter(None, text.split(",")):
        head, _, place = part.partition(":")
        try:
            found.append((HeadId.parse(head), _place(place)))
        except HeadError as error:
            raise ValueError(text) from error
        if not place:
            raise ValueError(text)
    return found[:MOST_PINS]


def write_pins(pins: list[Pin]) -> str:
    """Write pins as a text that :func:`read_pins` can read."""
    return ",".join(f"{head}:{place}" for head, place in pins)


def _pins(text: str) -> str:
    return write_pins(read_pins(text))


def _distance(text: str) -> str:
    try:
        if text:
            parse_distance(text)
    except QueryError as error:
        raise ValueError(text) from error
    return text


def _pairs(text: str) -> str:
    return write_pairs(read_pairs(text))


def _bit(value: bool) -> str:
    return str(int(value))


def _optional(value: str | None) -> str:
    return value or ""


def _whole_or_all(text: str) -> int | None:
    return _whole(1)(text) if text else None


def _or_nothing(value: int | None) -> str:
    return "" if value is None else str(value)


MOST_PINS = 12
ORDERS = ("ranked", "reversed", "random", "banded", "needed")
VIEWS = ("map", "scatter", "list")
FINDS = ("token", "pattern")
BY_HAND = "drawn by hand"
PATTERNS = (*TEMPLATES, BY_HAND)
FROM = ("builtin", "other")
TEXTS = ("sample", "python-docs", "other", "upload")
DTYPES = ("float32", "bfloat16", "float16")
LONGEST_WINDOW = 65536
BY = ("multiple", "attention", "write")
OFF = ("nothing", "looks", "head", "mean", "row")
SHADES = ("attention", "multiple", "write")

PARAMS = (
    Param("index", "", "", str, "the name of an index"),
    Param("layer", "", 0, _whole(0), "a layer"),
    Param("head", "", 0, _whole(0), "a head"),
    Param("metric", "heads", "induction", str, "the name of a metric"),
    Param("view", "heads", "map", _choice(*VIEWS), "map, scatter or list"),
    Param("x", "heads", "sink", str, "the name of a metric"),
    Param("y", "heads", "entropy", str, "the name of a metric"),
    Param("lowest", "heads", False, _flag, "0 or 1", _bit),
    Param("where", "heads", "", _ranges, "ranges, like induction:0.1:"),
    Param("metrics", "heads compare", False, _flag, "0 or 1", _bit),
    Param("tokens", "heads compare", False, _flag, "0 or 1", _bit),
    Param("circuits", "heads", False, _flag, "0 or 1", _bit),
    Param("order", "examples", "ranked", _choice(*ORDERS), "one of " + ", ".join(ORDERS)),
    Param("by", "examples", "multiple", _choice(*BY), "multiple, attention or write"),
    Param("token", "examples", None, lambda text: text or None, "a token", _optional),
    Param("to", "examples", None, lambda text: text or None, "a token", _optional),
    Param("regex", "examples", False, _flag, "0 or 1", _bit),
    Param("rows", "examples", 10, _whole(1, MOST_ROWS), f"a whole number, 1 to {MOST_ROWS}"),
    Param("one", "examples", False, _flag, "0 or 1", _bit),
    Param("seed", "examples", 0, _whole(0, 2**31), "a whole number from 0"),
    Param("apart", "examples", "", _distance, "a distance, like 1:5"),
    Param("first", "examples", 1, _whole(1, 10**9), "a whole number from 1"),
    Param("shelf", "examples", "", _pins, "examples, like L18H6:20-33-21"),
    Param("open", "examples", "", _place, "document-destination-source"),
    Param("samples", "describe", 20, _whole(1, MOST_SAMPLES), f"a number, 1 to {MOST_SAMPLES}"),
    Param("draw", "describe", 0, _whole(0, 2**31), "a whole number from 0"),
    Param("told", "describe", False, _flag, "0 or 1", _bit),
    Param("find", "search", "pattern", _choice(*FINDS), "token or pattern"),
    Param("looks", "search", " not", str, "a token"),
    Param("expr", "search", False, _flag, "0 or 1", _bit),
    Param("pattern", "search", "induction", _choice(*PATTERNS), "the name of a pattern"),
    Param("cells", "search", "", _pairs, "cells, like 9-2,17-4"),
    Param("against", "compare", "", str, "the name of an index"),
    Param("with", "compare", "", str, "heads, like L10H7,L4H2"),
    Param("text", "prompt why search compare", TEXT, str, "a text"),
    Param("rest", "examples prompt compare", True, _flag, "0 or 1", _bit),
    Param("before", "prompt", "", str, "a text"),
    Param("scale", "examples prompt compare", "root", _choice(*SCALES), "root, linear or log"),
    Param("near", "examples", True, _flag, "0 or 1", _bit),
    Param("shade", "examples prompt", "attention", _choice(*SHADES), "one of " + ", ".join(SHADES)),
    Param("marks", "examples prompt", False, _flag, "0 or 1", _bit),
    Param("held", "examples prompt", -1, _whole(-1), "a position, or -1 for none"),
    Param("rank", "prompt search", "attention", _choice(*SHADES), "attention, multiple or write"),
    Param("scan_from", "scan", "builtin", _choice(*FROM), "builtin or other"),
    Param("scan_model", "scan", "", str, "the name of a model"),
    Param("scan_texts", "scan", "sample", _choice(*TEXTS), ", ".join(TEXTS)),
    Param("scan_corpus", "scan", "", str, "the name of a corpus"),
    Param("scan_docs", "scan", None, _whole_or_all, "a number from 1, or nothing", _or_nothing),
    Param("scan_ctx", "scan", 128, _whole(2, LONGEST_WINDOW), f"a number, 2 to {LONGEST_WINDOW}"),
    Param("scan_row", "scan", 10, _whole(0, LONGEST_WINDOW), "a whole number from 0"),
    Param("scan_per_token", "scan", 10, _whole(0, 1000), "a whole number, 0 to 1000"),
    Param("scan_write", "scan", False, _flag, "0 or 1", _bit),
    Param("scan_all", "scan", False, _flag, "0 or 1", _bit),
    Param("scan_dtype", "scan", "float32", _choice(*DTYPES), ", ".join(DTYPES)),
    Param("off", "prompt", "nothing", _choice(*OFF), ", ".join(OFF)),
    Param("evened", "prompt", False, _flag, "0 or 1", _bit),
    Param("instead", "prompt", 0, _whole(0), "a whole number from 0"),
    Param("document", "why", "", _document, "document-start"),
    Param("look", "why", "", _pairs, "a pair, like 9-2"),
    Param("trail", "why", "", _pins, "looks, like L18H6:0-33-21"),
    Param("steps", "why", 2, _whole(1, 3), "1, 2 or 3"),
    Param("least", "why", 10, _whole(1, 50), "a whole number, 1 to 50"),
    Param("written", "why", False, _flag, "0 or 1", _bit),
    Param("pairs", "prompt", "", _pairs, "pairs, like 9-2,17-4"),
)


def read_url() -> None:
    """Take the URL's values into the session: at its start and on the browser's back and forward.

    A bad value is replaced by the default, with a notice.
    """
    first = _READ not in st.session_state
    if not first and not _history():
        return
    st.session_state[_READ] = True
    st.session_state[_QUESTION] = None
    st.session_state[_NOTICES] = []
    for param in PARAMS:
        raw = st.query_params.get(param.name)
        if raw is None:
            if first:
                st.session_state.setdefault(param.name, param.default)
            continue
        try:
            st.session_state[param.name] = param.read(raw)
        except ValueError:
            st.session_state[param.name] = param.default
            if param.name in ("layer", "head"):
                st.session_state[_UNREAD] = st.session_state.get(_UNREAD, {}) | {param.name: raw}
                continue
            add_notice(
                f"The link says {param.name} = {raw[:60]!r}, which is not {param.expected}: "
                f"{param.write(param.default) or 'nothing'} is used instead."
            )
    if first:
        st.session_state[_DECIDED] = {"layer", "head"} & set(st.query_params)


def set_from_texts(texts: dict[str, str]) -> None:
    """Set values from their text in a link; bad ones are left out."""
    for param in PARAMS:
        if param.name in texts:
            with suppress(ValueError):
                st.session_state[param.name] = param.read(texts[param.name])


def reset_paging() -> None:
    """Go back to the first row of examples when the question has changed."""
    names = ("index", "layer", "head", "order", "by", "token", "to", "regex", "apart", "one")
    state = st.session_state
    question = tuple(state.get(name) for name in (*names, "seed", "rows"))
    if state.get(_QUESTION) not in (None, question):
        state["first"] = 1
    state[_QUESTION] = question


def fresh_head() -> bool:
    """Whether the link named no head, so that an interesting one may be chosen. True only once."""
    decided = st.session_state.get(_DECIDED)
    st.session_state[_DECIDED] = None
    return decided is not None and not decided


def unreadable_value(name: str) -> str | None:
    """The link's text for layer or head if it is not a number, else None. Given only once."""
    text: str | None = st.session_state.get(_UNREAD, {}).pop(name, None)
    return text


def _history() -> bool:
    context = get_script_run_ctx()
    return bool(context and context.is_history_navigation)


def add_notice(text: str) -> None:
    """Add a notice about the link. It stays until the user changes the view."""
    st.session_state.setdefault(_NOTICES, []).append((text, None))


def notices() -> list[str]:
    """The notices about the link; empty once the user has changed the view."""
    now = urlencode(values(None))
    kept = [
        (text, seen or now)
        for text, seen in st.session_state.get(_NOTICES, [])
        if seen in (None, now)
    ]
    st.session_state[_NOTICES] = kept
    return [text for text, _ in kept]


def values(page: str | None) -> dict[str, str]:
    """The parameters of a page as the URL has them, defaults included; None: those of all pages."""
    found = {}
    for param in PARAMS:
        if page is None or not param.page or page in param.page.split():
            value = st.session_state.get(param.name, param.default)
            text = param.write(param.default if value is None else value)
            if len(text) <= LONGEST_TEXT:
                found[param.name] = text
    return found


def write_url(query: dict[str, str]) -> None:
    """Write ``query`` into the address, unless it is there already.

    Writing it again would add an entry to the browser's history, because the browser applies it
    before it leaves the old page.
    """
    if query != st.query_params.to_dict():
        st.query_params.from_dict(query)
