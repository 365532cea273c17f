"""A tokenizer of whole words, and a GPT-2 whose heads look where they are told to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from attn.measure.probes import names, retrieval, successors

TEXTS = (
    "and",
    *(f" {name}" for name in names.NAMES),
    *("and " + text.format(A="Mary", B="John", S="John") for text in names.TEMPLATES),
    *(f" {word}" for words, _ in successors.LISTS.values() for word in words[:40]),
    f"and {retrieval.FILLER}",
    *(f"and {needle} {question} Answer:" for needle, question, _ in retrieval.NEEDLES),
)
"""All that the probes say, but for some numbers."""


def save_words(folder: Path, texts: Iterable[str] = TEXTS) -> int:
    """A tokenizer in which every word of the texts, with its space, is one token; its size."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    split = pre_tokenizers.ByteLevel(add_prefix_space=False)
    words = {word for text in texts for word, _ in split.pre_tokenize_str(text)}
    known = {word: i for i, word in enumerate(["<unk>", "</s>", *sorted(words)])}
    tokenizer = Tokenizer(models.WordLevel(known, unk_token="<unk>"))
    tokenizer.pre_tokenizer = split
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", eos_token="</s>")
    fast.save_pretrained(folder)
    return len(fast)


def plant(
    folder: Path,
    looks: Mapping[tuple[int, int], Mapping[int, int]],
    moves: Mapping[tuple[int, int], np.ndarray | float],
    n_ctx: int = 160,
) -> Any:
    """A session of a two-layer GPT-2 with two heads a layer.

    Tokens and positions are one axis each. A head looks from a position where ``looks`` says, else
    at the first, and writes ``moves``, (token, token) or a number times the token itself. The first
    MLP gives back what the norm before it gives, but for its small and negative parts.
    """
    import torch
    import transformers

    from attn.models.session import load_model

    size = save_words(folder)
    half = max(size, n_ctx) + 2
    config = transformers.GPT2Config(
        vocab_size=size, n_positions=n_ctx, n_embd=2 * half, n_layer=2, n_head=2, n_inner=2 * half,
        bos_token_id=None, eos_token_id=1,
    )  # fmt: skip
    model = transformers.GPT2LMHeadModel(config)
    with torch.no_grad():
        for name, values in model.named_parameters():
            norm = "ln_" in name and name.endswith("weight")
            values.fill_(1.0 if norm else 0.0)
        eye = torch.eye(half)
        model.transformer.wte.weight[:, :half] = eye[:size]
        model.transformer.wpe.weight[:, half:] = eye[:n_ctx]
        for layer, block in enumerate(model.transformer.h):
            attn = block.attn.c_attn.weight
            for head in range(2):
                at = slice(head * half, (head + 1) * half)
                query = torch.zeros(half, half)
                for dst in range(n_ctx):
                    query[dst, looks.get((layer, head), {}).get(dst, 0)] = 20.0
                attn[half:, at] = query
                key, value = (
                    slice(s + head * half, s + (head + 1) * half) for s in (2 * half, 4 * half)
                )
                attn[half:, key] = eye
                move = moves.get((layer, head), 0.0)
                whole = move * np.eye(size) if isinstance(move, float) else move
                attn[:size, value.start : value.start + size] = torch.tensor(whole).float()
                block.attn.c_proj.weight[at, :half] = eye
        model.transformer.h[0].mlp.c_fc.weight[:] = torch.eye(2 * half)
        model.transformer.h[0].mlp.c_proj.weight[:half, :half] = eye * 0.01
    model.save_pretrained(folder)
    return load_model(str(folder), device="cpu")
