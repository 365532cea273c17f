"""A model → the linear part of every norm that its heads read or write through.

A norm divides by the size of what comes in, which depends on the text, and multiplies by a gain,
which does not; LayerNorm takes the mean off first. The field folds gain and mean into the weights
beside the norm (Elhage et al. 2021; TransformerLens' ``fold_ln``), so that numbers of the weights
say what the model computes but for each norm's scale.

Which norm stands where is found by one short forward pass: the norm of a layer is the module whose
output the attention reads. What it does is found by calling it, so that a gain held as ``1 + w`` or
under any name is read right. Where norms stand in the residual stream itself, as in BERT, heads
read the stream as it is, and nothing is folded.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from attn.measure.module_calls import Call, Seen, Trace, UnknownLayout

LOUD = 100.0
"""The size of what norms are called with, beside which their epsilon is nothing."""

_OF_HEADS = re.compile(r"^(q|k|query|key)_?(norm|layernorm|layer_norm|ln)$")


@dataclass(frozen=True)
class Norm:
    """What a norm does to what comes in, but for a scale: ``(x − mean if centred) * gain``.

    ``gain`` (d_model,) float32; on queries and keys (head, d_head), or (head * d_head,) for a norm
    over all heads at once.
    """

    gain: Tensor
    centred: bool

    def before(self, weight: Tensor) -> Tensor:
        """A weight (..., d_model, out) that reads the norm's output, as one that reads its input"""
        folded = self.gain[:, None] * weight
        return folded - folded.mean(-2, keepdim=True) if self.centred else folded

    def after(self, weight: Tensor) -> Tensor:
        """A weight (..., in, d_model) whose output the norm reads, as one that writes the norm's"""
        centred = weight - weight.mean(-1, keepdim=True) if self.centred else weight
        return centred * self.gain

    def of_heads(self, weight: Tensor) -> Tensor:
        """A weight (head, d_model, d_head) whose output the norm reads, as one that writes its."""
        if self.centred:
            axes = (0, 2) if self.gain.ndim == 1 else (2,)
            weight = weight - weight.mean(axes, keepdim=True)
        gain = self.gain.reshape(-1, weight.shape[2])
        return weight * gain.repeat_interleave(len(weight) // len(gain), 0)[:, None]


@dataclass(frozen=True)
class LayerNorms:
    """The norms beside one layer's attention; None where there is none.

    ``read`` before queries, keys and values; ``query`` and ``key`` on these themselves; ``written``
    on the attention's output.
    """

    read: Norm | None = None
    query: Norm | None = None
    key: Norm | None = None
    written: Norm | None = None


@dataclass(frozen=True)
class Norms:
    """The norms of a model: of each ``layers``, after the ``embedding``, and the ``final`` one.

    ``unembeds`` whether the unembedding reads the residual stream, through the final norm or as it
    is; where it does not (a masked model's head has a layer of its own), no path leads straight
    from a head to the vocabulary. ``blocks`` the module of each layer and ``outputs`` the linear
    module through which its attention writes, by layer; ``last`` the module of the final norm.
    """

    layers: dict[int, LayerNorms] = field(default_factory=dict)
    embedding: Norm | None = None
    final: Norm | None = None
    unembeds: bool = False
    blocks: dict[int, Any] = field(default_factory=dict)
    outputs: dict[int, Any] = field(default_factory=dict)
    last: Any = None


class UnknownNorm(UnknownLayout):
    """A norm whose effect on the weights is not known."""


def find_norms(session: Any) -> Norms:
    """Run a model once on a few tokens and read its norms.

    Raises UnknownNorm where an attention reads something else than its layer's input or a norm of
    it, or has a norm that is none of :class:`LayerNorms`.
    """
    config = session.hf.config.get_text_config()
    heads = (session.n_heads, getattr(config, "num_key_value_heads", None))
    length = min(next(n for n in (7, 11, 13) if n not in heads), session.n_ctx)
    trace = _Norms(session.hf, length)
    with session.held(), trace.running():
        session.run_whole([[0] * length], trace.attention)
    return trace.norms()


class _Norms(Trace):
    """The calls of one forward pass, and the norms among them."""

    def __init__(self, hf: Any, length: int) -> None:
        super().__init__(hf)
        self.length = length

    def norms(self) -> Norms:
        """What the calls say."""
        blocks = [block for block, _ in self.layers.values()]
        first, last = min(b.start for b in blocks), max(b.end for b in blocks)
        entered = next(b.given for b in blocks if b.start == first)
        left = next(b.output for b in blocks if b.end == last)
        head = self.hf.get_output_embeddings()
        unembedding = next((call.given for call in self.calls if call.module is head), None)
        found = Norms(
            {layer: self._of_layer(*calls) for layer, calls in self.layers.items()},
            embedding=self._giving(entered, 0, first),
            blocks={layer: block.module for layer, (block, _) in self.layers.items()},
            outputs={
                layer: self._writes(attention) for layer, (_, attention) in self.layers.items()
            },
        )
        if unembedding is None or left is None:
            return found
        if unembedding.same(left):
            return replace(found, unembeds=True)
        for call in self.between(last, self.clock):
            if unembedding.same(call.output) and left.same(call.given):
                final = self._measured(call)
                return replace(found, final=final, unembeds=final is not None, last=call.module)
        return found

    def _writes(self, attention: Call) -> Any:
        """The last linear module that ran inside an attention."""
        kinds = ("Linear", "Conv1D")
        inside = self.between(attention.start, attention.end)
        linear = [call.module for call in inside if type(call.module).__name__ in kinds]
        return linear[-1] if linear else None

    def _of_layer(self, block: Call, attention: Call) -> LayerNorms:
        read = self._giving(attention.given, block.start, attention.start)
        if read is None and not (attention.given and attention.given.same(block.given)):
            raise UnknownNorm("an attention does not read its layer's input or a norm of it")
        within = self.between(attention.start, attention.end)
        inner: dict[str, Norm | None] = {"q": None, "k": None}
        for call in within:
            if "norm" not in type(call.module).__name__.lower() or call.given is None:
                continue
            norm, match = self._measured(call), _OF_HEADS.match(call.name)
            if norm and match:
                inner[match[1][0]] = norm
            elif norm is None or norm.centred or (norm.gain != 1).any():
                raise UnknownNorm(f"{call.name} inside an attention")
        written = None
        # An attention whose output is not that of its last linear layer adds the stream itself.
        bare = any(call.output and call.output.same(attention.output) for call in within)
        for call in self.between(attention.end, block.end) if bare else ():
            if attention.output and attention.output.same(call.given) and written is None:
                written = self._measured(call)
        return LayerNorms(read, inner["q"], inner["k"], written)

    def _giving(self, wanted: Seen | None, start: int, end: int) -> Norm | None:
        """The norm that ran in a stretch of time and whose output is a tensor."""
        for call in self.between(start, end):
            if wanted is not None and wanted.same(call.output):
                norm = self._measured(call)
                if norm is not None:
                    return norm
        return None

    def _measured(self, call: Call) -> Norm | None:
        """The norm that a call was of, its gain without batch and position."""
        if call.given is None:
            return None
        norm = measure_norm(call.module, call.given.tensor)
        if norm is None:
            return None
        gain, shape = norm.gain, call.given.tensor.shape
        position = next((i for i in range(1, len(shape) - 1) if shape[i] == self.length), 0)
        return replace(norm, gain=gain.select(position, 0)[0] if position else gain[0])


def measure_norm(module: Callable[[Tensor], Any], like: Tensor) -> Norm | None:
    """The norm that a module is, over the last dimension; None where it is no norm.

    The gain has the shape of ``like`` (batch, ..., d), and so has what the module is called with. A
    norm's output does not grow with what comes in, is odd but for a bias, and is the normalised
    input times the gain.
    """
    d = like.shape[-1]
    signs = _signs(d).to(like)
    draw = torch.randn(d, generator=torch.Generator().manual_seed(0)).to(like)

    def odd(x: Tensor) -> Tensor:
        given = (LOUD * x).expand(like.shape)
        with torch.no_grad():
            up, down = module(given.clone()), module(-given)
        if not isinstance(up, Tensor) or up.shape != like.shape:
            raise TypeError("no norm")
        half: Tensor = (up.float() - down.float()) / 2
        return half

    try:
        loud, louder = odd(signs), odd(2 * signs)
        flat, drawn = odd(torch.ones_like(signs)), odd(draw)
    except (TypeError, ValueError, RuntimeError, IndexError):  # wants other arguments or shapes
        return None
    if (louder - loud).abs().max() > 0.02 * (1 + loud.abs().max()):
        return None
    gain = loud / signs.float()
    centred = bool(flat.abs().max() < gain.abs().max() / 2)
    x = draw.float() - (draw.float().mean() if centred else 0)
    wanted = x / x.square().mean().sqrt() * gain
    if (drawn - wanted).abs().max() > 0.02 * (1 + wanted.abs().max()):
        return None
    return Norm(gain, centred)


def _signs(d: int) -> Tensor:
    """(d,) of mean 0 and mean square 1, none of them small: what a norm leaves as it is."""
    signs = torch.ones(d)
    signs[1::2] = -1
    if d % 2 and d > 1:
        signs[-3:] = torch.tensor([1.0, 1.0, -2.0])
    return signs / signs.square().mean().sqrt()
