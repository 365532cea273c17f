"""Entry of the app: `streamlit run app.py`. The router and the shared sidebar are in attn.ui."""

from __future__ import annotations

from attn.ui.router import run_app

run_app()
