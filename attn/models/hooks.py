"""Reads models with attention code of their own, outside ``AttentionInterface``.

Their attention modules return the pattern beside the output, so a hook on each can read it. Only
the models of :data:`MODULES` are read in this way, and each is tested against its own eager
attention. In half precision their patterns are half precise too, so near ties may rank differently.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor

from attn.errors import ModelError
from attn.models.interface import Watch

MODULES = {
    "bloom": "BloomAttention",
    "falcon": "FalconAttention",
    "gpt_neo": "GPTNeoSelfAttention",
    "gptj": "GPTJAttention",
}
"""Model type → the class of its attention modules, which return (output, pattern)."""


def install(hf: Any, watch: Watch, n_layers: int) -> None:
    """Make the attention modules of a model report to ``watch``; ModelError where it has others."""
    kind = hf.config.model_type
    if kind == "falcon" and hf.config.alibi:
        raise ModelError(
            f"The attention of {watch.name} cannot be read correctly (transformers adds the ALiBi "
            f"biases of Falcon twice where patterns are computed): choose another model."
        )
    modules = [m for m in hf.base_model.modules() if type(m).__name__ == MODULES.get(kind)]
    if len(modules) != n_layers:
        raise ModelError(f"The attention of {watch.name} ({kind}) cannot be read yet.")
    for layer, module in enumerate(modules):
        _hook(module, layer, watch)


def _hook(module: Any, layer: int, watch: Watch) -> None:
    signature = inspect.signature(module.forward)

    def report(module: Any, args: tuple[Any, ...], more: dict[str, Any], output: Any) -> None:
        if watch.wants(layer):
            given = signature.bind(*args, **more).arguments
            pattern = output[1].float()  # (batch, head, dst, src)
            values = None
            wanted = watch.grams is not None or watch.shows_values
            if wanted and watch.values is not None:
                values = watch.values(layer, given["hidden_states"])
            watch.report(
                layer, pattern, _visible(module, given.get("attention_mask"), pattern), values
            )
        watch.stop_after(layer)

    module.register_forward_hook(report, with_kwargs=True)


def _visible(module: Any, mask: Tensor | None, pattern: Tensor) -> Tensor:
    """(batch or 1, dst) int64: the sources that the mask, and the module's own, leave to a row."""
    n_dst, n_src = pattern.shape[-2:]
    seen = torch.ones((1, n_dst, n_src), dtype=torch.bool, device=pattern.device)
    if mask is not None:
        seen = seen & (mask[:, 0] == 0)
    own = getattr(module, "bias", None)  # GPT-Neo: which sources a local layer sees
    if isinstance(own, Tensor) and own.dtype == torch.bool:
        seen = seen & own[0, :, :n_dst, :n_src]
    return seen.sum(-1)
