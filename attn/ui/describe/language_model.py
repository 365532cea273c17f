"""The language model that this session uses: a server's address, model and key, or one served here.

What is typed here lives in the session alone: never in the address, a file, a log or a cache.
"""

from __future__ import annotations

import threading
from pathlib import Path

import streamlit as st

from attn.describe.local import POOR, Local, is_builtin, model_file, start
from attn.describe.servers import PRESETS, Secret, Server, environment
from attn.errors import NoServer
from attn.ui.jobs import Report, language_model_runner
from attn.ui.notices import fail, plain, sentence, warn

ENVIRONMENT, HERE, OTHER = "From the environment", "On this machine", "Another address"
SERVE = "serve"
_FIELDS = ("url", "model", "key")


class _Shelf:
    """Holds the language model that this app serves itself, if there is one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._local: Local | None = None

    def get(self) -> Local | None:
        """The model being served."""
        local = self._local
        return local if local is not None and local.running else None

    def put(self, local: Local | None) -> None:
        """Serve this model from now on; the previous one is stopped."""
        with self._lock:
            before, self._local = self._local, local
        if before is not None:
            before.close()


@st.cache_resource(show_spinner=False, on_release=lambda shelf: shelf.put(None))
def shelf() -> _Shelf:
    """This server's holder of a served model, which stops with the app."""
    return _Shelf()


def choose_server() -> Server | None:
    """Draw the choice of a language model. None, with a notice, while none is chosen."""
    own_url, own_model, own_key = environment()
    given = [ENVIRONMENT] if own_model else []
    options = [*given, HERE, *PRESETS, OTHER]
    with st.expander("Language model", icon=":material/smart_toy:", expanded=not given):
        name = st.selectbox(
            "Server", options, key="_llm", persist_state="session", width=320,
            help="Any OpenAI-compatible server. What you enter stays in this browser session.",
        )  # fmt: skip
        try:
            if name == ENVIRONMENT:
                server = Server(own_url, own_model, own_key)
                st.caption(f"**{plain(server.model)}** at {plain(server.host)}, as `.env` says.")
                return server
            return _here() if name == HERE else _typed(name)
        except NoServer as error:
            st.caption(sentence(str(error)))
            return None


def serves_builtin(server: Server | None) -> bool:
    """Whether a server's model is the one that ships with attn."""
    return server is not None and is_builtin(server.model)


def _typed(name: str) -> Server | None:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        url = st.text_input(
            "Address", PRESETS.get(name, ""), key=f"_llm_url {name}", persist_state="session",
            placeholder="http://localhost:8080/v1",
        )  # fmt: skip
        model = st.text_input("Model", key=f"_llm_model {name}", persist_state="session")
        key = st.text_input(
            "Key", key=f"_llm_key {name}", type="password", persist_state="session",
            autocomplete="off", help="Sent to this address alone, and kept nowhere.",
        )  # fmt: skip
    server = _entered(url, model, key)
    if server.key and not server.local and not server.url.startswith("https:"):
        warn(f"The key would go to {server.host} unencrypted: use an address with https.")
    return server


def _entered(url: str | None, model: str | None, key: str | None) -> Server:
    return Server(url or "", model or "", Secret((key or "").strip()))


def entered_server(drawn: Server) -> Server:
    """The server as the fields name it at the time of a click; ``drawn`` is what was drawn.

    A click can arrive together with the last field that was typed, after the page was drawn
    without it. Raises NoServer if the fields no longer name a server.
    """
    name = st.session_state.get("_llm")
    if name in (None, ENVIRONMENT, HERE):
        return drawn
    return _entered(*(st.session_state.get(f"_llm_{part} {name}") for part in _FIELDS))


def _here() -> Server | None:
    local, job = shelf().get(), language_model_runner().get(SERVE)
    st.caption(POOR)
    if local is not None:
        st.markdown(f"Serving **{plain(local.server.model)}** at {plain(local.server.url)}.")
        st.button("End it", key="end_serving", on_click=shelf().put, args=(None,))
        return local.server
    if job is not None and not job.finished:
        _watch()
        return None
    if job is not None and job.error:
        fail(job.error)
    path = st.text_input(
        "GGUF file", key="_gguf", persist_state="session", width=520,
        placeholder="the built-in model", help="A path on the machine that runs this app.",
    )  # fmt: skip
    st.button(
        "Serve it", key="serve", icon=":material/play_arrow:",
        on_click=_serve, args=((path or "").strip(), shelf()),
    )  # fmt: skip
    return None


def _serve(path: str, place: _Shelf) -> None:
    def work(report: Report) -> None:
        file = model_file(Path(path) if path else None, report)
        report("Loading the model.", 0.9)
        place.put(start(file, stop=report.stop))

    language_model_runner().submit(SERVE, work)


@st.fragment(run_every=0.5)
def _watch() -> None:
    job = language_model_runner().get(SERVE)
    if job is None or job.finished:
        st.rerun()
    else:
        st.progress(job.fraction, text=plain(job.message))
