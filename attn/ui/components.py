"""Small parts that Streamlit lacks: a button that copies a link, buttons that save a figure as a
picture, and pictures of all heads.

Their JavaScript writes texts with ``textContent`` alone; data comes as numbers and base64.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import streamlit as st

_COPY_CSS = """
button { width: 100%; min-height: 2.5rem; padding: .25rem .75rem; font: inherit;
  font-size: .875rem; cursor: pointer;
  color: var(--st-text-color); background: var(--st-background-color);
  border: 1px solid var(--st-border-color); border-radius: var(--st-button-radius); }
button:hover { color: var(--st-primary-color); border-color: var(--st-primary-color); }
button:focus-visible { outline: 2px solid var(--st-primary-color); outline-offset: 1px; }
button.done { color: var(--st-green-text-color); border-color: var(--st-green-color); }
input { width: 100%; box-sizing: border-box; margin-top: .4rem; padding: .4rem; font: inherit;
  font-size: .8rem; color: var(--st-text-color); background: var(--st-background-color);
  border: 1px solid var(--st-border-color); border-radius: var(--st-base-radius); }
"""

# navigator.clipboard exists on https and localhost only; elsewhere a selected text area is copied,
# and where that fails too, the link is shown for the user to copy.
_COPY_JS = """
export default function (component) {
  const { data, parentElement } = component
  const button = parentElement.querySelector("button")
  const field = parentElement.querySelector("input")
  const link = () => window.location.origin + window.location.pathname + "?" + data.query
  button.dataset.query = data.query
  field.hidden = true

  const byHand = text => {
    const area = document.createElement("textarea")
    area.value = text
    area.style.position = "fixed"
    area.style.opacity = "0"
    document.body.appendChild(area)
    area.select()
    let copied = false
    try { copied = document.execCommand("copy") } catch { copied = false }
    area.remove()
    return copied
  }
  button.onclick = async () => {
    const text = link()
    let copied = true
    try { await navigator.clipboard.writeText(text) } catch { copied = byHand(text) }
    if (copied) {
      button.textContent = "Link copied"
      button.classList.add("done")
    } else {
      field.hidden = false
      field.value = text
      field.select()
      button.textContent = "Copy the link below"
    }
    clearTimeout(button.timer)
    button.timer = setTimeout(() => {
      button.textContent = "Copy link"
      button.classList.remove("done")
    }, 2500)
  }
  return () => clearTimeout(button.timer)
}
"""

_copy = st.components.v2.component(
    "attn_copy_link",
    html=(
        '<button type="button" aria-live="polite">Copy link</button>\n'
        '<input hidden readonly aria-label="Link to this view">'
    ),
    css=_COPY_CSS,
    js=_COPY_JS,
)

_HEADS_CSS = """
.all { display: grid; grid-template-columns: repeat(auto-fill, minmax(92px, 1fr)); gap: .6rem; }
button { padding: .3rem; font: inherit; font-size: .8rem; cursor: pointer; text-align: center;
  color: var(--st-text-color); background: transparent; border-radius: var(--st-base-radius);
  border: 2px solid transparent; }
button:hover { border-color: var(--st-primary-color); }
button:focus-visible { outline: 2px solid var(--st-primary-color); outline-offset: 1px; }
button[aria-pressed=true] { border-color: #f76707; font-weight: 700; }
canvas { display: block; width: 100%; aspect-ratio: 1; image-rendering: pixelated;
  border-radius: 2px; margin-bottom: .2rem; }
"""

_HEADS_JS = """
const bytes = text => Uint8Array.from(atob(text), char => char.charCodeAt(0))

export default function (component) {
  const { data, parentElement, setTriggerValue } = component
  const all = parentElement.querySelector(".all")
  const { size, names, selected, causal } = data
  const cells = bytes(data.cells)
  const colours = bytes(data.palette)
  all.replaceChildren(...names.map((name, head) => {
    const canvas = document.createElement("canvas")
    canvas.width = canvas.height = size
    const context = canvas.getContext("2d")
    const image = context.createImageData(size, size)
    for (let place = 0; place < size * size; place++) {
      const above = causal && place % size > Math.floor(place / size)
      const colour = 3 * cells[head * size * size + place]
      image.data.set([colours[colour], colours[colour + 1], colours[colour + 2],
        above ? 0 : 255], 4 * place)
    }
    context.putImageData(image, 0, 0)
    const button = document.createElement("button")
    button.type = "button"
    button.setAttribute("aria-pressed", String(head === selected))
    const label = document.createElement("span")
    label.textContent = name
    button.append(canvas, label)
    button.onclick = () => setTriggerValue("head", head)
    return button
  }))
}
"""

_heads = st.components.v2.component(
    "attn_heads_of_layer", html='<div class="all">\n</div>', css=_HEADS_CSS, js=_HEADS_JS
)


_SAVE_CSS = (
    _COPY_CSS
    + """
.save { display: flex; gap: .5rem; }
"""
)

# Plotly itself is out of reach of a page, but its own button is not. It saves the format that it
# finds in the figure's options, at once.
_SAVE_JS = """
export default function (component) {
  const { data, parentElement } = component
  for (const button of parentElement.querySelectorAll("button")) {
    button.onclick = () => {
      const plot = document.querySelector(`.st-key-${CSS.escape(data.place)} .js-plotly-plot`)
      const own = plot?.querySelector('.modebar-btn[data-title^="Download plot"]')
      if (!own) return
      const options = plot._context.toImageButtonOptions
      plot._context.toImageButtonOptions = { ...options, format: button.value }
      own.click()
      plot._context.toImageButtonOptions = options
    }
  }
}
"""

_save = st.components.v2.component(
    "attn_save_figure",
    html='<div class="save"><button type="button" value="png">PNG</button>'
    '<button type="button" value="svg">SVG</button></div>',
    css=_SAVE_CSS,
    js=_SAVE_JS,
)


def save_picture(chart: str) -> None:
    """Buttons that save the Plotly chart with that key as PNG and SVG, as it is on the screen."""
    place = re.sub(r"[^a-zA-Z0-9_-]", "-", chart)  # as Streamlit makes a class of a key
    _save(key=f"save {chart}", data={"place": place})


def copy_link(query: str) -> None:
    """A button that copies this page's address with ``query`` after the question mark."""
    _copy(key="copy_link", data={"query": query})


def heads_of_layer(
    cells: np.ndarray,
    palette: np.ndarray,
    names: list[str],
    selected: int,
    *,
    causal: bool,
    on_pick: Callable[[int], None],
) -> None:
    """Draw a small picture of each head. A click calls ``on_pick`` before the next run.

    ``cells`` (head, dst, src) uint8 places in ``palette`` (256, 3) uint8.
    """
    key = "heads_of_layer"

    def picked() -> None:
        head = st.session_state[key].head
        if head is not None:
            on_pick(int(head))

    _heads(
        key=key,
        data={
            "size": int(cells.shape[-1]),
            "cells": base64_of(cells),
            "palette": base64_of(palette),
            "names": names,
            "selected": selected,
            "causal": causal,
        },
        on_head_change=picked,
    )


def base64_of(array: np.ndarray, kind: Any = np.uint8) -> str:
    """An array's bytes, little-endian, as text."""
    ordered = np.ascontiguousarray(array, np.dtype(kind).newbyteorder("<"))
    return base64.b64encode(ordered.tobytes()).decode()


@contextmanager
def details(label: str, key: str) -> Iterator[bool]:
    """A part of a page that can be opened. Draw it only where this yields True, so that it
    costs nothing while it is closed.

    ``key`` the URL's parameter that says whether it is open.
    """
    box = st.expander(label, key=key, on_change="rerun")
    with box:
        yield bool(box.open)
