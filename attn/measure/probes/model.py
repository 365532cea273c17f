"""A model as probes see it: its words, its runs, and the way from a head to the vocabulary."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from attn.measure.metric import NotMeasured

if TYPE_CHECKING:
    from torch import Tensor

    from attn.measure.circuits import Layer
    from attn.measure.norms import Norms

_WORD = "and"  # what stands before a word whose token with a leading space is wanted


@dataclass(frozen=True, eq=False)
class Seen:
    """One layer in a run.

    ``pattern`` (batch, head, dst, src) float32; ``values`` (batch, head, src, d_head) float32, what
    the head mixes; ``stream`` (batch, position, d_model) float32, the residual stream before it.
    """

    layer: int
    pattern: Tensor
    values: Tensor
    stream: Tensor


@dataclass(frozen=True, eq=False)
class Ended:
    """The end of a run.

    ``scale`` (batch, position) float32: what the final norm divides the residual stream by, 1
    where there is none; ``best`` (batch, position) int64: the likeliest next token; ``logits`` of
    the rows asked for, (row, token) float32.
    """

    scale: Tensor
    best: Tensor
    logits: Tensor


class ProbedModel:
    """A session, and what probes ask of it. ``kept`` holds what probes of one file share."""

    def __init__(self, session: Any) -> None:
        self.session = session
        self.kept: dict[str, Any] = {}
        self.shape = session.n_layers, session.n_heads

    def empty(self) -> np.ndarray:
        """(layer, head) float64 of NaN."""
        return np.full(self.shape, np.nan)

    def need_next_token(self) -> None:
        """Raise NotMeasured for a model that does not foretell the next token."""
        if self.session.bidirectional:
            raise NotMeasured("this model reads both ways and foretells no next token")

    @cached_property
    def norms(self) -> Norms:
        """The model's norms. Raises NotMeasured where they are of no known kind."""
        from attn.measure.norms import find_norms

        try:
            return find_norms(self.session)
        except (AttributeError, ValueError, RuntimeError) as error:
            raise NotMeasured("the weights of this model cannot be told apart by head") from error

    def need_path(self) -> None:
        """Raise NotMeasured where no path leads straight from a head to the vocabulary."""
        if not self.norms.unembeds:
            raise NotMeasured("the unembedding of this model does not read the residual stream")
        width = self.session.hf.get_output_embeddings().weight.shape[1]
        if self.weights(min(self.norms.blocks)).w_o.shape[2] != width:
            raise NotMeasured("the unembedding of this model has another width than its heads")

    def weights(self, layer: int) -> Layer:
        """A layer's weights as stored. Raises NotMeasured where they cannot be told by head."""
        from attn.measure.circuits import layer_weights

        try:
            return layer_weights(self.session, layer)
        except (AttributeError, ValueError, RuntimeError) as error:
            raise NotMeasured("the weights of this model cannot be told apart by head") from error

    def after(self, text: str) -> list[int]:
        """Token ids of a text that follows a word, its first token with the space before it.

        Raises NotMeasured where the tokenizer does not know a part of it.
        """
        first = list(self.session.encode_bare(_WORD).ids)
        both = list(self.session.encode_bare(f"{_WORD} {text}").ids)
        ids = [int(token) for token in both[len(first) :]]
        if both[: len(first)] != first or self.session.tokenizer.unk_token_id in ids:
            raise NotMeasured("its tokenizer does not know the words of this probe")
        return ids

    def word(self, text: str) -> int | None:
        """The one token of a word with its leading space; None where it has more, or none."""
        try:
            ids = self.after(text)
        except NotMeasured:
            return None
        return ids[0] if len(ids) == 1 else None

    def with_bos(self, ids: Sequence[int]) -> list[int]:
        """Token ids with the BOS before them, where the model has one."""
        bos = self.session.bos_id
        return [*([] if bos is None else [bos]), *ids]

    def unembed(self, stream: Tensor) -> Tensor:
        """(..., token) float32: logits if a stream (..., d_model) were the last."""
        head, last = self.session.hf.get_output_embeddings(), self.norms.last
        stream = stream.to(head.weight.dtype)
        stream = stream if last is None else last.forward(stream)  # forward: no hook of a run
        logits: Tensor = head.forward(stream).float()
        return logits

    def directions(self, tokens: Sequence[int]) -> Tensor:
        """(n, d_model) float32: what of a stream raises each token's logit, but for the scale."""
        weight: Tensor = self.session.hf.get_output_embeddings().weight.detach()
        return self._before_norm(weight[list(tokens)].float())

    @cached_property
    def mean_direction(self) -> Tensor:
        """(d_model,) float32: the mean of :meth:`directions` over the vocabulary."""
        weight: Tensor = self.session.hf.get_output_embeddings().weight.detach()
        return self._before_norm(weight.float().mean(0, keepdim=True))[0]

    def _before_norm(self, rows: Tensor) -> Tensor:
        final = self.norms.final
        return rows if final is None else final.before(rows.mT).mT

    def written(self, seen: Seen, rows: Tensor, sources: Tensor | None = None) -> Tensor:
        """(row, head, d_model) float32: what each head writes at some rows of a run.

        ``rows`` (row, 2) batch and dst; ``sources`` (row,) leaves one source of each. Where a norm
        stands behind the attention, its scale is held.
        """
        import torch

        w_o = self.weights(seen.layer).w_o  # (head, d_head, d_model)
        pattern, values = seen.pattern[rows[:, 0], :, rows[:, 1]], seen.values[rows[:, 0]]
        whole = torch.einsum("rhs,rhsd,hdm->rhm", pattern, values, w_o)
        found = whole
        if sources is not None:
            at = torch.arange(len(rows))
            share = pattern[at, :, sources]  # (row, head)
            found = torch.einsum("rh,rhd,hdm->rhm", share, values[at, :, sources], w_o)
        norm = self.norms.layers[seen.layer].written
        if norm is not None:
            total = whole.sum(1, keepdim=True)
            total = total - total.mean(-1, keepdim=True) if norm.centred else total
            found = norm.after(found) / total.square().mean(-1, keepdim=True).sqrt()
        return found

    def run(
        self, ids: Sequence[Sequence[int]], look: Callable[[Seen], None], rows: Any = None
    ) -> Ended:
        """Run the model once, showing each layer with attention to ``look``.

        ``ids`` (batch, position), shorter ones padded on the right; ``rows`` (row, 2) batch and
        position whose logits are wanted. What is shown must not be kept.
        """
        import torch

        from attn.measure.module_calls import hooked

        longest, device = max(map(len, ids)), self.session.device
        batch = [[*one, *[one[-1]] * (longest - len(one))] for one in ids]
        streams: dict[int, Tensor] = {}
        ends: list[Tensor] = []
        norm, head = self.norms.last, self.session.hf.get_output_embeddings()
        known = {module: layer for layer, module in self.norms.blocks.items()}

        def enter(module: Any, args: Any, more: Any) -> None:
            streams[known[module]] = more.get("hidden_states", args[0] if args else None)

        def show(reading: Any) -> None:
            values = reading.values.float()
            values = values.repeat_interleave(self.shape[1] // values.shape[1], 1)
            stream = streams.pop(reading.layer).float()
            look(Seen(reading.layer, reading.pattern.float(), values, stream))

        def end(module: Any, args: Any, more: Any = None) -> None:
            ends.append(args[0].float())

        scores: list[Tensor] = []

        def score(module: Any, args: Any, output: Tensor) -> None:
            scores.append(output.argmax(-1))
            at = torch.as_tensor(rows if rows is not None else [], dtype=torch.int64).view(-1, 2)
            scores.append(output[at[:, 0], at[:, 1]].float())

        with self.session.held(), hooked() as handles:
            for module in known:
                handles.append(module.register_forward_pre_hook(enter, with_kwargs=True))
            handles.append((norm or head).register_forward_pre_hook(end))
            handles.append(head.register_forward_hook(score))
            self.session.run_whole(torch.tensor(batch, device=device), show, values=True)
        stream = ends[-1]
        if norm is None:
            scale = torch.ones_like(stream[..., 0])
        else:
            final = self.norms.final
            centred = final is not None and final.centred
            some = stream - stream.mean(-1, keepdim=True) if centred else stream
            scale = some.square().mean(-1).sqrt()
        return Ended(scale, scores[0], scores[1])
