"""Text → token ids and what to show for each token; punctuation and words among tokens."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")


_SPACE_MARKS = ("Ġ", "▁")


@lru_cache(maxsize=1)
def _byte_alphabet() -> dict[str, int]:
    """The printable characters by which byte-level BPE spells the 256 bytes (GPT-2's table)."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    table = {chr(byte): byte for byte in plain}
    rest = (byte for byte in range(256) if byte not in plain)
    return table | {chr(0x100 + i): byte for i, byte in enumerate(rest)}


def _piece(token: str) -> str:
    """A token that is a part of a character: its bytes, unreadable ones as ``\\xNN``."""
    match = _BYTE_TOKEN.fullmatch(token)
    if match:
        return f"\\x{match[1].lower()}"
    alphabet = _byte_alphabet()
    if all(char in alphabet for char in token):
        return bytes(alphabet[char] for char in token).decode("utf-8", "backslashreplace")
    return "⋯"


def token_texts(tokenizer: Any, text: str, limit: int | None = None) -> tuple[list[int], list[str]]:
    """Ids and display texts of a text's tokens, no special token added or recognised.

    ``limit``: how many tokens will be used; a much longer text is not tokenized to its end.
    A display text is the stretch of the text that the token covers; the pieces of one character
    show as bytes.
    """
    text = text.encode("utf-8", "replace").decode()
    if limit is not None and len(text) > 32 * limit + 1000:
        ids, texts = token_texts(tokenizer, text[: 32 * limit + 1000])
        if len(ids) > limit + 16:
            return ids, texts
    coded = tokenizer(
        text,
        add_special_tokens=False,
        return_offsets_mapping=True,
        split_special_tokens=True,
        verbose=False,
    )
    ids = list(coded["input_ids"])
    spans = list(coded["offset_mapping"])
    names = tokenizer.convert_ids_to_tokens(ids)
    texts = []
    for i, ((start, end), name) in enumerate(zip(spans, names, strict=True)):
        before = spans[i - 1][1] if i else 0
        after = spans[i + 1][0] if i + 1 < len(spans) else len(text)
        if start < before or end > after or start == end:
            texts.append(_piece(name))
            continue
        gap = text[before:start]
        # Some tokenizers leave the space that a token begins with out of its offsets.
        with_gap = name.startswith(_SPACE_MARKS) and gap and not gap.strip()
        texts.append(text[before:end] if with_gap else text[start:end])
    return ids, texts


@lru_cache(maxsize=65536)
def is_punctuation(text: str) -> bool:
    """Whether a token's text, spaces aside, is punctuation marks (Unicode P) alone or line ends."""
    bare = text.strip(" \t")
    return bool(bare) and all(
        char in "\n\r" or unicodedata.category(char).startswith("P") for char in bare
    )


def word_numbers(texts: Sequence[str]) -> list[int]:
    """The number of the word that each token belongs to: pieces without a break share one.

    A token goes on with the word before it where both meet at a letter or digit.
    """
    numbers, word, before = [], -1, ""
    for text in texts:
        if not (before[-1:].isalnum() and text[:1].isalnum()):
            word += 1
        numbers.append(word)
        before = text
    return numbers
