"""Checks a model's first reading against its own eager attention and the Bridge's.

A model that differs is refused by name, because a wrong pattern would look like any other. The
reading is short, and longer windows are shortened for it, so that every mask takes effect.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from attn.errors import ModelError
from attn.models.interface import Reading

PROBE = 24  # tokens in the reading
SHORT = 16  # the length that longer windows get for the check
WINDOWS = ("sliding_window", "attention_chunk_size")
TOLERANCE = {"float32": 1e-4, "bfloat16": 5e-2, "float16": 1e-2}
"""The most of a row's attention that may differ: in the worst row, or, in half precision, where
single rows differ by chance, in the average row of the worst head."""
WITH_ATTENTION = ("full_attention", "sliding_attention", "chunked_attention", "attention", "hybrid")


def probe(hf: Any, n_ctx: int, n_vocab: int) -> Tensor:
    """(1, position) the ids of the reading: longer than any window that cannot be shortened."""
    fixed = getattr(hf.config.get_text_config(), "window_size", None)  # GPT-Neo, in its buffers
    n = max(PROBE, fixed + PROBE if isinstance(fixed, int) and fixed < 1024 else 0)
    ids = torch.arange(min(n, n_ctx), dtype=torch.int64) * 7919 + 11
    return ids.remainder(n_vocab)[None]


@contextmanager
def short_windows(*models: Any) -> Iterator[None]:
    """Shorten the windows of models that a reading of :data:`PROBE` tokens would not reach."""
    before = []
    for hf in models:
        config = hf.config.get_text_config()
        for name in WINDOWS:
            width = getattr(config, name, None)
            if isinstance(width, int) and width > SHORT:
                before.append((config, name, width))
                setattr(config, name, SHORT)
    try:
        yield
    finally:
        for config, name, width in before:
            setattr(config, name, width)


def own_patterns(hf: Any, ids: Tensor) -> list[Tensor]:
    """(batch, head, dst, src) of every layer with attention, as plain transformers computes it."""
    with torch.no_grad(), short_windows(hf):
        out = hf.base_model(input_ids=ids, output_attentions=True, use_cache=False)
    found = getattr(out, "attentions", None) or ()
    return [pattern.float().cpu() for pattern in found if pattern is not None]


def without_attention(hf: Any, n_layers: int, read: Mapping[int, Reading]) -> tuple[int, ...]:
    """The layers that gave no pattern and that the configuration says are of another kind."""
    config = hf.config.get_text_config()
    kinds = getattr(config, "layer_types", None) or getattr(config, "layers_block_type", None) or []
    return tuple(
        layer
        for layer in range(n_layers)
        if layer not in read and layer < len(kinds) and kinds[layer] not in WITH_ATTENTION
    )


def check(
    name: str,
    readings: Mapping[int, Reading],
    layers: list[int],
    own: list[Tensor],
    bridge: Mapping[int, Tensor] | None,
    dtype: str,
) -> bool:
    """Refuse a model that cannot be read correctly; returns whether it reads in both directions.

    ``layers`` those with attention; ``own`` their patterns by plain transformers, ``bridge`` by
    the Bridge, None where these were compared before. Raises :class:`ModelError`.
    """
    if not layers:
        raise ModelError(f"{name} has no layer with attention: choose another model.")
    seen = readings if bridge is None else bridge
    missing = [layer for layer in layers if layer not in readings or layer not in seen]
    if missing or len(own) != len(layers):
        layer = missing[0] if missing else layers[min(len(own), len(layers) - 1)]
        raise ModelError(
            f"Layer {layer} of {name} has no attention that can be read: choose another model."
        )
    forward = int(readings[layers[0]].visible[0, 0]) > 1
    for layer, theirs in zip(layers, own, strict=True):
        reading = readings[layer]
        others = [(theirs, "its own eager attention")]
        others += [] if bridge is None else [(bridge[layer], "the Bridge's")]
        for other, whose in others:
            if not _close(reading.pattern, other, dtype):
                remedy = "choose another model"
                if dtype != "float32":  # too coarse, or too small for its numbers
                    why = "is not finite in" if other.isnan().any() else "is rounded by"
                    remedy = f"it {why} {dtype}, so use --dtype float32, or {remedy}"
                raise ModelError(
                    f"The attention of {name} cannot be read correctly (layer {layer} differs from "
                    f"{whose}): {remedy}."
                )
        if not _as_counted(reading, forward):
            raise ModelError(
                f"The attention of {name} has a mask that cannot be counted (layer {layer}): "
                f"choose another model."
            )
    return forward


def _close(ours: Tensor, theirs: Tensor, dtype: str) -> bool:
    if ours.shape != theirs.shape or not torch.equal(ours.isnan(), theirs.isnan()):
        return False
    moved = (ours - theirs).nan_to_num().abs().sum(-1) / 2  # (batch, head, dst)
    worst = moved.max() if dtype == "float32" else moved.mean((0, 2)).max()
    return float(worst) <= TOLERANCE[dtype]


def _as_counted(reading: Reading, forward: bool) -> bool:
    """Whether rows see what ``visible`` says: the last so many sources; in both directions, all."""
    pattern, visible = reading.pattern, reading.visible[0].to(reading.pattern.device)
    n = pattern.shape[-1]
    position = torch.arange(n, device=pattern.device)
    if forward:
        return bool((visible == n).all())
    back = position[:, None] - position  # (dst, src)
    seen = (back >= 0) & (back < visible[:, None])
    if not bool((visible >= 1).all()) or bool((visible > position + 1).any()):
        return False
    return not bool((pattern.nan_to_num() * ~seen).any())
