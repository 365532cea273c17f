"""What a head's looks do to the next token: their direct effect on the logits, exact.

What a head writes at a destination goes, with everything else, through the final norm and the
unembedding. With the norm's scale held at what it was for the whole stream, a logit is a sum over
what wrote there, and what a head wrote is a sum over the sources that it read. Numbers are logits
against the mean over the vocabulary, because the softmax cares only about differences. What later
layers make of it is not in it. As in Elhage et al. 2021 and Wang et al. 2022 (2211.00593).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from attn.analyse.why.answers import DirectEffect
from attn.analyse.why.split import check_pair, looks
from attn.errors import ModelError, QueryError
from attn.heads import HeadId, Part
from attn.models.residual import HeldNorm, ResidualStream, hold

FIT = 1e-3
"""The most that logits may differ from what the unembedding gives, as a share of their spread."""


@dataclass(frozen=True, eq=False)
class _Ending:
    """The way from the stream at one position to the logits there."""

    norm: HeldNorm | None
    factor: float
    capped: bool


def direct_effect(
    stream: ResidualStream, head: HeadId, dst: int, token: int | None = None, n: int = 8
) -> DirectEffect:
    """The direct effect of a head's looks from ``dst`` on a token's logit, by source.

    ``token`` an id; None for the one that came next, or at the end of the text the likeliest.
    ``n`` tokens raised and lowered. ``stream`` must have been read to the end. Raises HeadError,
    QueryError, and ModelError where no path leads straight from a head to the logits.
    """
    check_pair(stream, head, dst, dst)
    ending = _ending(stream, dst)
    wanted = next_token(stream, dst) if token is None else token
    gradient = _pull(stream, ending, dst, wanted)
    at = Part(str(head), head.layer, head.head)
    sources = looks(stream, at, dst, gradient)
    where = torch.tensor([dst], device=gradient.device)
    with torch.no_grad():
        written = stream.heads_write(head.layer, where)[head.head]  # (1, d_model)
        logits = _unembed(stream, ending, written)
    best, worst = logits.topk(n), logits.topk(n, largest=False)
    return DirectEffect(
        head,
        dst,
        wanted,
        float(sources.sum()),
        sources,
        tuple(zip(best.indices.tolist(), best.values.tolist(), strict=True)),
        tuple(zip(worst.indices.tolist(), worst.values.tolist(), strict=True)),
        ending.capped,
    )


def direct_parts(
    stream: ResidualStream, dst: int, token: int
) -> tuple[tuple[Part, ...], np.ndarray]:
    """Everything that wrote to the stream at ``dst``, and what it adds to a token's logit.

    The values (part,) float64 add to the logit less the mean logit, both before any cap.
    """
    ending, last = _ending(stream, dst), stream.session.n_layers
    gradient = _pull(stream, ending, dst, token)
    found = [some[:, 0] @ gradient for some in stream.parts(last, [dst])]
    values = torch.cat(found).double().cpu().numpy()
    with torch.no_grad():
        zeros = torch.zeros_like(gradient)[None]
        bias = stream.session.anatomy.unembedding(zeros)[0].float()
        if ending.norm is not None:
            bias = bias + stream.session.anatomy.unembedding(ending.norm.bias)[0].float() - bias
        bias = bias * ending.factor
        values[-1] += float(bias[token] - bias.mean())
    return tuple(stream.names(last)), values


def next_token(stream: ResidualStream, dst: int) -> int:
    """The id that came after a position; at the end of the text the likeliest one."""
    if dst + 1 < len(stream):
        return stream.ids[dst + 1]
    assert stream.logits is not None
    return int(stream.logits[dst].argmax())


def _ending(stream: ResidualStream, dst: int) -> _Ending:
    session = stream.session
    if stream.logits is None:
        raise QueryError("The text was not read to the end: read it without a last layer.")
    if session.anatomy.unembedding is None:
        raise ModelError(
            f"The unembedding of {session.name} does not read the residual stream: its heads have "
            f"no direct effect on the logits."
        )
    given, norm = stream.stream(session.n_layers)[dst][None], None
    with torch.no_grad():
        normed = given
        if session.anatomy.final is not None:
            normed = session.anatomy.final(given)
            norm = hold(session.anatomy.final, given, normed)
        made = session.anatomy.unembedding(normed)[0].double()
    logits = stream.logits[dst].double()
    factor = float((made @ logits) / (made @ made))
    off = (made * factor - logits).norm() / logits.norm()
    if off <= FIT:
        return _Ending(norm, factor, False)
    if getattr(session.hf.config.get_text_config(), "final_logit_softcapping", None):
        return _Ending(norm, 1.0, True)
    raise ModelError(
        f"The logits of {session.name} are not its unembedding times a number: the direct effect "
        f"of its heads cannot be said."
    )


def _pull(stream: ResidualStream, ending: _Ending, dst: int, token: int) -> Tensor:
    """(d_model,): the gradient of a logit against the vocabulary's mean, at the stream."""
    weight = stream.session.anatomy.unembedding.weight.detach().float()
    if not 0 <= token < len(weight):
        raise QueryError(f"The vocabulary has tokens 0 to {len(weight) - 1}: there is no {token}.")
    gradient = (weight[token] - weight.mean(0)) * ending.factor
    return gradient if ending.norm is None else ending.norm.pull_back(gradient[None])[0]


def _unembed(stream: ResidualStream, ending: _Ending, written: Tensor) -> Tensor:
    """(vocabulary,): what a vector of the stream (1, d_model) adds to the logits, mean 0."""
    linear = written if ending.norm is None else ending.norm.linear(written)
    weight = stream.session.anatomy.unembedding.weight.detach().float()
    logits: Tensor = (linear[0] @ weight.mT) * ending.factor
    return logits - logits.mean()
