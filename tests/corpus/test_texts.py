"""What tokens cover, their words and names, for every kind of tokenizer and eight languages.

Expected values are the tokenizer's own (offsets, words, ``decode``) or written by hand.
"""

from __future__ import annotations

import re
import unicodedata

import pytest

from attn.corpus.tokens import KINDS as TOKEN_KINDS
from attn.corpus.tokens import Encoding, Vocabulary, encode
from attn.heads import labels
from tests.oracle import words_of
from tests.tokenizers_of import KINDS, TEXTS, tokenizer_of

HEX = re.compile(r"\\x[0-9a-f]{2}")


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=TEXTS)
def text(request: pytest.FixtureRequest) -> str:
    return TEXTS[request.param]


@pytest.fixture
def found(kind: str, text: str) -> Encoding:
    return encode(tokenizer_of(kind), text)


class TestEveryTokenizer:
    def test_the_ids_are_the_tokenizers(self, kind: str, text: str, found: Encoding) -> None:
        told = tokenizer_of(kind)(text, add_special_tokens=False, split_special_tokens=True)
        assert found.ids == told["input_ids"]

    def test_joined_they_are_the_text(self, text: str, found: Encoding) -> None:
        assert "".join(found.texts) == text

    def test_none_shows_bytes(self, found: Encoding) -> None:
        assert not any(HEX.search(shown) for shown in found.texts)
        assert "\ufffd" not in "".join(found.texts)

    def test_each_covers_its_own_characters(self, kind: str, text: str, found: Encoding) -> None:
        """By the tokenizer's offsets: no token shows a character that is another's alone."""
        told = tokenizer_of(kind)(
            text, add_special_tokens=False, split_special_tokens=True, return_offsets_mapping=True
        )
        place = 0
        for shown, (start, end), name in zip(
            found.texts, told["offset_mapping"], told.tokens(), strict=True
        ):
            own = text[place : place + len(shown)]
            assert shown == own
            if name.strip("▁"):  # a space mark alone may stand for no space
                inside = range(max(start, place), min(end, place + len(shown)))
                blank = [i for i in range(place, place + len(shown)) if i not in inside]
                assert not "".join(text[i] for i in blank).strip(), (shown, name)
            place += len(shown)

    def test_words_are_the_tokenizers(self, kind: str, text: str, found: Encoding) -> None:
        assert found.words == words_of(tokenizer_of(kind), text)

    def test_a_token_inside_a_character_is_in_its_word(self, found: Encoding) -> None:
        for i, inside in enumerate(found.inside):
            if inside:
                assert found.words[i] == found.words[i - 1]

    def test_parts_show_bytes_at_a_cut_and_nothing_else(
        self, kind: str, text: str, found: Encoding
    ) -> None:
        vocabulary, n = Vocabulary(tokenizer_of(kind)), len(found)
        for cut in range(1, n):
            first, second = found.part(0, cut, vocabulary), found.part(cut, n, vocabulary)
            clean = not found.inside[cut]
            assert first.ids + second.ids == found.ids
            if clean:
                assert first.texts + second.texts == found.texts
            else:  # the character is in neither
                joined = "".join(first.texts + second.texts)
                assert HEX.search(joined)
                assert len(HEX.sub("", joined)) < len(text)

    def test_names(self, kind: str, found: Encoding) -> None:
        """Where a token is text, its name is what the tokenizer's decoder makes of it."""
        tokenizer = tokenizer_of(kind)
        vocabulary = Vocabulary(tokenizer)
        for token in found.ids:
            name, sort = vocabulary.name(token), vocabulary.kind(token)
            assert sort in TOKEN_KINDS
            entry = tokenizer.convert_ids_to_tokens(token)
            assert vocabulary.entry(token) == entry
            if sort == "piece":
                assert HEX.search(name)
            elif sort == "unknown":
                assert name == tokenizer.unk_token
            elif kind == "WordPiece":
                assert name == entry
            else:
                assert name.strip() == tokenizer.decode([token]).strip()


class TestByHand:
    def test_word_piece(self) -> None:
        found = encode(tokenizer_of("WordPiece"), "The cats sat.")
        tokens = tokenizer_of("WordPiece").convert_ids_to_tokens(found.ids)
        starts = [i for i, token in enumerate(tokens) if not token.startswith("##")]
        assert [found.texts[i].strip()[0] for i in starts] == ["T", "c", "s", "."]
        words = [found.words[i] for i in starts]
        assert words == [0, 1, 2, 3]
        assert [found.words[i] for i in range(len(tokens)) if i not in starts] == [
            found.words[i - 1] for i in range(len(tokens)) if i not in starts
        ]

    def test_sentence_piece(self) -> None:
        tokenizer = tokenizer_of("SentencePiece BPE")
        found = encode(tokenizer, "été 7")
        assert tokenizer.convert_ids_to_tokens(found.ids) == ["▁", "é", "t", "é", "▁", "7"]
        assert found.texts == ["", "é", "t", "é", " ", "7"]
        lines = encode(tokenizer, "\nHello")
        assert tokenizer.convert_ids_to_tokens(lines.ids) == ["▁", "<0x0A>", "He", "llo"]
        assert lines.texts == ["", "\n", "He", "llo"]
        assert lines.words[2] == lines.words[3] != lines.words[1]

    def test_bytes_of_a_character(self) -> None:
        tokenizer = tokenizer_of("SentencePiece BPE")
        found = encode(tokenizer, "a😀b")
        assert found.texts == ["", "a", "😀", "", "", "", "b"]
        names = [Vocabulary(tokenizer).name(token) for token in found.ids]
        assert names == [" ", "a", "\\xf0", "\\x9f", "\\x98", "\\x80", "b"]
        cut = found.part(0, 4, Vocabulary(tokenizer))
        assert cut.texts == ["", "a", "\\xf0", "\\x9f"]
        rest = found.part(4, 7, Vocabulary(tokenizer))
        assert rest.texts == ["\\x98", "\\x80", "b"]

    def test_unknown_tokens_cover_what_stands_there(self) -> None:
        tokenizer = tokenizer_of("WordPiece")
        found = encode(tokenizer, "猫 cat 鸟")
        assert found.texts[0] == "猫"
        assert found.texts[-1] == " 鸟"
        assert found.ids[0] == found.ids[-1] == tokenizer.unk_token_id
        assert Vocabulary(tokenizer).kind(found.ids[0]) == "unknown"

    def test_an_uncased_token_covers_the_text_as_it_is_written(self) -> None:
        found = encode(tokenizer_of("WordPiece"), "the The THE")
        assert "".join(found.texts) == "the The THE"

    @pytest.mark.parametrize("kind", ["WordPiece", "words"])
    def test_dropped_space_is_the_next_tokens(self, kind: str) -> None:
        found = encode(tokenizer_of(kind), "  The  cat\n\nsat.  ")
        assert "".join(found.texts) == "  The  cat\n\nsat.  "
        assert found.texts[0].startswith("  ")
        assert found.texts[-1].endswith(".  ")

    def test_digits_are_one_number(self) -> None:
        found = encode(tokenizer_of("characters"), "in 2023, x1")
        words = {found.words[i] for i, text in enumerate(found.texts) if text in "2023"}
        assert len(words) == 1

    def test_marks_of_a_letter_are_in_its_word(self) -> None:
        word = "बिल्ली"
        assert any(unicodedata.category(char).startswith("M") for char in word)
        found = encode(tokenizer_of("SentencePiece BPE"), word)
        assert len(set(found.words[1:])) == 1


class TestLabels:
    """What a token is called by itself: on the axes of a heat map, in a terminal."""

    def test_pieces_of_a_character_have_its_number(self) -> None:
        assert labels(("a", "ภ", "", "", "b"), ("a", "\\xe0", "\\xb8", "\\xa0", "b"),
                      ("", *["piece"] * 3, "")) == ("a", "ภ", "ภ₂", "ภ₃", "b")  # fmt: skip

    def test_two_characters_in_three_pieces(self) -> None:
        texts, names = ("A", "B", ""), ("\\xe0\\xb8", "\\xa0\\xe0", "\\xb8\\x81")
        assert labels(texts, names, ("piece",) * 3) == ("A", "B", "B₂")

    def test_what_is_cut_off_has_its_bytes(self) -> None:
        assert labels(("\\x98", "\\x80"), ("\\x98", "\\x80"), ("piece",) * 2) == ("\\x98", "\\x80")

    def test_unknown_and_empty_ones_have_their_names(self) -> None:
        assert labels(("", "猫", "[UNK]"), (" ", "[UNK]", "[UNK]"), ("", "unknown", "unknown")) == (
            " ", "猫[UNK]", "[UNK]",
        )  # fmt: skip
