"""The attention weights of a layer, by head, and what follows from their products.

See :mod:`attn.measure.weights` for the circuits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from attn.measure.norms import LayerNorms


@dataclass(frozen=True, eq=False)
class Layer:
    """The attention weights of one layer, float32, KV heads repeated for each of their heads.

    ``w_q``, ``w_k``, ``w_v`` (head, d_model, d_head); ``w_o`` (head, d_head, d_model).
    """

    w_q: Tensor
    w_k: Tensor
    w_v: Tensor
    w_o: Tensor

    def folded(self, norms: LayerNorms) -> Layer:
        """The same layer with the linear part of its norms in its weights."""
        w_q, w_k, w_v, w_o = self.w_q, self.w_k, self.w_v, self.w_o
        if norms.read is not None:
            w_q, w_k, w_v = (norms.read.before(weight) for weight in (w_q, w_k, w_v))
        if norms.query is not None:
            w_q = norms.query.of_heads(w_q)
        if norms.key is not None:
            w_k = norms.key.of_heads(w_k)
        if norms.written is not None:
            w_o = norms.written.after(w_o)
        return Layer(w_q, w_k, w_v, w_o)

    @cached_property
    def written(self) -> Tensor:
        """(head, d_head, d_model): ``W_V W_O`` but for a rotation from the left."""
        return _root(self.w_v) @ self.w_o

    def read(self, way: str) -> Tensor:
        """(head, d_model, d_head): what a way reads of an earlier head's output.

        That is ``W_Q W_Kᵀ``, ``W_K W_Qᵀ`` or ``W_V W_O``, but for a rotation from the right.
        """
        one, other = {
            "q": (self.w_q, self.w_k),
            "k": (self.w_k, self.w_q),
            "v": (self.w_v, self.w_o.mT),
        }[way]
        return one @ _root(other).mT

    @cached_property
    def ov_singular(self) -> Tensor:
        """(head, d_head) singular values of ``W_V W_O``, falling."""
        return _singular(self.w_v, self.w_o.mT)

    @cached_property
    def qk_singular(self) -> Tensor:
        """(head, d_head) singular values of ``W_Q W_Kᵀ``, falling."""
        return _singular(self.w_q, self.w_k)


def _root(factor: Tensor) -> Tensor:
    """R (head, d_head, d_head) of ``factor`` (head, d_model, d_head), for which RᵀR = factorᵀ
    factor: what is left of the factor in a product, but for a rotation from the left."""
    r: Tensor = torch.linalg.qr(factor, mode="r").R
    return r


def _singular(left: Tensor, right: Tensor) -> Tensor:
    """(head, d_head) singular values of ``left rightᵀ``, both (head, d_model, d_head), falling."""
    return of_finite(torch.linalg.svdvals, _root(left) @ _root(right).mT)


def of_finite(values: Callable[[Tensor], Tensor], square: Tensor) -> Tensor:
    """(head, d_head) values of square matrices (head, d_head, d_head), NaN of one not finite."""
    finite = square.isfinite().flatten(1).all(1)
    found = values(torch.where(finite[:, None, None], square, 0.0))
    return torch.where(finite[:, None], found, torch.nan)


def layer_weights(session: Any, layer: int) -> Layer:
    """A layer's weights as stored, from the session's Bridge.

    Raises ValueError where the Bridge cannot tell them by head.
    """
    attn, n = session.bridge.blocks[layer].attn, session.n_heads
    found = []
    for name in ("W_Q", "W_K", "W_V", "W_O"):
        weight = getattr(attn, name).detach().float()
        if weight.ndim != 3 or n % len(weight):
            raise ValueError(f"{name} of layer {layer} is {tuple(weight.shape)}")
        found.append(weight.repeat_interleave(n // len(weight), 0))
    return Layer(*found)
