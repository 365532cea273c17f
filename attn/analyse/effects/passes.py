"""The passes of the model that effects are computed from: one with gradients, one a head ablated.

A head's output ``z`` is its slice of what the layer's output projection reads, (batch, position,
d_head). Its effect is how much the loss of the next token, in nats, rises when ``z`` is the head's
mean at every position.

:meth:`Passes.estimate` is attribution patching (Nanda 2023, "Attribution patching: activation
patching at industrial scale"; Syed, Rager & Conmy 2310.10348): to first order the loss changes by
``gradient · (mean − z)``, summed over positions, so one forward and one backward pass give all
heads at once. Where the loss is not close to linear between ``z`` and the mean, as with a head that
moves a softmax or a norm far, it is off. :meth:`Unablated.without` is exact: it runs the layers
from the head's own upwards again, with the head replaced; the layers below return what they gave
before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from attn.errors import EffectsError
from attn.heads import HeadId
from attn.measure.module_calls import hooked
from attn.models.session import ModelSession


@dataclass(frozen=True)
class Place:
    """A window to measure: its token ids, and where it is in the corpus.

    ``first`` the first of its tokens that counts: those before it are counted in another window,
    and the very first token of a document is never predicted.
    """

    document: int
    start: int
    ids: Sequence[int]
    first: int


@dataclass(frozen=True, eq=False)
class Estimate:
    """What one forward and one backward pass say of a batch of windows, all in float64.

    ``loss`` (window,) nats, the sum over the tokens that count, and ``tokens`` (window,) how many;
    ``mean_sum`` (layer, head, d_head) the sum of ``z`` over ``positions`` positions; ``gradient``
    (window, layer, head, d_head) the loss's, summed over positions; ``product`` (window, layer,
    head) gradient · z, summed. NaN in layers without attention.
    """

    loss: Tensor
    tokens: Tensor
    mean_sum: Tensor
    positions: int
    gradient: Tensor
    product: Tensor


@dataclass(frozen=True, eq=False)
class Batch:
    """Windows padded on the right; ``ids`` and ``counted`` (window, position).

    ``counted`` says which positions hold a token whose prediction counts.
    """

    places: Sequence[Place]
    ids: Tensor
    counted: Tensor

    @classmethod
    def make(cls, places: Sequence[Place], device: str) -> Batch:
        """Put windows together. Padding comes last, where no row of a causal model looks."""
        width = max(len(place.ids) for place in places)
        ids = torch.zeros((len(places), width), dtype=torch.int64)
        counted = torch.zeros((len(places), width), dtype=torch.bool)
        for i, place in enumerate(places):
            ids[i, : len(place.ids)] = torch.as_tensor(list(place.ids))
            counted[i, max(place.first, 1) : len(place.ids)] = True
        return cls(places, ids.to(device), counted.to(device))

    def new_positions(self) -> Tensor:
        """(window, position) bool: the positions that no earlier window of the document has."""
        found = torch.zeros_like(self.counted)
        for i, place in enumerate(self.places):
            found[i, place.first : len(place.ids)] = True
        return found


class Passes:
    """The passes of one model. Use :meth:`running` around them, which holds the session's lock.

    Raises ModelError for a model whose heads' outputs cannot be followed.
    """

    def __init__(self, session: ModelSession) -> None:
        self.session = session
        self.blocks = session.anatomy.blocks
        self.layers = [n for n, block in enumerate(self.blocks) if block.output is not None]

    @contextmanager
    def running(self, *, grad: bool) -> Iterator[None]:
        """Hold the model; with ``grad``, activations have gradients and parameters have none."""
        kept = [(p, p.requires_grad) for p in self.session.hf.parameters()]
        with self.session.using(grad=grad):
            for parameter, _ in kept:
                parameter.requires_grad_(False)
            try:
                yield
            except torch.OutOfMemoryError as error:
                raise EffectsError(
                    f"The memory of {self.session.device} does not hold one batch: use --device "
                    f"cpu, or an index of shorter windows."
                ) from error
            finally:
                for parameter, wanted in kept:
                    parameter.requires_grad_(wanted)

    def losses(self, batch: Batch) -> Tensor:
        """(window, position) float32: the loss of each token in nats, 0 where none counts."""
        logits = self.session.hf(input_ids=batch.ids, use_cache=False).logits
        some = batch.counted[:, 1:]
        kept = cross_entropy(logits[:, :-1][some].float(), batch.ids[:, 1:][some], reduction="none")
        found = torch.zeros(batch.ids.shape, device=batch.ids.device)
        found[:, 1:][some] = kept
        return found

    def estimate(self, batch: Batch) -> Estimate:
        """One forward and one backward pass over a batch; call it inside ``running(grad=True)``."""
        outputs: dict[int, Tensor] = {}

        def keep(layer: int) -> Callable[..., Any]:
            def hook(module: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
                z = args[0] if args[0].requires_grad else args[0].detach().requires_grad_(True)
                outputs[layer] = z
                return (z, *args[1:])

            return hook

        with hooked() as handles:
            for layer in self.layers:
                output = self.blocks[layer].output
                handles.append(output.register_forward_pre_hook(keep(layer)))
            losses = self.losses(batch)
        gradients = torch.autograd.grad(losses.sum(), [outputs[layer] for layer in self.layers])
        return self._collected(batch, losses.detach(), outputs, gradients)

    def _collected(
        self,
        batch: Batch,
        losses: Tensor,
        outputs: dict[int, Tensor],
        gradients: Sequence[Tensor],
    ) -> Estimate:
        n, shape = len(batch.places), (len(self.blocks), self.session.n_heads)
        new = batch.new_positions()
        d_head = self._split(outputs[self.layers[0]]).shape[-1]
        none = torch.full((n, *shape, d_head), torch.nan, dtype=torch.float64)
        mean_sum, gradient, product = none[0].clone(), none.clone(), none[..., 0].clone()
        for layer, of_loss in zip(self.layers, gradients, strict=True):
            z, slope = self._split(outputs[layer].detach()), self._split(of_loss)
            mean_sum[layer] = precise(z[new]).sum(0).cpu()
            gradient[:, layer] = precise(slope).sum(1).cpu()
            product[:, layer] = (precise(slope) * precise(z)).sum((1, 3)).cpu()
        return Estimate(
            precise(losses).sum(1).cpu(),
            batch.counted.sum(1).cpu(),
            mean_sum,
            int(new.sum()),
            gradient,
            product,
        )

    def _split(self, z: Tensor) -> Tensor:
        """(batch, position, head, d_head) of what an output projection reads."""
        return z.view(*z.shape[:-1], self.session.n_heads, -1)

    def unablated(self, batch: Batch) -> Unablated:
        """Run a batch once and keep what every block gave; inside ``running(grad=False)``."""
        given: list[Any] = [None] * len(self.blocks)

        def keep(layer: int) -> Callable[..., None]:
            def hook(module: Any, args: Any, output: Any) -> None:
                given[layer] = _copied(output)

            return hook

        with hooked() as handles:
            for layer, block in enumerate(self.blocks[:-1]):
                handles.append(block.module.register_forward_hook(keep(layer)))
            losses = self.losses(batch)
        return Unablated(self, batch, losses, given)


@dataclass(frozen=True, eq=False)
class Unablated:
    """A batch as the whole model reads it: ``losses`` (window, position), what each block gave."""

    passes: Passes
    batch: Batch
    losses: Tensor
    given: Sequence[Any]

    def without(self, head: HeadId, mean: Tensor) -> Tensor:
        """(window, position) float32: by how much each token's loss rises without a head, in nats.

        ``mean`` (d_head,) what the head gives instead, at every position. 0 where no token counts.
        """
        blocks, width = self.passes.blocks, mean.shape[0]
        some = slice(head.head * width, (head.head + 1) * width)

        def replace(module: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
            z = args[0].clone()
            z[..., some] = mean.to(z)
            return (z, *args[1:])

        with ExitStack() as undo, hooked() as handles:
            for layer in range(head.layer):
                undo.enter_context(_giving(blocks[layer].module, self.given[layer]))
            handles.append(blocks[head.layer].output.register_forward_pre_hook(replace))
            return self.passes.losses(self.batch) - self.losses


def precise(values: Tensor) -> Tensor:
    """The values in float64, on the CPU where the device has none."""
    return (values.cpu() if values.device.type == "mps" else values).double()


@contextmanager
def _giving(module: Any, output: Any) -> Iterator[None]:
    """Let a module return what it gave before instead of running."""
    own = module.__dict__.get("forward")
    module.__dict__["forward"] = lambda *args, **more: _copied(output)
    try:
        yield
    finally:
        if own is None:
            del module.__dict__["forward"]
        else:
            module.__dict__["forward"] = own


def _copied(output: Any) -> Any:
    """What a block gave, with tensors of its own: later blocks of some models add in place."""
    if isinstance(output, Tensor):
        return output.clone()
    if type(output) in (tuple, list):
        return type(output)(_copied(one) for one in output)
    return output
