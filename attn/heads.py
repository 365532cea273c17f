"""Small frozen value types that every other module speaks in. No torch here."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from attn.errors import HeadError
from attn.formatting import shown
from attn.html_tables import Safe, table

_SUBSCRIPT = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")
_HEAD = re.compile(r"[Ll](\d+)[Hh](\d+)")


@dataclass(frozen=True, order=True)
class HeadId:
    """One attention head, zero-based: layer 10, head 7 is ``L10H7``.

    Equal by value, ordered by layer, then head. :meth:`parse` and :meth:`check` raise HeadError.

    >>> from attn import HeadId
    >>> HeadId.parse("L10H7")
    HeadId(layer=10, head=7)
    >>> str(HeadId(0, 3))
    'L0H3'
    """

    layer: int
    head: int

    def __str__(self) -> str:
        return f"L{self.layer}H{self.head}"

    def _repr_html_(self) -> str:
        return f"<code>{self}</code>"

    @classmethod
    def parse(cls, text: str) -> HeadId:
        """Read ``L10H7``; raises :class:`HeadError` on anything else."""
        match = _HEAD.fullmatch(text.strip())
        if not match:
            raise HeadError(f"{text!r} is not a head: write layer and head like L10H7.")
        return cls(int(match[1]), int(match[2]))

    def check(self, n_layers: int, n_heads: int) -> HeadId:
        """Return the head itself, or raise :class:`HeadError` when the model has no such head."""
        if not (0 <= self.layer < n_layers and 0 <= self.head < n_heads):
            last = HeadId(n_layers - 1, n_heads - 1)
            raise HeadError(f"The model has no head {self}: its heads are L0H0 to {last}.")
        return self


@dataclass(frozen=True)
class Part:
    """One writer to the residual stream: its name on screen, its layer, its head or -1.

    The embedding, the position embedding and the biases have layer -1.
    """

    name: str
    layer: int = -1
    head: int = -1


@dataclass(frozen=True)
class Tokens:
    """A tokenized text.

    ``ids`` (position,) int32 token ids, special ones at the ends where they were asked for;
    ``texts`` what each covers: joined they are the text, but for special tokens, which show their
    names (``<|im_start|>``), and pieces of a character that is cut, which show their bytes
    (``\\xe0``). Of several tokens that make one character, the first wears it and the others are
    empty. ``truncated`` whether text was left out to fit the context; ``words`` the number of the
    word that each belongs to; ``names`` what each is called, ``kinds`` what it is: one of
    :data:`attn.corpus.tokens.KINDS`.
    """

    ids: np.ndarray
    texts: tuple[str, ...]
    truncated: bool = False
    words: tuple[int, ...] = ()
    names: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """What to call each token by itself: see :func:`labels`."""
        return labels(self.texts, self.names, self.kinds)

    @cached_property
    def special(self) -> tuple[bool, ...]:
        """Which of them stand for no text."""
        return tuple(kind == "special" for kind in self.kinds)


def labels(texts: Sequence[str], names: Sequence[str], kinds: Sequence[str]) -> tuple[str, ...]:
    """What to call each of a text's tokens by itself.

    Its text; with its name where it is unknown (``猫[UNK]``); its name where it covers nothing, but
    of the second and third piece of a character that character with their number: ``ภ₂``, ``ภ₃``.
    """
    if not names or not kinds:
        return tuple(texts)
    found, char, piece = [], "", 1
    for text, name, kind in zip(texts, names, kinds, strict=True):
        char, piece = (text[-1], 1) if text else (char, piece + 1)
        if text:
            found.append(text + name if kind == "unknown" and text != name else text)
        else:
            found.append(char + str(piece).translate(_SUBSCRIPT) if kind and char else name)
    return tuple(found)


@dataclass(frozen=True, eq=False)
class Example:
    """One (document, dst, src) of a head, with its scores and its row.

    ``document`` is the document's place in the corpus, from 0; ``start`` the position in the
    document at which its window begins (0 unless long documents were cut into windows);
    ``dst`` and ``src`` count from the window's first position. ``token`` is the source token's
    text. ``row`` (source,) holds the attention of the whole row, 0..1, or None where the index
    keeps the pair alone. ``write`` is the attention times the norm of what the source's value
    writes, in units of the residual stream, or None where the scan kept no write scores or the
    index keeps the pair alone. ``copies`` is how many other documents have the same text.
    """

    head: HeadId
    document: int
    dst: int
    src: int
    token: str
    multiple: float
    attention: float
    start: int = 0
    row: np.ndarray | None = field(default=None, repr=False)
    write: float | None = None
    copies: int = 0

    @property
    def more(self) -> str:
        """What to say of the copies of its text, empty where there are none."""
        return f"and {self.copies:,} more of the same text" if self.copies else ""

    def record(self) -> dict[str, object]:
        """The pair as a flat record: what ``--json`` prints and tables hold."""
        return {
            "layer": self.head.layer,
            "head": self.head.head,
            "document": self.document,
            "dst": self.dst,
            "src": self.src,
            "token": self.token,
            "multiple": self.multiple,
            "attention": self.attention,
            **({} if self.write is None else {"write": self.write}),
            "start": self.start,
        }

    def _repr_html_(self) -> str:
        return examples_table([self])


@dataclass(frozen=True)
class Window:
    """What the index keeps of one scanned window of a document: enough to show it.

    ``id`` the document's, a hash of its text: the same text has the same id in every corpus;
    ``texts``, ``names`` and ``kinds`` as those of :class:`Tokens`.
    """

    document: int
    start: int
    source: str
    texts: tuple[str, ...]
    ids: tuple[int, ...]
    id: str = ""
    names: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The text, without special tokens."""
        kinds = self.kinds or ("",) * len(self.texts)
        pairs = zip(self.texts, kinds, strict=True)
        return "".join(text for text, kind in pairs if kind != "special")

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """What to call each token by itself: see :func:`labels`."""
        return labels(self.texts, self.names, self.kinds)


def examples_table(examples: Sequence[Example], title: str = "") -> str:
    """Examples as an HTML table, one a line: source token, multiple, attention, place."""
    columns = ["head", "source token", "multiple", "attention", "document", "dst", "src"]
    rows = [
        [
            e.head,
            Safe(f"<code>{html.escape(shown(e.token))}</code>"),
            f"{e.multiple:.2f}×",
            f"{e.attention:.4f}",
            e.document if not e.start else f"{e.document} from {e.start}",
            e.dst,
            e.src,
        ]
        for e in examples
    ]
    return table(columns, rows, title)
