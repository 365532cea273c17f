"""Where sentences end, in the scripts that mark it; for tokens and for plain text."""

from __future__ import annotations

import re
from collections.abc import Sequence

_CLOSING = re.escape("\"'”’»›)]}」』】）〉》")
_END = re.compile(
    rf"[.!?…؟।॥۔։።჻]+[{_CLOSING}]*(?=\s|$)"  # where spaces stand between sentences
    rf"|[。！？．｡]+[{_CLOSING}]*"  # where none do
    r"|\n"
)
"""What ends a sentence: its mark, with the quotes and brackets that close after it, or a line end.
A full stop within a number or a name that goes on at once is none."""


def sentence_ends(text: str) -> list[int]:
    """The places after which a sentence of the text has ended, rising.

    >>> sentence_ends("“Go!” He left 3.5 of them.")
    [5, 26]
    """
    return [match.end() for match in _END.finditer(text)]


def sentence_numbers(texts: Sequence[str], special: Sequence[bool] = ()) -> list[int]:
    """The number of the sentence that each token belongs to, -1 where it belongs to none.

    ``texts`` what the tokens cover, which joined are the text; ``special`` which of them stand for
    no text: these belong to no sentence, and neither do blanks between two.

    >>> sentence_numbers(["<s>", "“Go", "!", "”", " He", " left", "."], [True] + [False] * 6)
    [-1, 0, 0, 0, 1, 1, 1]
    """
    marks = list(special) or [False] * len(texts)
    pieces = ["\n" if mark else text for text, mark in zip(texts, marks, strict=True)]
    ends = iter([*sentence_ends("".join(pieces)), 1 << 62])
    numbers: list[int] = []
    number, begun, end, place = -1, False, next(ends), 0
    for text, piece, mark in zip(texts, pieces, marks, strict=True):
        first = place + len(piece) - len(piece.lstrip()) if piece.strip() else place
        while first >= end:
            begun, end = False, next(ends)
        if mark:
            numbers.append(-1)
        elif text == "" and numbers:  # a piece of the character before
            numbers.append(numbers[-1])
        else:
            if text.strip() and not begun:
                number, begun = number + 1, True
            numbers.append(number if begun else -1)
        place += len(piece)
    return numbers
