"""Text → token ids and the text behind each; words, punctuation, names of tokens.

What a token covers is what the tokenizer says: its offsets, its words, its vocabulary's entries.
The texts of a document's tokens, joined, are the document: a space or whatever else a tokenizer
drops goes to the token after it. Of several tokens that make one character the first wears it and
the others cover nothing (""); what such a token is called is its bytes (:class:`Vocabulary`).
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")

SPACE_MARK = "▁"
"""How SentencePiece writes a space."""

KINDS = ("", "piece", "unknown", "special")
"""What a token of a vocabulary is: text, bytes of a part of a character, what stands for all that
the tokenizer does not know, or a mark that stands for no text."""


@lru_cache(maxsize=1)
def _byte_alphabet() -> dict[str, int]:
    """The printable characters by which byte-level BPE spells the 256 bytes (GPT-2's table)."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    table = {chr(byte): byte for byte in plain}
    rest = (byte for byte in range(256) if byte not in plain)
    return table | {chr(0x100 + i): byte for i, byte in enumerate(rest)}


class Vocabulary:
    """What a fast tokenizer's ids are called, whatever the text that they stand in."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        parts = tokenizer.backend_tokenizer
        steps = ("normalizer", "pre_tokenizer", "decoder")
        told = [str(getattr(parts, step, "")) for step in steps]
        self._bytes = any("ByteLevel" in one for one in told)
        self._spaces = any(SPACE_MARK in one for one in told)
        self._suffix = getattr(parts.model, "end_of_word_suffix", None) or ""
        marks = ("bos", "eos", "cls", "sep", "pad", "mask")
        self._marks = {getattr(tokenizer, f"{mark}_token_id", None) for mark in marks} - {None}
        self._special = set(tokenizer.all_special_ids)
        self._unknown = {tokenizer.unk_token_id} - {None} - self._marks

    def entry(self, token: int) -> str:
        """The token as the vocabulary writes it: ``Ġthe``, ``▁the``, ``##s``."""
        return str(self._tokenizer.convert_ids_to_tokens(int(token)) or "")

    def kind(self, token: int) -> str:
        """One of :data:`KINDS`."""
        if token in self._unknown:
            return "unknown"
        if token in self._special:
            return "special"
        raw = self._raw(self.entry(token))
        return "piece" if isinstance(raw, bytes) and not _is_text(raw) else ""

    def name(self, token: int) -> str:
        """The token as text, away from any document: `` the`` of ``Ġthe``, ``##s`` as it is.

        The bytes of a part of a character are written ``\\xe0``.
        """
        entry = self.entry(token)
        if token in self._special or token in self._unknown:
            return entry
        raw = self._raw(entry)
        return raw.decode("utf-8", "backslashreplace") if isinstance(raw, bytes) else raw

    def _raw(self, entry: str) -> bytes | str:
        match = _BYTE_TOKEN.fullmatch(entry)
        if match:
            return bytes([int(match[1], 16)])
        alphabet = _byte_alphabet()
        if self._bytes and all(char in alphabet for char in entry):
            return bytes(alphabet[char] for char in entry)
        if self._spaces:
            return entry.replace(SPACE_MARK, " ")
        return entry.removesuffix(self._suffix) if self._suffix else entry


def _is_text(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True


@dataclass(frozen=True)
class Encoding:
    """A text's tokens, without special ones.

    ``ids``; ``texts`` what each covers, which joined are the text; ``words`` the number of the word
    that each belongs to; ``inside`` whether a token begins inside a character that the one before
    it began.
    """

    ids: list[int]
    texts: list[str]
    words: list[int]
    inside: list[bool]

    def __len__(self) -> int:
        return len(self.ids)

    def part(self, begin: int, end: int, vocabulary: Vocabulary) -> Encoding:
        """Some of the tokens. Of a character that is cut at an end, its pieces show as bytes."""
        end = min(end, len(self))
        texts = self.texts[begin:end]
        for i in range(begin, end):
            if not self.inside[i] or self.texts[i]:
                break
            texts[i - begin] = vocabulary.name(self.ids[i])
        if end < len(self) and self.inside[end]:
            last = next((i for i in reversed(range(begin, end)) if self.texts[i]), begin)
            for i in range(last, end):
                texts[i - begin] = vocabulary.name(self.ids[i])
        inside = self.inside[begin:end]
        return Encoding(self.ids[begin:end], texts, self.words[begin:end], inside)


def encode(tokenizer: Any, text: str, limit: int | None = None) -> Encoding:
    """The tokens of a text by a fast tokenizer, no special token added or recognised.

    ``limit``: how many tokens will be used; a much longer text is not tokenized to its end.
    """
    text = text.encode("utf-8", "replace").decode()
    if limit is not None and len(text) > 32 * limit + 1000:
        found = encode(tokenizer, text[: 32 * limit + 1000])
        if len(found) > limit + 16:
            return found
    coded = tokenizer(
        text,
        add_special_tokens=False,
        return_offsets_mapping=True,
        split_special_tokens=True,
        verbose=False,
    )
    ids, spans, numbers = list(coded["input_ids"]), coded["offset_mapping"], coded.word_ids(0)
    texts, words, inside = [], [], []
    shown, word, before = 0, -1, None  # how much of the text is shown, and the last token's word
    for entry, (start, end), number in zip(
        tokenizer.convert_ids_to_tokens(ids), spans, numbers, strict=True
    ):
        if entry and not entry.strip(SPACE_MARK) and " " not in text[start:end]:
            end = start  # a space that SentencePiece puts before a text, where there is none
        overlaps = start < min(shown, end)
        meets = overlaps or (start == shown and 0 < start < end and _go_together(text, start))
        if not meets or not (overlaps or number == before or _in_a_number(text, start)):
            word += 1
        texts.append(text[shown:end] if end > shown else "")
        words.append(word)
        inside.append(overlaps)
        shown, before = max(shown, end), number
    if texts:
        texts[-1] += text[shown:]
    return Encoding(ids, texts, words, inside)


def _go_together(text: str, at: int) -> bool:
    """Whether no word ends between a place of a text and the character before it."""
    return _of_word(text[at - 1]) and _of_word(text[at])


def _of_word(char: str) -> bool:
    """A letter, a digit, a mark on one, or a joiner."""
    return char.isalnum() or char in "\u200c\u200d" or unicodedata.category(char)[0] == "M"


def _in_a_number(text: str, at: int) -> bool:
    """Whether a number goes on here; some tokenizers take every digit for a word."""
    return text[at - 1].isdigit() and text[at].isdigit()


@lru_cache(maxsize=65536)
def is_punctuation(text: str) -> bool:
    """Whether a token's text, spaces aside, is punctuation marks (Unicode P) alone or line ends."""
    bare = text.strip(" \t")
    return bool(bare) and all(
        char in "\n\r" or unicodedata.category(char).startswith("P") for char in bare
    )
