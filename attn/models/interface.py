"""Attention that shows its patterns: a function for transformers' ``AttentionInterface``.

It computes what a model's eager attention does and hands each layer's pattern to an observer before
the next layer runs. A model uses it once :func:`install` has been called on it. Models that have
attention of their own are read by :mod:`attn.models.hooks` instead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from attn.errors import ModelError

INTERFACE = "attn_observed"
UNREADABLE = {
    "s_aux": "learned sinks",
    "sinks": "learned sinks",
    "position_bias": "a bias by position",
    "indices": "sources chosen by content",
    "block_indices": "sources chosen by content",
}
"""Arguments that some models pass to their attention function and :func:`attend` lacks."""


@dataclass(frozen=True)
class Reading:
    """What one layer did on one batch.

    ``pattern`` (batch, head, dst, src) float32, rows sum to 1; rows of padding are undefined.
    ``visible`` (batch or 1, dst) int64: how many sources the mask lets each row see. ``norms``
    (batch, head, src) float32: ``‖v_src · W_O‖``, what each source's value writes through the head
    at full attention; ``values`` (batch, kv head, src, d_head): what each source's value is, as the
    head mixes it. Both None where they were not asked for.
    """

    layer: int
    pattern: Tensor
    visible: Tensor
    norms: Tensor | None = None
    values: Tensor | None = None


Observer = Callable[[Reading], None]


@dataclass(frozen=True)
class Inputs:
    """What one layer's attention computes its pattern and its output from.

    ``query`` (batch, head, dst, d_head), ``key`` and ``value`` (batch, kv head, src, d_head), after
    biases, norms and rotation. The scores are ``scale * query · key``, capped at ``cap`` where it
    is not None, plus ``bias`` (batch, head, 1 or dst, src) and the mask.
    """

    layer: int
    query: Tensor
    key: Tensor
    value: Tensor | None
    scale: float
    cap: float | None = None
    bias: Tensor | None = None


Change = Callable[[int, Tensor], Tensor]
"""A layer and its pattern (batch, head, dst, src) float32 → the pattern to go on with."""


class Stop(Exception):
    """Raised inside a forward pass when no later layer is wanted."""


@dataclass
class Watch:
    """Receives the reports of one model's attention function, and decides when to stop.

    ``name`` the model's; ``grams`` of each layer (head, d_head, d_head): ``W_O W_Oᵀ`` where norms
    are wanted; ``values`` gives (batch, head, src, d_head) from a layer and its attention's input;
    ``shows_values`` whether readings have their values. ``inputs`` is called with every layer's
    before its pattern is computed; ``change`` gives the pattern to use instead, which is what the
    observer sees.
    """

    name: str = ""
    observer: Observer | None = None
    layers: frozenset[int] = frozenset()
    last: int = -1
    grams: Mapping[int, Tensor] | None = None
    values: Callable[[int, Tensor], Tensor] | None = None
    inputs: Callable[[Inputs], None] | None = None
    change: Change | None = None
    shows_values: bool = False
    seen: tuple[Tensor | None, Tensor] | None = (
        None  # the last mask, and how many sources it leaves visible
    )

    def wants(self, layer: int) -> bool:
        """Whether a layer is wanted."""
        return self.observer is not None and layer in self.layers

    def report(self, layer: int, pattern: Tensor, visible: Tensor, value: Tensor | None) -> None:
        """Show a layer; ``value`` (batch, kv head, src, d_head) is used where norms are wanted."""
        assert self.observer is not None
        norms = None
        if self.grams is not None and value is not None:
            norms = _norms(value, self.grams[layer])
        kept = value if self.shows_values else None
        self.observer(Reading(layer, pattern, visible, norms, kept))

    def stop_after(self, layer: int) -> None:
        """End the forward pass if no later layer is wanted."""
        if layer >= self.last:
            raise Stop


def attend(
    module: Any,
    query: Tensor,  # (batch, head, dst, d_head)
    key: Tensor,  # (batch, kv head, src, d_head)
    value: Tensor,  # (batch, kv head, src, d_head)
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    softcap: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Eager attention, in float32 from the scores on, that shows its pattern to an observer."""
    watch: Watch = module.attn_watch
    for name, what in UNREADABLE.items():
        if kwargs.get(name) is not None:
            raise ModelError(f"The attention of {watch.name} has {what}, which cannot be read yet.")
    if attention_mask is not None and attention_mask.shape[1] != 1:
        raise ModelError(
            f"The attention of {watch.name} has a mask for each head, which cannot be read yet."
        )
    batch, n_heads, n_dst, d_head = query.shape
    n_kv, n_src = key.shape[1], key.shape[2]
    scale = d_head**-0.5 if scaling is None else scaling
    layer = int(module.layer_idx)
    if watch.inputs is not None:
        watch.inputs(Inputs(layer, query, key, value, scale, softcap))

    # Grouped KV heads: the heads of a group become rows of one product; no key is repeated.
    rows = query.reshape(batch * n_kv, -1, d_head)
    keys = key.reshape(batch * n_kv, n_src, d_head).mT
    if softcap is None and attention_mask is not None:
        mask = _rows_of(attention_mask, n_heads // n_kv, n_kv).to(rows.dtype)
        scores = torch.baddbmm(mask, rows, keys, alpha=scale)
    else:
        scores = torch.bmm(rows, keys).mul_(scale)
        if softcap is not None:
            scores = scores.div_(softcap).tanh_()
            # A backward pass needs what tanh gave as it was.
            scores = scores * softcap if scores.requires_grad else scores.mul_(softcap)
        if attention_mask is not None:
            scores += _rows_of(attention_mask, n_heads // n_kv, n_kv)
    pattern = torch.softmax(scores, dim=-1, dtype=torch.float32)
    if watch.change is not None:
        whole = pattern.view(batch, n_heads, n_dst, n_src)
        pattern = watch.change(layer, whole).reshape(pattern.shape)
    values = value.reshape(batch * n_kv, n_src, -1)
    mixed = torch.bmm(pattern.to(value.dtype), values)
    mixed = mixed.view(batch, n_heads, n_dst, -1).transpose(1, 2).contiguous()
    pattern = pattern.view(batch, n_heads, n_dst, n_src)

    if watch.wants(layer):
        if watch.seen is None or watch.seen[0] is not attention_mask or attention_mask is None:
            watch.seen = attention_mask, _visible(attention_mask, n_dst, n_src, query)
        watch.report(layer, pattern, watch.seen[1], value)
    watch.stop_after(layer)
    return mixed, None


def _rows_of(mask: Tensor, group: int, n_kv: int) -> Tensor:
    """The mask (batch, 1, dst, src) for the rows of every KV head, broadcast where it can be."""
    mask = mask[:, 0] if mask.stride(0) and len(mask) > 1 else mask[:1, 0]
    mask = mask.repeat(1, group, 1) if group > 1 else mask
    return mask if len(mask) == 1 else mask.repeat_interleave(n_kv, 0)


def _norms(value: Tensor, gram: Tensor) -> Tensor:
    """(batch, head, src) float32: the length of every value's image under the head's W_O."""
    value = value.float().repeat_interleave(gram.shape[0] // value.shape[1], 1)
    return ((value @ gram) * value).sum(-1).clamp(min=0).sqrt()


def _visible(mask: Tensor | None, n_dst: int, n_src: int, like: Tensor) -> Tensor:
    """(batch or 1, dst) int64: the sources that the mask leaves to each row."""
    if mask is None:
        return torch.full((1, n_dst), n_src, dtype=torch.int64, device=like.device)
    return (mask[:, 0] == 0).sum(-1)


def install(hf: Any, watch: Watch) -> bool:
    """Make a model compute attention with :func:`attend`, reporting to ``watch``, if it can."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface, eager_mask

    AttentionInterface.register(INTERFACE, attend)
    AttentionMaskInterface.register(INTERFACE, eager_mask)
    for module in hf.modules():
        module.__dict__["attn_watch"] = watch
    hf.set_attn_implementation(INTERFACE)
    found: bool = hf.config.get_text_config()._attn_implementation == INTERFACE
    return found
