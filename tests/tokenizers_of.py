"""A small tokenizer of every kind that people have, trained here, and texts in eight languages."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from tokenizers import (
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast

TEXTS = {
    "English": 'The cat sat on the mat. "The cats" (two) don\'t sit; they ran in 2023!\nHello, 7.',
    "French": "L'été dernier, le garçon a mangé une crêpe à Noël. Où était-il ? À l'école !",
    "Hebrew": "שלום עולם. החתול ישב על השטיח, והכלב ישב על הרצפה.",
    "Arabic": "القطة جلست على السجادة. هل جلس الكلب؟ نعم، جلس هناك.",
    "Thai": "แมวนั่งบนเสื่อ และสุนัขนั่งบนพื้น แมวนั่งอีกครั้ง",
    "Hindi": "बिल्ली चटाई पर बैठी। कुत्ता फर्श पर बैठा। बिल्ली फिर बैठी।",
    "Chinese": "猫坐在垫子上。狗坐在地板上。猫又坐下了！",
    "emoji": "A smile 😀 and a family 👨\u200d👩\u200d👧, then 😀😀 again; 猫 too.",
}
CORPUS = [*TEXTS.values()] * 3
_MARKS = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"]


def _byte_level() -> Tokenizer:
    """Like GPT-2's: bytes, merged within words that its pattern finds."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(
        TEXTS["English"].split("\n") * 5,
        trainers.BpeTrainer(
            vocab_size=330, special_tokens=["<s>", "</s>"], initial_alphabet=alphabet,
            show_progress=False,
        ),
    )  # fmt: skip
    return made


def _word_piece() -> Tokenizer:
    """Like BERT's: lower case, no accents, Chinese characters apart, ``##`` before what goes on."""
    made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece()
    made.train_from_iterator(
        [TEXTS["English"], TEXTS["French"]] * 3,
        trainers.WordPieceTrainer(vocab_size=150, special_tokens=_MARKS, show_progress=False),
    )
    ids = [(mark, made.token_to_id(mark)) for mark in ("[CLS]", "[SEP]")]
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=ids
    )
    return made


def _unigram() -> Tokenizer:
    """Like T5's and XLM-R's: pieces of a space mark and letters, by their likelihood."""
    made = Tokenizer(models.Unigram())
    made.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")]
    )
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.decoder = decoders.Metaspace()
    made.train_from_iterator(
        CORPUS,
        trainers.UnigramTrainer(
            vocab_size=260, special_tokens=["<unk>", "<s>", "</s>"], unk_token="<unk>",
            show_progress=False,
        ),
    )  # fmt: skip
    return made


def _sentence_piece() -> Tokenizer:
    """Like Llama 2's: a space mark put in front, no words, bytes for what the pieces lack."""
    pieces = [*"▁abcdefghijklmnopqrstuvwxyzéàABCDEFGHILNOT.,;!?\"'()0123456789"]
    merges = [
        ("▁", "t"),
        ("h", "e"),
        ("▁t", "he"),
        ("a", "t"),
        ("c", "at"),
        ("▁", "cat"),
        ("▁", "c"),
    ]
    merges += [("▁", "s"), ("▁s", "at"), ("H", "e"), ("l", "l"), ("ll", "o")]
    names = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *pieces]
    names += [left + right for left, right in merges]
    made = Tokenizer(
        models.BPE(
            vocab={name: i for i, name in enumerate(dict.fromkeys(names))},
            merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True,
        )
    )  # fmt: skip
    made.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    made.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    return made


def _words() -> Tokenizer:
    """Whole words and marks; what is not in the corpus in English is unknown."""
    made = Tokenizer(models.WordLevel(unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.train_from_iterator(
        [TEXTS["English"]], trainers.WordLevelTrainer(special_tokens=_MARKS, show_progress=False)
    )
    return made


def _characters() -> Tokenizer:
    """A token a character."""
    made = Tokenizer(models.WordLevel(unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    made.decoder = decoders.Fuse()
    made.train_from_iterator(
        CORPUS,
        trainers.WordLevelTrainer(vocab_size=400, special_tokens=_MARKS, show_progress=False),
    )
    return made


_KINDS: dict[str, tuple[Callable[[], Tokenizer], dict[str, str]]] = {
    "byte-level BPE": (_byte_level, {"bos_token": "<s>", "eos_token": "</s>"}),
    "WordPiece": (
        _word_piece,
        {
            "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]",
            "mask_token": "[MASK]",
        },
    ),
    "Unigram": (_unigram, {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}),
    "SentencePiece BPE": (
        _sentence_piece, {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"},
    ),
    "words": (_words, {"unk_token": "[UNK]"}),
    "characters": (_characters, {"unk_token": "[UNK]"}),
}  # fmt: skip
KINDS = tuple(_KINDS)


@cache
def tokenizer_of(kind: str) -> Any:
    """A tokenizer of a kind, as transformers holds it."""
    make, special = _KINDS[kind]
    return PreTrainedTokenizerFast(tokenizer_object=make(), **special)
