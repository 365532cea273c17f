"""The calls of a model's modules in one forward pass: which module read what another gave.

What is found in this way needs no name of an architecture: the norm of a layer is the module whose
output its attention reads, its output projection the one that reads what the attention mixed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor


class UnknownLayout(ValueError):
    """A model whose modules do not stand in a list of layers."""


class Seen(NamedTuple):
    """A tensor as it was: in-place changes raise a tensor's version."""

    tensor: Tensor
    version: int

    def same(self, other: Seen | None) -> bool:
        """Whether this is the same tensor, unchanged."""
        return (
            other is not None
            and self.tensor.data_ptr() == other.tensor.data_ptr()
            and self.tensor.shape == other.tensor.shape
            and self.version == other.version
        )


@dataclass
class Call:
    """One call of a module: what came in and went out, and when, in calls begun so far."""

    module: Any
    name: str
    start: int
    given: Seen | None
    end: int = -1
    output: Seen | None = None


class Trace:
    """The calls of one forward pass, and which attention ran inside which.

    ``copies`` keeps what tensors held at the time: some models add to them in place later.
    """

    def __init__(self, hf: Any, copies: bool = False) -> None:
        self.hf, self.copies = hf, copies
        self.calls: list[Call] = []
        self.open: list[Call] = []
        self.layers: dict[int, tuple[Call, Call]] = {}  # (block, attention)
        self.clock = 0
        self.listed = {
            child
            for module in hf.modules()
            if isinstance(module, torch.nn.ModuleList)
            for child in module
        }

    @contextmanager
    def running(self) -> Iterator[None]:
        """Follow every module's calls."""
        with hooked() as handles:
            for name, module in self.hf.named_modules():
                last = name.rpartition(".")[2]

                def enter(module: Any, args: Any, more: Any, last: str = last) -> None:
                    self._enter(module, last, args, more)

                handles.append(module.register_forward_pre_hook(enter, with_kwargs=True))
                handles.append(module.register_forward_hook(self._leave))
            yield

    def attention(self, reading: Any) -> None:
        """Note in which module a layer's pattern was computed: the innermost that is open."""
        block = next((call for call in self.open if call.module in self.listed), None)
        if block is None:
            raise UnknownLayout("an attention stands in no list of layers")
        self.layers[reading.layer] = block, self.open[-1]

    def _enter(self, module: Any, name: str, args: Any, more: Any) -> None:
        given = more.get("hidden_states", args[0] if args else None)
        call = Call(module, name, self.clock, self._seen(given))
        self.clock += 1
        self.calls.append(call)
        self.open.append(call)

    def _leave(self, module: Any, args: Any, output: Any) -> None:
        call = self.open.pop()
        call.output, call.end = self._seen(output), self.clock
        self.clock += 1

    def _seen(self, value: Any) -> Seen | None:
        seen = seen_of(value)
        return Seen(seen.tensor.clone(), 0) if seen is not None and self.copies else seen

    def between(self, start: int, end: int) -> list[Call]:
        """The calls that began and ended within a stretch of time."""
        return [call for call in self.calls if start < call.start and call.end < end]


def seen_of(value: Any) -> Seen | None:
    """The tensor of an argument or an output, the first of several."""
    if isinstance(value, tuple | list):
        value = value[0] if value else None
    if isinstance(value, Tensor) and value.is_floating_point():
        return Seen(value, value._version)
    return None


@contextmanager
def hooked() -> Iterator[list[Any]]:
    """A list of hooks' handles, all of which are taken off at the end."""
    handles: list[Any] = []
    try:
        yield handles
    finally:
        for handle in handles:
            handle.remove()
