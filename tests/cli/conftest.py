"""The fixtures of descriptions, for their commands."""

from __future__ import annotations

from tests.describe.conftest import no_server_set, serve, tiny_folder, tiny_index

__all__ = ["no_server_set", "serve", "tiny_folder", "tiny_index"]
