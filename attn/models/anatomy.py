"""A model's modules → where its heads write: blocks, output projections, the norms after them.

Nothing here knows an architecture by name. One forward pass on a few tokens is followed module by
module, and what a block adds to the residual stream is solved for as a sum of what its modules
gave. Where it is no such sum (a norm stands in the stream itself, as in BERT, or something else is
added), the model is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from attn.errors import ModelError
from attn.measure.module_calls import Call, Seen, Trace, UnknownLayout
from attn.measure.norms import measure_norm

FIT = 1e-3
"""The most that a sum may be off, as a share of what it should give. The pass is in float32."""

TOKENS = 7
"""Of the pass that is followed."""


@dataclass(frozen=True, eq=False)
class Block:
    """One layer: its ``module``, and how its attention's heads reach the residual stream.

    ``output`` the projection that reads all heads side by side, None in a layer without attention;
    ``post`` the norm on its output, or None; ``factor`` what the result is multiplied by.
    """

    module: Any
    output: Any = None
    post: Any = None
    factor: float = 1.0


@dataclass(frozen=True, eq=False)
class Anatomy:
    """Where a model's heads write.

    ``blocks`` of all layers in order; ``final`` the norm before the unembedding, or None;
    ``unembedding`` the module that gives logits, None where it does not read the residual stream.
    """

    blocks: tuple[Block, ...]
    final: Any
    unembedding: Any


def find_anatomy(session: Any) -> Anatomy:
    """Follow one forward pass on a few tokens; raises ModelError for a model that is no such sum.

    Needs float32: in half precision what a block adds is no exact sum.
    """
    if session.dtype != "float32":
        raise ModelError(
            f"What the heads of {session.name} write is split in float32 only: use --dtype float32."
        )
    trace = Trace(session.hf, copies=True)
    length = min(TOKENS, session.n_ctx)
    ids = (torch.arange(length) * 7919 + 11).remainder(session.n_vocab)[None]
    try:
        with session.held(), trace.running():
            session.run_whole(ids, trace.attention)
        return _Solved(trace, session).anatomy()
    except UnknownLayout as error:
        raise ModelError(
            f"What the heads of {session.name} write cannot be followed ({error}): choose another "
            f"model."
        ) from error


class _Solved:
    """What one trace says."""

    def __init__(self, trace: Trace, session: Any) -> None:
        self.trace, self.session = trace, session

    def anatomy(self) -> Anatomy:
        """The blocks, and what comes after the last one."""
        trace, session = self.trace, self.session
        first = next(iter(trace.layers.values()))[0].module
        listed = next(
            list(module)
            for module in trace.hf.modules()
            if isinstance(module, torch.nn.ModuleList) and first in list(module)
        )
        if len(listed) != session.n_layers:
            raise UnknownLayout("its layers are not one list")
        calls = {call.module: call for call in trace.calls}
        blocks = [calls[module] for module in listed]
        for before, after in pairwise(blocks):
            if not _close(before.output, after.given):
                raise UnknownLayout("something happens between its layers")
        made = []
        for layer, block in enumerate(blocks):
            if layer in trace.layers:
                made.append(self._block(block, trace.layers[layer][1]))
            else:
                made.append(Block(block.module))
        return Anatomy(tuple(made), *self._after(blocks[-1]))

    def _block(self, block: Call, attention: Call) -> Block:
        inside = self.trace.between(attention.start, attention.end)
        output = next((c for c in reversed(inside) if _is_matrix(c.module)), None)
        if output is None or output.output is None:
            raise UnknownLayout("its attention has no output projection")
        posts: list[Any] = []
        if _close(attention.output, output.output):
            posts = [
                call
                for call in self.trace.between(attention.end, block.end)
                if _close(call.given, attention.output) and _is_norm(call)
            ]
        written = posts[0] if posts else output
        assert block.given is not None
        assert block.output is not None
        delta = block.output.tensor.double() - block.given.tensor.double()
        columns = [written.output, *(c.output for c in self._children(block))]
        factor = _first_factor(delta, columns)
        if factor is None and posts:  # the norm is another's: what it gave is not added
            written, posts = output, []
            factor = _first_factor(delta, [written.output, *columns[1:]])
        if factor is None:
            raise UnknownLayout("what a layer adds is no sum of what its modules give")
        return Block(block.module, output.module, posts[0].module if posts else None, factor)

    def _children(self, block: Call) -> list[Call]:
        """The calls directly inside a block."""
        inside = self.trace.between(block.start, block.end)
        return [
            call
            for call in inside
            if not any(c.start < call.start and call.end < c.end for c in inside)
        ]

    def _after(self, last: Call) -> tuple[Any, Any]:
        head = self.trace.hf.get_output_embeddings()
        given = next((c.given for c in self.trace.calls if c.module is head), None)
        if given is None or last.output is None:
            return None, None
        if _close(given, last.output):
            return None, head
        for call in self.trace.between(last.end, self.trace.clock):
            if _close(given, call.output) and _close(call.given, last.output) and _is_norm(call):
                return call.module, head
        return None, None


def _is_matrix(module: Any) -> bool:
    weight = getattr(module, "weight", None)
    return isinstance(weight, Tensor) and weight.ndim == 2


def _is_norm(call: Call) -> bool:
    return call.given is not None and measure_norm(call.module, call.given.tensor) is not None


def _close(one: Seen | None, other: Seen | None) -> bool:
    """Whether two tensors hold the same numbers."""
    if one is None or other is None or one.tensor.numel() != other.tensor.numel():
        return False
    return torch.equal(one.tensor.reshape(-1), other.tensor.reshape(-1))


def _first_factor(delta: Tensor, columns: list[Seen | None]) -> float | None:
    """What the first column is multiplied by in the sum that gives ``delta``, if there is one."""
    if not bool(delta.isfinite().all()):
        raise UnknownLayout("it gives values that are not finite")
    first = columns[0]
    if first is not None and not bool(first.tensor.any()):  # its heads write nothing
        return 1.0
    kept: list[Tensor] = []
    for column in columns:
        if column is None or column.tensor.numel() != delta.numel():
            continue
        flat = column.tensor.detach().double().reshape(-1)
        if not any(torch.equal(flat, other) for other in kept):
            kept.append(flat)
    matrix = torch.stack(kept, 1)
    solved = torch.linalg.lstsq(matrix, delta.reshape(-1, 1), driver="gelsd").solution
    off = (matrix @ solved - delta.reshape(-1, 1)).norm() / delta.norm().clamp(min=1e-30)
    factor = float(solved[0])
    if float(off) > FIT or abs(factor) < FIT:
        return None
    return round(factor, 4) if abs(factor - round(factor, 4)) < FIT / 10 else factor
