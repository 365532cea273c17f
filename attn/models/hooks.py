"""Reads models with attention code of their own, outside ``AttentionInterface``.

Their attention modules return the pattern beside the output, so a hook on each can read it. Only
the models of :data:`MODULES` are read in this way, and each is tested against its own eager
attention. In half precision their patterns are half precise too, so near ties may rank differently.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from attn.errors import ModelError
from attn.models.interface import Inputs, Watch

MODULES = {
    "bloom": "BloomAttention",
    "falcon": "FalconAttention",
    "gpt_neo": "GPTNeoSelfAttention",
    "gptj": "GPTJAttention",
}
"""Model type → the class of its attention modules, which return (output, pattern)."""

SCALES: dict[str, Callable[[Any], float]] = {
    "bloom": lambda module: module.inv_norm_factor,
    "falcon": lambda module: module.inv_norm_factor,
    "gpt_neo": lambda module: 1.0,
    "gptj": lambda module: 1.0 / float(module.scale_attn),
}
"""Model type → what its attention multiplies queries · keys by."""

_PRODUCTS = (torch.matmul, torch.bmm, Tensor.matmul, Tensor.bmm, Tensor.__matmul__)
_SUMMED = (torch.baddbmm, Tensor.baddbmm)


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
    n_heads = int(hf.config.get_text_config().num_attention_heads)
    for layer, module in enumerate(modules):
        _hook(module, layer, watch, _Products(module, SCALES[kind], layer, watch, n_heads))


def _hook(module: Any, layer: int, watch: Watch, products: _Products) -> None:
    signature = inspect.signature(module.forward)

    def follow(module: Any, args: Any) -> None:
        if watch.inputs is not None or watch.change is not None:
            products.begin()

    def leave(module: Any, args: Any, output: Any) -> None:
        products.end()

    def report(module: Any, args: tuple[Any, ...], more: dict[str, Any], output: Any) -> None:
        changed, products.changed = products.changed, None
        if watch.wants(layer):
            given = signature.bind(*args, **more).arguments
            pattern = output[1] if changed is None else changed
            pattern = pattern.float()  # (batch, head, dst, src)
            values = None
            wanted = watch.grams is not None or watch.shows_values
            if wanted and watch.values is not None:
                values = watch.values(layer, given["hidden_states"])
            watch.report(
                layer, pattern, _visible(module, given.get("attention_mask"), pattern), values
            )
        watch.stop_after(layer)

    module.register_forward_pre_hook(follow)
    module.register_forward_hook(leave, always_call=True)  # also where the pass ends inside
    module.register_forward_hook(report, with_kwargs=True)


class _Products(TorchFunctionMode):
    """The two matrix products of an attention, seen while its module runs: queries × keys, and
    pattern × values."""

    def __init__(
        self, module: Any, scale: Callable[[Any], float], layer: int, watch: Watch, n_heads: int
    ) -> None:
        super().__init__()
        self.module, self.scale, self.layer = module, scale, layer
        self.watch, self.n_heads = watch, n_heads
        self.running = False
        self.scored: Inputs | None = None
        self.changed: Tensor | None = None

    def begin(self) -> None:
        """Follow the products from here on."""
        self.end()
        self.running, self.scored, self.changed = True, None, None
        TorchFunctionMode.__enter__(self)  # type: ignore[no-untyped-call]

    def end(self) -> None:
        """Follow them no longer."""
        if self.running:
            self.running = False
            TorchFunctionMode.__exit__(self, None, None, None)  # type: ignore[no-untyped-call]

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        more = dict(kwargs or {})
        if func in _SUMMED:
            left, right = more["batch1"], more["batch2"]
            self._score(left, right, more.get("alpha", 1.0), args[0] * more.get("beta", 1.0))
        elif func in _PRODUCTS and args[1].ndim > 2:
            left, right = args[:2]
            if self.scored is None:
                self._score(left, right, self.scale(self.module), None)
            else:
                if self.watch.inputs is not None:
                    self.watch.inputs(replace(self.scored, value=self._by_head(right)))
                if self.watch.change is not None:
                    self.changed = self.watch.change(self.layer, self._by_head(left).float())
                    return func(self.changed.to(left.dtype).reshape(left.shape), right)
        return func(*args, **more)

    def _score(self, query: Tensor, keys: Tensor, scale: float, bias: Tensor | None) -> None:
        self.scored = Inputs(
            self.layer,
            self._by_head(query),
            self._by_head(keys).mT,
            None,
            float(scale),
            bias=None if bias is None else self._by_head(bias),
        )

    def _by_head(self, tensor: Tensor) -> Tensor:
        """(batch, head, ...) of (batch * head, ...); what has four dimensions has it already."""
        return tensor.reshape(-1, self.n_heads, *tensor.shape[1:]) if tensor.ndim == 3 else tensor


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
