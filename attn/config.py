"""Settings, read from the environment and `.env` by a function, never at import."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

BUILTIN_MODEL = "smollm2-135m"


@dataclass(frozen=True)
class Settings:
    """Where things are and what the defaults are.

    ``model`` the default model (``ATTN_MODEL``); ``cache`` the folder of fetched models
    (``ATTN_CACHE``); ``indexes`` the folder that holds the indexes (``ATTN_INDEXES``); ``scans``
    whether the app's visitors may start scans (``ATTN_SCANS``, 0 for no);
    ``warm`` whether the app loads the model before a page needs it (``ATTN_WARM``, 0 for no).
    """

    model: str
    cache: Path
    indexes: Path
    scans: bool
    warm: bool


def load_environment() -> None:
    """Add `.env` of the working directory to the environment, which wins over it."""
    import dotenv

    dotenv.load_dotenv(Path.cwd() / ".env", override=False)


def settings() -> Settings:
    """Read the settings: the environment first, then `.env` in the working directory."""
    import platformdirs

    load_environment()
    cache = Path(os.environ.get("ATTN_CACHE") or platformdirs.user_cache_dir("attn"))
    return Settings(
        model=os.environ.get("ATTN_MODEL") or BUILTIN_MODEL,
        cache=cache,
        indexes=Path(os.environ.get("ATTN_INDEXES") or cache / "indexes"),
        scans=_switch("ATTN_SCANS"),
        warm=_switch("ATTN_WARM"),
    )


def _switch(name: str) -> bool:
    """On, unless the variable says 0."""
    return os.environ.get(name, "").strip() != "0"
