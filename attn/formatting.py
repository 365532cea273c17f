"""How characters, durations and sizes read to a person."""

from __future__ import annotations

import unicodedata

_VISIBLE = {"\n": "↵", "\t": "⇥", "\u00a0": "⍽"}


def shown(text: str, space: str = "·") -> str:
    """A token's text with what cannot be seen made visible: ``' the'`` → ``'·the'``.

    Spaces read ``space``, line ends ``↵``, tabs ``⇥``; control and direction marks read as their
    code.
    """
    return "".join(space if char == " " else _seen(char) for char in text)


def _seen(char: str) -> str:
    if char in _VISIBLE:
        return _VISIBLE[char]
    if unicodedata.category(char) in ("Cc", "Cf", "Zl", "Zp", "Cs", "Co"):
        code = ord(char)
        return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"
    return char


def duration(seconds: float) -> str:
    """A time as people say it: "40 s", "3 min", "2 h 10 min"."""
    if seconds < 99.5:
        return f"{max(round(seconds), 1)} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    return f"{minutes // 60:,} h" + (f" {minutes % 60} min" if minutes % 60 else "")


def data_size(size: float) -> str:
    """Bytes as people say them: "640 kB", "12 MB", "1.5 GB"."""
    for unit in ("kB", "MB"):
        size /= 1000
        if size < 999.5:
            return f"{max(round(size), 1)} {unit}"
    return f"{size / 1000:,.1f} GB"
