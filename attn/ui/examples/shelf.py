"""The shelf: pinned examples of any head. They are part of the link."""

from __future__ import annotations

import streamlit as st

from attn.errors import AttnError
from attn.heads import Example, HeadId
from attn.index.index import Index
from attn.ui.examples.ranking import example_row, place_of
from attn.ui.notices import plain
from attn.ui.sidebar import View, select
from attn.ui.state import MOST_PINS, read_pins, write_pins

_LOST = "The link's shelf names an example that this index does not keep: {}."


def pin_button(view: View, example: Example) -> None:
    """A button that pins an example to the shelf, or removes it."""
    pin = (view.head, place_of(example))
    held = read_pins(st.session_state["shelf"])
    on = pin in held
    st.button(
        "Unpin" if on else "Pin",
        key=f"pin {pin[1]}",
        type="tertiary",
        icon=":material/keep_off:" if on else ":material/keep:",
        help="The shelf is below the rows, and goes along in the link.",
        disabled=not on and len(held) >= MOST_PINS,
        on_click=_toggle,
        args=(pin,),
    )


def _toggle(pin: tuple[HeadId, str]) -> None:
    held = read_pins(st.session_state["shelf"])
    kept = [one for one in held if one != pin] if pin in held else [*held, pin]
    st.session_state["shelf"] = write_pins(kept)


def show(view: View) -> None:
    """Show the pinned examples of all heads."""
    pins = read_pins(st.session_state["shelf"])
    if not pins:
        return
    st.subheader("Your shelf", anchor=False)
    for head, place in pins:
        example = _find(view.index, head, place)
        with st.container(border=True, gap="xsmall"):
            with st.container(horizontal=True, vertical_alignment="center"):
                if head != view.head:
                    st.button(
                        f"Go to {head}", key=f"to {head} {place}", type="tertiary",
                        icon=":material/arrow_forward:", on_click=select, args=(head,),
                    )  # fmt: skip
                st.button(
                    "Take off", key=f"off {head} {place}", type="tertiary",
                    icon=":material/keep_off:", on_click=_toggle, args=((head, place),),
                )  # fmt: skip
            if example is None:
                st.caption(plain(_LOST.format(f"{head} {place}")))
                continue
            window = view.index.window(example.document, example.start)
            example_row(view.index, example, window, str(head))


def _find(index: Index, head: HeadId, place: str) -> Example | None:
    document, dst, src, *start = map(int, place.split("-"))
    try:
        return index.find(head, document, dst, src, *start)
    except AttnError:
        return None
