"""The sidebar that all pages share: pages, model, index, layer and head, and the link to it all."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import numpy as np
import streamlit as st

from attn.analyse.filters import LAYER, parse, write
from attn.config import settings
from attn.heads import HeadId
from attn.index.index import Index
from attn.index.with_effects import EFFECT
from attn.models import builtin
from attn.ui import tour
from attn.ui.components import copy_link
from attn.ui.library import Entry, entries, with_effects
from attn.ui.notices import plain
from attn.ui.scan.scan_jobs import last_part, show_running
from attn.ui.state import (
    add_notice,
    fresh_head,
    set_from_texts,
    unreadable_value,
    values,
    write_url,
)

_SHAPE = "_shape"


@dataclass(frozen=True)
class View:
    """What a page shows: an index and one of its heads. ``page`` is the page's name."""

    index: Index
    head: HeadId
    page: str


@dataclass(frozen=True)
class Choice:
    """What was chosen in the sidebar: an entry, or the name of an index that is not here."""

    entry: Entry | None
    unknown: str = ""


def choose() -> Choice:
    """The index that the session or the URL names, or else the newest.

    Layer and head are moved into its range, with a notice if the link's were out of range.
    """
    found = entries()
    name = st.session_state.get("index") or ""
    if not name:
        entry = next((e for e in found if e.index), found[0] if found else None)
    else:
        entry = next((e for e in found if e.name == name), None)
    if entry is None:
        return Choice(None, unknown=name)
    st.session_state["index"] = entry.name
    if entry.index is not None:
        _fit(entry.index)
    return Choice(entry)


def _fit(index: Index) -> None:
    manifest = index.manifest
    if fresh_head():
        best = int(np.nanargmax(np.nan_to_num(index.metric("induction"), nan=-1.0)))
        layer, head = divmod(best, manifest.n_heads)
        st.session_state["layer"], st.session_state["head"] = layer, head
    for name, n in (("layer", manifest.n_layers), ("head", manifest.n_heads)):
        value, text = int(st.session_state.get(name) or 0), unreadable_value(name)
        if value >= n or text is not None:
            st.session_state[name] = min(value, n - 1)
            add_notice(
                f"The link asks for {name} {text if text is not None else value}, which "
                f"{manifest.model} does not have; its {name}s are 0 to {n - 1}: "
                f"{name} {min(value, n - 1)} is shown."
            )
    if st.session_state.get("by") == "write" and not manifest.write:
        add_notice("The index has no write scores: multiple is used instead.")
        st.session_state["by"] = "multiple"
    shape = (index.name, manifest.n_layers, manifest.n_heads)
    if st.session_state.get(_SHAPE, shape)[1:] != shape[1:]:
        # The sliders have other ends now, which makes them new widgets: hand them their values.
        for name in ("layer", "head"):
            st.session_state[name] = int(st.session_state[name])
    st.session_state[_SHAPE] = shape
    names = with_effects(index).metric_names
    for key in ("metric", "x", "y"):
        asked = st.session_state.get(key)
        if asked not in names:
            how = "; `python -m attn effects` measures it" if asked == EFFECT.name else ""
            add_notice(f"The index has no metric {asked!r}{how}: {names[0]} is shown.")
            st.session_state[key] = names[0]
    ranges = parse(st.session_state.get("where") or "")
    known = [one for one in ranges if one.name in (LAYER, *names)]
    for one in ranges:
        if one not in known:
            add_notice(f"The index has no metric {one.name!r}: heads are not filtered by it.")
    if known != [*ranges]:
        st.session_state["where"] = write(known)


def show(choice: Choice, pages: Sequence[tuple[str, object, str]], page: str) -> None:
    """Draw the sidebar and write the URL."""
    index = choice.entry.index if choice.entry else None
    about = index.manifest.about if index is not None else index_recipe()
    with st.sidebar:
        for name, target, icon in pages:
            query = values(name) | about
            st.page_link(target, icon=icon, query_params=query)  # type: ignore[arg-type]
        if page != "scan" and index is not None:  # elsewhere the page itself shows it
            show_running()
        _pickers(choice)
        if index is not None:
            _head(index)
        query = values(page) | about
        if choice.entry is not None or page == "scan":
            write_url(query)
            copy_link(urlencode(query))
        tour.again()


def index_recipe() -> dict[str, str]:
    """What the link in the address bar says about how its index was made."""
    names = ("model", "corpus", "skip", "docs", "ctx")
    return {name: st.query_params[name] for name in names if st.query_params.get(name)}


def _pickers(choice: Choice) -> None:
    found = entries()
    if not found:
        return
    model_of = {e.name: e.index.manifest.model if e.index else "" for e in found}
    known = sorted({model for model in model_of.values() if model})
    model = model_of.get(choice.entry.name, "") if choice.entry else ""
    if known:
        if st.session_state.get("_model") != (model or None):
            st.session_state["_model"] = model or None
        st.selectbox(
            "Model",
            known,
            index=0 if model else None,
            key="_model",
            placeholder="Choose a model",
            on_change=_change_model,
            help="The models that have an index here; the Scan page makes more.",
        )
    names = [e.name for e in found if not model or model_of[e.name] in ("", model)]
    if st.session_state.get("_index") != (choice.entry.name if choice.entry else None):
        st.session_state["_index"] = choice.entry.name if choice.entry else None
    st.selectbox(
        "Index",
        names,
        index=0 if choice.entry else None,
        key="_index",
        format_func={e.name: _label(e) for e in found}.__getitem__,
        placeholder="Choose an index",
        on_change=_change_index,
        help="A corpus that the model was run over, which the pages read; the Scan page makes "
        "more.",
    )
    if choice.entry and choice.entry.index:
        manifest = choice.entry.index.manifest
        st.caption(
            f"{plain(last_part(manifest.corpus))} · {manifest.documents:,} documents of up to "
            f"{manifest.ctx} tokens · {manifest.tokens:,} tokens"
        )
        for warning in choice.entry.index.warnings():
            st.caption(f":material/info: {plain(warning)}")


def _label(entry: Entry) -> str:
    """A short label of an index: its corpus, and the end of its name to tell it from others."""
    if entry.index is None:
        return entry.name
    return f"{last_part(entry.index.manifest.corpus)} · {entry.name[-6:]}"


def _change_model() -> None:
    model = st.session_state["_model"]
    for entry in entries():
        if model and entry.index and entry.index.manifest.model == model:
            choose_entry(entry)
            return


def _change_index() -> None:
    for entry in entries():
        if entry.name == st.session_state["_index"]:
            choose_entry(entry)


def choose_entry(entry: Entry) -> None:
    """Choose an index. Layer and head move into its range without a notice."""
    st.session_state["index"] = entry.name
    st.session_state["open"] = ""
    st.session_state["token"] = st.session_state["to"] = None
    if entry.index:
        if st.session_state["by"] == "write" and not entry.index.manifest.write:
            st.session_state["by"] = "multiple"
        manifest = entry.index.manifest
        for name, n in (("layer", manifest.n_layers), ("head", manifest.n_heads)):
            st.session_state[name] = min(int(st.session_state.get(name) or 0), n - 1)


def _head(index: Index) -> None:
    manifest = index.manifest
    for name, n in (("layer", manifest.n_layers), ("head", manifest.n_heads)):
        if n > 1:
            st.slider(name.capitalize(), 0, n - 1, key=name, persist_state="session")
    head = HeadId(int(st.session_state["layer"]), int(st.session_state["head"]))
    shape = (manifest.n_layers, manifest.n_heads)
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="center"):
        st.button(
            "◀", key="previous_head", help="Previous head", on_click=step, args=(-1, shape),
            shortcut="P",
        )  # fmt: skip
        st.markdown(f"**{head}**", width="content")
        st.button(
            "▶", key="next_head", help="Next head", on_click=step, args=(1, shape), shortcut="N"
        )


def step(by: int, shape: tuple[int, int]) -> None:
    """Move to the next or previous head, layer by layer; after the last comes the first."""
    n_layers, n_heads = shape
    place = st.session_state["layer"] * n_heads + st.session_state["head"] + by
    select(HeadId(*divmod(place % (n_layers * n_heads), n_heads)))


def select(head: HeadId) -> None:
    """Select a head. Call this in a callback, before the sliders are drawn."""
    st.session_state["layer"], st.session_state["head"] = head.layer, head.head
    st.session_state["open"] = ""


def unknown_index(name: str, scans: Any) -> None:
    """Say how to make the index that a link names and this machine lacks. No other is shown.

    ``scans`` the page that makes it, with what the link says filled in.
    """
    st.warning(
        f"The link shows the index **{plain(name)}**, which is not on this machine.",
        icon=":material/link_off:",
    )
    asked = index_recipe()
    parts = [f"--{key} {shlex.quote(value)}" for key, value in asked.items()]
    command = " ".join(["python -m attn scan", *parts])
    if parts:
        st.markdown("This command makes it, if the texts and the model are the same:")
    else:
        st.markdown("The link does not say how it was made. A scan makes an index:")
    st.code(command[:2000], language=None, wrap_lines=True)
    newest = next((entry for entry in entries() if entry.index), None)
    with st.container(horizontal=True):
        # The Scan page begins with the first document: it cannot make a part of a corpus.
        if (
            settings().scans
            and "skip" not in asked
            and st.button(
                "Make it on the Scan page",
                key="make_it",
                icon=":material/document_scanner:",
                on_click=_fill,
                args=(asked,),
            )
        ):
            st.switch_page(scans)
        if newest is not None:
            st.button(
                "Show the newest index instead",
                key="show_newest",
                on_click=choose_entry,
                args=(newest,),
            )


def _fill(asked: dict[str, str]) -> None:
    """Fill the Scan page's fields with what a link says of its index; the other fields stay."""
    model, corpus = asked.get("model", builtin.NAME), asked.get("corpus", "sample")
    own, known = model != builtin.NAME, corpus in ("sample", "python-docs")
    meant = {
        "scan_from": "other" if own else "builtin",
        "scan_model": model if own else "",
        "scan_texts": corpus if known else "other",
        "scan_corpus": "" if known else corpus,
    }
    for name in ("docs", "ctx"):
        if name in asked:
            meant[f"scan_{name}"] = asked[name]
    set_from_texts(meant)
