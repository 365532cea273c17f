"""A text's residual stream as the sum of what wrote to it, and what a layer's attention reads.

The stream that a layer reads is the sum of the embedding, the position embedding, what every
earlier head and MLP wrote, and biases. With the scale of every norm held at what it was for the
whole stream, queries and keys are linear in those parts, whatever stands between (biases, norms on
queries and keys, rotation by position): :class:`Reads` runs the layer's own modules with the norms
held and takes their derivatives. No architecture is known by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from attn.errors import ModelError
from attn.heads import Part
from attn.measure.module_calls import hooked
from attn.measure.norms import measure_norm
from attn.models.anatomy import Block
from attn.models.interface import Inputs, Reading, Stop

MIXED = 1e-4
"""The most that pattern × values may differ from what the output projection was given."""


@dataclass(frozen=True, eq=False)
class HeldNorm:
    """A norm whose scale is held: ``(x − mean if centred) * gain * scale + bias``.

    ``gain`` and ``bias`` broadcast to x; ``scale`` (..., 1) of each vector of the whole.
    """

    gain: Tensor
    centred: bool
    scale: Tensor
    bias: Tensor

    def linear(self, x: Tensor) -> Tensor:
        """What the norm makes of a part (..., position, d), without its bias."""
        centred = x - x.mean(-1, keepdim=True) if self.centred else x
        return centred * self.gain * self.scale

    def at(self, positions: Tensor) -> HeldNorm:
        """The same norm at some positions, of one that has no batch dimension."""
        return HeldNorm(
            self.gain[positions], self.centred, self.scale[positions], self.bias[positions]
        )

    def pull_back(self, gradient: Tensor) -> Tensor:
        """The transpose of :meth:`linear`."""
        scaled = gradient * self.gain * self.scale
        return scaled - scaled.mean(-1, keepdim=True) if self.centred else scaled


def hold(module: Any, x: Tensor, y: Tensor) -> HeldNorm | None:
    """A norm held at the scale that it had for ``x`` (batch, ..., d), where it gave ``y``."""
    norm = measure_norm(module.forward, x)
    if norm is None:
        return None
    bias = module.forward(torch.zeros_like(x)).float()
    whole = (x - x.mean(-1, keepdim=True) if norm.centred else x).float() * norm.gain
    size = whole.square().sum(-1, keepdim=True)
    scale = (whole * (y.float() - bias)).sum(-1, keepdim=True) / size.clamp(min=1e-30)
    return HeldNorm(norm.gain, norm.centred, scale, bias)


@dataclass(eq=False)
class _Layer:
    """What one layer did: all without the batch dimension."""

    given: Tensor  # (n, d_model)
    arguments: tuple[Any, dict[str, Any]]
    mixed: Tensor | None = None  # (n, head, d_head)
    post: HeldNorm | None = None
    value: Tensor | None = None  # (head, n, d_head)
    pattern: Tensor | None = None  # (head, dst, src)
    visible: Tensor | None = None  # (dst,)
    output: Tensor | None = None  # (n, d_model)


class ResidualStream:
    """The residual stream of one text, split into what wrote to it.

    ``ids`` (position,); ``last`` the last layer whose attention is read, None for all and for what
    comes after. Holds the model while it reads. Raises :class:`ModelError` for a model whose heads
    do not add what they write to a residual stream, that reads both ways, or is not float32.
    """

    def __init__(self, session: Any, ids: Sequence[int], last: int | None = None) -> None:
        self.session, self.ids = session, tuple(int(i) for i in ids)
        self.blocks: tuple[Block, ...] = session.anatomy.blocks
        self.last = session.n_layers - 1 if last is None else last
        self.layers: dict[int, _Layer] = {}
        self.logits: Tensor | None = None  # (n, vocabulary), where all of the model was run
        self._embedded: list[Tensor] = []
        self._reads: dict[int, Reads] = {}
        with (
            session.held(),
            torch.no_grad(),
            self._following(),
            _positions(session.hf) as positions,
        ):
            out = session.run_whole([self.ids], self._observe, inputs=self._inputs, last=last)
        if out is not None:
            self.logits = out.logits[0]
        self._embedded = self._split_embedding(positions)
        self._check()

    @contextmanager
    def _following(self) -> Iterator[None]:
        with hooked() as handles:
            for layer, block in enumerate(self.blocks[: self.last + 1]):
                handles += self._follow(layer, block)
            yield

    def _follow(self, layer: int, block: Block) -> list[Any]:
        def enter(module: Any, args: Any, more: Any) -> None:
            hidden = more.get("hidden_states", args[0] if args else None)
            self.layers[layer] = _Layer(hidden[0], (args, dict(more)))

        def leave(module: Any, args: Any, output: Any) -> None:
            self.layers[layer].output = (output[0] if isinstance(output, tuple) else output)[0]

        def mixed(module: Any, args: Any) -> None:
            flat = args[0].reshape(len(self.ids), -1)
            self.layers[layer].mixed = flat.unflatten(-1, (self.session.n_heads, -1))

        def normed(module: Any, args: Any, output: Any) -> None:
            held = hold(module, args[0], output)
            if held is not None:
                self.layers[layer].post = HeldNorm(
                    held.gain[0], held.centred, held.scale[0], held.bias[0]
                )

        handles = [
            block.module.register_forward_pre_hook(enter, with_kwargs=True),
            block.module.register_forward_hook(leave),
        ]
        if block.output is not None:
            handles.append(block.output.register_forward_pre_hook(mixed))
        if block.post is not None:
            handles.append(block.post.register_forward_hook(normed))
        return handles

    def _observe(self, reading: Reading) -> None:
        layer = self.layers.get(reading.layer)
        if layer is not None:
            layer.pattern, layer.visible = reading.pattern[0], reading.visible[0]

    def _inputs(self, given: Inputs) -> None:
        layer = self.layers.get(given.layer)
        if layer is not None and given.value is not None:
            value = given.value[0]
            layer.value = value.repeat_interleave(self.session.n_heads // len(value), 0)

    def _split_embedding(self, positions: list[Tensor]) -> list[Tensor]:
        """What the token and what the position gave the first layer, (n, d_model) each."""
        entered = self.layers[0].given
        positions = [one for one in positions if one.shape[-1] == entered.shape[-1]]
        if not positions:
            return [entered]
        position = torch.stack([one.reshape(-1, *one.shape[-2:])[0] for one in positions]).sum(0)
        return [entered - position, position]

    def _check(self) -> None:
        for number, layer in self.layers.items():
            if layer.mixed is None or layer.pattern is None or layer.value is None:
                continue
            made = (layer.pattern @ layer.value.float()).transpose(0, 1)
            if (made - layer.mixed).abs().max() > MIXED * (1 + layer.mixed.abs().max()):
                raise ModelError(
                    f"What the heads of {self.session.name} write is not their pattern times their "
                    f"values (layer {number}), so it cannot be split: choose another model."
                )

    def __len__(self) -> int:
        return len(self.ids)

    def matrix(self, layer: int) -> Tensor:
        """(head, d_head, d_model): what a layer's heads write with."""
        module = self.blocks[layer].output
        if isinstance(module, torch.nn.Linear):
            weight = module.weight.mT
        elif type(module).__name__ == "Conv1D":
            weight = module.weight
        else:
            width = self._mixed(layer).flatten(1).shape[1]
            unit = torch.eye(width, device=self.session.device)
            weight = module.forward(unit) - module.forward(torch.zeros_like(unit))
        by_head: Tensor = weight.detach().reshape(self.session.n_heads, -1, weight.shape[1])
        return by_head

    def _mixed(self, layer: int) -> Tensor:
        mixed = self.layers[layer].mixed
        assert mixed is not None  # there is attention
        return mixed

    def heads_write(self, layer: int, at: Tensor) -> Tensor:
        """(head, position, d_model): what a layer's heads added to the stream at positions."""
        written = torch.einsum("phd,hdm->hpm", self._mixed(layer)[at], self.matrix(layer))
        return self._after(layer, written, at)

    def _after(self, layer: int, written: Tensor, at: Tensor) -> Tensor:
        post = self.layers[layer].post
        if post is not None:
            written = post.at(at).linear(written)
        return written * self.blocks[layer].factor

    def bias_writes(self, layer: int, at: Tensor) -> Tensor:
        """(position, d_model): what a layer's attention adds whatever its heads do."""
        module, post = self.blocks[layer].output, self.layers[layer].post
        zeros = torch.zeros_like(self._mixed(layer)[:1].flatten(1))
        bias = module.forward(zeros).expand(len(at), -1)
        added = self._after(layer, bias, at)
        return added if post is None else added + post.bias[at] * self.blocks[layer].factor

    def names(self, layer: int) -> list[Part]:
        """The parts of the stream that a layer reads, in the order of :meth:`parts`."""
        found = [Part("embedding")]
        if len(self._embedded) > 1:
            found.append(Part("position"))
        for number in range(layer):
            if self.blocks[number].output is None:
                found.append(Part(f"layer {number}", number))
                continue
            found += [Part(f"L{number}H{h}", number, h) for h in range(self.session.n_heads)]
            found.append(Part(f"MLP {number}", number))
        return [*found, Part("bias")]

    @torch.no_grad()
    def parts(self, layer: int, at: Sequence[int]) -> Iterator[Tensor]:
        """The parts of the stream that a layer reads, (some, position, d_model) at a time.

        ``layer`` may be one more than the last: what comes after. They add to :meth:`stream`.
        """
        where = torch.as_tensor(list(at), device=self.session.device)
        yield torch.stack([one[where] for one in self._embedded])
        biases = torch.zeros_like(self._embedded[0][where])
        for number in range(layer):
            delta = (self.stream(number + 1) - self.stream(number))[where]
            if self.blocks[number].output is None:
                yield delta[None]
                continue
            heads = self.heads_write(number, where)
            bias = self.bias_writes(number, where)
            biases = biases + bias
            yield torch.cat([heads, (delta - heads.sum(0) - bias)[None]])
        yield biases[None]

    def stream(self, layer: int) -> Tensor:
        """(n, d_model): what a layer reads; of one more than the last, what comes after."""
        if layer in self.layers:
            return self.layers[layer].given
        output = self.layers[layer - 1].output
        assert output is not None
        return output

    def reads(self, layer: int) -> Reads:
        """What a layer's attention reads of the stream; made once."""
        if layer not in self._reads:
            self._reads[layer] = Reads(self, layer)
        return self._reads[layer]

    def run_block(self, layer: int, hidden: Tensor, caught: Callable[[Inputs], None]) -> None:
        """Run a layer on (1, n, d_model) until its attention hands over what it computes with."""
        args, more = self.layers[layer].arguments
        if "hidden_states" in more:
            more = {**more, "hidden_states": hidden}
        else:
            args = (hidden, *args[1:])

        def catch(given: Inputs) -> None:
            caught(given)
            raise Stop

        with self.session.using(inputs=catch, grad=True):
            try:
                self.blocks[layer].module(*args, **more)
            except Stop:
                return
        raise ModelError(f"Layer {layer} of {self.session.name} has no attention to read.")


@contextmanager
def _positions(hf: Any) -> Iterator[list[Tensor]]:
    """What the embeddings gave that are not of tokens."""
    found: list[Tensor] = []
    own = hf.get_input_embeddings()

    def keep(module: Any, args: Any, output: Tensor) -> None:
        found.append(output if output.ndim > 2 else output[None])

    with hooked() as handles:
        for module in hf.modules():
            if isinstance(module, torch.nn.Embedding) and module is not own:
                handles.append(module.register_forward_hook(keep))
        yield found


@dataclass(eq=False)
class Reads:
    """A layer's queries and keys as linear maps of the stream, every norm's scale held.

    ``query`` and ``key`` (head, position, d_head) of the text, ``query_bias`` and ``key_bias`` what
    they are for a stream of zeros; scores are ``scale * query · key + bias``, capped at ``cap``
    where it is not None.
    """

    of: ResidualStream
    layer: int
    query: Tensor = field(init=False)
    key: Tensor = field(init=False)
    query_bias: Tensor = field(init=False)
    key_bias: Tensor = field(init=False)
    scale: float = field(init=False)
    cap: float | None = field(init=False)
    bias: Tensor | None = field(init=False)

    @torch.enable_grad()
    def __post_init__(self) -> None:
        held: list[HeldNorm | None] = []
        whole = self.of.stream(self.layer)[None].detach().clone().requires_grad_()
        with self.of.session.held():
            kept = self._run(whole, held, first=True)
            zero = self._run(torch.zeros_like(whole), held, first=False)
        self._hidden = whole
        self._query, self._key = (self._by_head(one) for one in (kept.query, kept.key))
        self.query, self.key = self._query.detach(), self._key.detach()
        self.query_bias = self._by_head(zero.query).detach()
        self.key_bias = self._by_head(zero.key).detach()
        self.scale, self.cap = kept.scale, kept.cap
        self.bias = None if kept.bias is None else kept.bias[0].detach()

    def _by_head(self, tensor: Tensor) -> Tensor:
        return tensor[0].repeat_interleave(self.of.session.n_heads // tensor.shape[1], 0)

    def _run(self, hidden: Tensor, held: list[HeldNorm | None], first: bool) -> Inputs:
        calls = iter(held)

        def keep(module: Any, args: Any, output: Any) -> Any:
            if first:
                with torch.no_grad():
                    held.append(hold(module, args[0].detach(), output.detach()))
                norm = held[-1]
            else:
                norm = next(calls)
            return None if norm is None else norm.linear(args[0]) + norm.bias

        caught: list[Inputs] = []
        block = self.of.blocks[self.layer].module
        with hooked() as handles:
            for module in block.modules():
                if "norm" in type(module).__name__.lower():
                    handles.append(module.register_forward_hook(keep))
            self.of.run_block(self.layer, hidden, caught.append)
        return caught[0]

    @torch.enable_grad()
    def pull_query(self, head: int, dst: int, gradient: Tensor) -> Tensor:
        """(m, d_model): of gradients (m, d_head) at a head's query, those at the stream there."""
        pulled = _gradients(self._query[head, dst], self._hidden, gradient)
        return pulled[:, 0, dst]

    @torch.enable_grad()
    def pull_key(self, head: int, gradient: Tensor) -> Tensor:
        """(m, n, d_model): of gradients (m, n, d_head) at a head's keys, those at the stream."""
        pulled = _gradients(self._key[head], self._hidden, gradient)
        return pulled[:, 0]


def _gradients(output: Tensor, given: Tensor, gradient: Tensor) -> Tensor:
    batched = len(gradient) > 1
    found: Tensor = torch.autograd.grad(
        output,
        given,
        gradient if batched else gradient[0],
        retain_graph=True,
        is_grads_batched=batched,
    )[0]
    return found if batched else found[None]
