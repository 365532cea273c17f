"""Why: what made the selected head look there, and what its look does to the next token."""

from __future__ import annotations

from attn.ui.router import run_page
from attn.ui.why import why

run_page("why", why.show)
