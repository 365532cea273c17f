"""The router: which pages there are, what runs before each, and what an error looks like."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from attn.errors import AttnError, IndexFailure
from attn.heads import HeadId
from attn.show.charts.colors import icon
from attn.ui import setup, sidebar, tour
from attn.ui.library import models
from attn.ui.notices import fail, warn
from attn.ui.sidebar import Choice, View
from attn.ui.state import notices, read_url, reset_paging, set_from_texts, values

_THROUGH_APP = "_through_app"
_CHOICE = "_choice"

# Less empty space above the page, and switches as tall as the fields beside them. Captions, and
# text on buttons in the theme's colour, get the contrast that small text needs.
_STYLE = """<style>
.stMainBlockContainer { padding-top: 3.75rem; padding-bottom: 4rem; }
.stButtonGroup > div button { min-height: 2.5rem; }
[data-testid="stCaptionContainer"] { color: inherit; opacity: .78; }
[data-testid="stBaseButton-primary"]:enabled p { color: light-dark(#fff, #05232b); }
</style>"""

_PAGES = (
    ("heads", "Heads", ":material/grid_on:", "All heads of the model by a chosen metric."),
    ("examples", "Examples", ":material/format_list_numbered:", "Where a head looks, with scores."),
    ("prompt", "Prompt", ":material/edit_note:", "A head's attention on a text of your own."),
    ("why", "Why", ":material/account_tree:", "What made a head look there, and what it does."),
    (
        "search",
        "Search",
        ":material/search:",
        "Which heads look at a token, or make a pattern that you draw.",
    ),
    ("compare", "Compare", ":material/compare_arrows:", "Two to four heads side by side."),
    (
        "describe",
        "Describe",
        ":material/psychology:",
        "A language model says what a head does; a score says whether to believe it.",
    ),
    (
        "scan",
        "Scan",
        ":material/document_scanner:",
        "Run another model, or the same one, over another corpus.",
    ),
    ("methods", "Methods", ":material/menu_book:", "What every word and number here means."),
)


def pages() -> dict[str, st.Page]:
    """Name → page, in the order of the sidebar; the first is the default.

    Icons belong to the links, not to the pages: a page's icon becomes the tab's, which the browser
    would fetch from a font server.
    """
    return {
        name: st.Page(f"pages/{name}.py", title=title, default=name == "heads", help=text)
        for name, title, _, text in _PAGES
    }


def run_app() -> None:
    """What app.py does: the sidebar, then the page that the address names."""
    st.set_page_config(page_title="attn", page_icon=icon(), layout="wide")
    st.html(_STYLE)
    known = pages()
    page = st.navigation(list(known.values()), position="hidden")
    name = next(name for name, other in known.items() if other.url_path == page.url_path)
    read_url()
    choice = sidebar.choose()
    reset_paging()
    links = [(other, known[other], sign) for other, _, sign, _ in _PAGES]
    sidebar.show(choice, links, name)
    st.session_state[_CHOICE] = choice
    st.session_state[_THROUGH_APP] = True
    page.run()
    tour.show(name, {key: title for key, title, _, _ in _PAGES})
    if choice.entry is not None and choice.entry.index is not None:  # the page stands
        manifest = choice.entry.index.manifest
        models().warm(manifest.model, manifest.dtype)


def run_page(name: str, body: Callable[[View], None]) -> None:
    """What every page does: draw ``body`` for the chosen index and head, or say why not.

    On a fresh server the address of a page runs that page without app.py: it then goes there first.
    """
    choice = _through_app()
    for text in notices():
        warn(text)
    if choice.entry is None:
        if choice.unknown:
            sidebar.unknown_index(choice.unknown, pages()["scan"])
        else:
            setup.first_steps()
        return
    if choice.entry.failure is not None or choice.entry.index is None:
        setup.scan_again(choice.entry.failure or IndexFailure(), choice.entry.path)
        return
    head = HeadId(int(st.session_state["layer"]), int(st.session_state["head"]))
    try:
        body(View(choice.entry.index, head, name))
    except IndexFailure as failure:
        setup.scan_again(failure, choice.entry.path)
    except AttnError as error:
        fail(str(error))


def run_text(body: Callable[[], None]) -> None:
    """Run a page that needs no index."""
    _through_app()
    for text in notices():
        warn(text)
    body()


def _through_app() -> Choice:
    if not st.session_state.pop(_THROUGH_APP, False):
        st.navigation(list(pages().values()), position="hidden")
        st.rerun()
    choice: Choice = st.session_state[_CHOICE]
    return choice


def page_link(view: View, name: str, text: str) -> None:
    """A link to another page with the same index, head and values."""
    query = values(name) | view.index.manifest.about
    st.page_link(pages()[name], label=text, icon=_sign(name), query_params=query)


def page_button(name: str, text: str, key: str, help_text: str | None = None, /, **to: str) -> None:
    """A button that opens another page with some of its values changed, as a link writes them.

    A link cannot change them: within a session the values are the session's, not the address's.
    """
    if st.button(
        text,
        key=key,
        type="tertiary",
        icon=_sign(name),
        help=help_text,
        on_click=set_from_texts,
        args=(to,),
    ):
        st.switch_page(pages()[name])


def _sign(name: str) -> str:
    return next(sign for other, _, sign, _ in _PAGES if other == name)
