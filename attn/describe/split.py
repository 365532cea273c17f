"""Splits documents: descriptions are written from some and tested on the others.

A document's side follows from its id, the hash of its text, alone: the same text is on the same
side in every index, and every window of a long document is on its document's side.
"""

from __future__ import annotations

import hashlib

HELD_OUT = 0.2
"""The share of documents that only tests see."""

_SALT = b"attn describe split 1 "


def held_out(document_id: str) -> bool:
    """Whether a document is kept for testing descriptions.

    >>> held_out("0000000000000001"), held_out("0000000000000002")
    (False, True)
    """
    digest = hashlib.sha256(_SALT + document_id.encode()).digest()
    return int.from_bytes(digest[:8], "big") < HELD_OUT * 2**64
