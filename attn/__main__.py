"""``python -m attn`` is the command line."""

from __future__ import annotations

from attn.cli.main import main

if __name__ == "__main__":
    main()
