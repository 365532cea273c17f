"""Text → tokens as a model gets them, with the special tokens around it."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from attn.corpus.tokens import Encoding, Vocabulary, encode
from attn.errors import ModelError
from attn.heads import Tokens


class TextEncoder:
    """A model's tokenizer. Safe to share between threads.

    ``prefix`` and ``suffix`` the ids of the special tokens around a text, of which a causal model
    has a BOS at most; ``vocabulary`` what its tokens are called.
    """

    def __init__(self, tokenizer: Any, name: str, bidirectional: bool) -> None:
        self.tokenizer, self.name = tokenizer, name
        self.vocabulary = Vocabulary(tokenizer)
        self.prefix, self.suffix = special_ids(tokenizer, bidirectional)
        self._text_lock = threading.Lock()
        self._known: dict[int, tuple[str, str]] = {}

    @property
    def bos_id(self) -> int | None:
        """The id of the special token that begins a text, None where there is none."""
        return self.prefix[0] if self.prefix else None

    @property
    def has_bos(self) -> bool:
        """Whether the tokenizer has a special token for the beginning of a text."""
        return bool(self.prefix)

    def encode(self, text: str, bos: bool | None = None, limit: int | None = None) -> Tokens:
        """Tokenize a text.

        ``bos`` puts special tokens around it (default: where the tokenizer has them): the BOS
        before it, and for a model that reads in both directions what its tokenizer's own template
        has before and after, as [CLS] and [SEP]. ``limit`` keeps at most that many tokens, these
        included. Special tokens spelled out in the text stay literal text.
        """
        bos = bool(self.prefix or self.suffix) if bos is None else bos
        room = limit
        if room is not None and bos:
            room = max(room - len(self.prefix) - len(self.suffix), 0)
        whole = self.encode_bare(text, room)
        part = whole if room is None else whole.part(0, room, self.vocabulary)
        return self.with_special(part, bos, len(part) < len(whole))

    def encode_bare(self, text: str, limit: int | None = None) -> Encoding:
        """Tokenize a text without special tokens; ``limit`` as for :func:`encode`."""
        with self._text_lock:
            return encode(self.tokenizer, text, limit)

    def with_special(self, part: Encoding, bos: bool, truncated: bool) -> Tokens:
        """Tokens with special ones around them where ``bos`` asks for these."""
        if bos and not (self.prefix or self.suffix):
            raise ModelError(f"The tokenizer of {self.name} has no BOS token: use --no-bos.")
        before, after = (self.prefix, self.suffix) if bos else ((), ())
        ids = [*before, *part.ids, *after]
        n, first = len(before), 1 + max(part.words, default=-1)
        words = [*range(n), *(n + word for word in part.words)]
        words += range(n + first, n + first + len(after))
        names, kinds = self._described(ids)
        texts = (*names[:n], *part.texts, *names[len(ids) - len(after) :])
        return Tokens(np.array(ids, np.int32), texts, truncated, tuple(words), names, kinds)

    def _described(self, ids: Sequence[int]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The name and the kind of every token."""
        known = self._known
        for token in ids:
            if token not in known:
                known[token] = self.vocabulary.name(token), self.vocabulary.kind(token)
        names, kinds = zip(*(known[token] for token in ids), strict=True) if ids else ((), ())
        return names, kinds


def special_ids(tokenizer: Any, bidirectional: bool) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The special tokens that go before and after a text.

    A causal model gets the BOS, if its tokenizer has one. One that reads in both directions gets
    what the tokenizer's own template puts around a text, as it was trained with, or [CLS] and [SEP]
    where the template is missing.
    """
    if not bidirectional:
        bos = tokenizer.bos_token_id
        return ((), ()) if bos is None else ((int(bos),), ())
    bare = tokenizer("a", add_special_tokens=False)["input_ids"]
    whole = tokenizer("a")["input_ids"]
    for start in range(len(whole) - len(bare) + 1 if len(whole) > len(bare) else 0):
        if whole[start : start + len(bare)] == bare:
            return tuple(whole[:start]), tuple(whole[start + len(bare) :])
    cls, sep = tokenizer.cls_token_id, tokenizer.sep_token_id
    return ((), ()) if cls is None else ((int(cls),), () if sep is None else (int(sep),))
