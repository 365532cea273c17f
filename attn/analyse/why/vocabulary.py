"""From the weights: what a head writes when it looks at a token, as tokens that come next.

The path is that of Wang et al. 2022 (2211.00593) for name movers: the embedding of a token as it is
after the first MLP, the head's values and output at full attention, the final norm, the
unembedding. The layers between are left out. The stream at a layer has another size than the
embedding, so logits are right up to a factor: compare them within a token, not between tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from attn.analyse.why.answers import Written
from attn.errors import ModelError
from attn.heads import HeadId
from attn.measure.module_calls import hooked

BATCH = 256
"""Tokens at a time: their logits over the vocabulary are held."""


@torch.no_grad()
def written_by_looking(
    session: Any, head: HeadId, tokens: Sequence[int], n: int = 8
) -> list[Written]:
    """What a head's OV circuit raises and lowers when it looks at each of some tokens (ids).

    ``n`` tokens either way. Each token is read alone, at the first position, with no attention in
    the first layer, so that its stream is its embedding and what the first MLP adds. Raises
    HeadError, and ModelError where the unembedding does not read the residual stream.
    """
    head.check(session.n_layers, session.n_heads)
    session.need_attention(head.layer)
    anatomy = session.anatomy
    if anatomy.unembedding is None:
        raise ModelError(
            f"The unembedding of {session.name} does not read the residual stream: what its heads "
            f"write cannot be read as tokens."
        )
    found = []
    for start in range(0, len(tokens), BATCH):
        some = [int(token) for token in tokens[start : start + BATCH]]
        written = _written(session, head, some)  # (token, d_model)
        normed = written if anatomy.final is None else anatomy.final(written)
        if anatomy.final is not None:
            normed = normed - anatomy.final(torch.zeros_like(written[:1]))  # its bias is no part
        logits = normed.float() @ anatomy.unembedding.weight.detach().float().mT
        logits = logits - logits.mean(-1, keepdim=True)
        best, worst = logits.topk(n, -1), logits.topk(n, -1, largest=False)
        for row, token in enumerate(some):
            own = int((logits[row] > logits[row, token]).sum())
            found.append(
                Written(token, _pairs(best, row), _pairs(worst, row), own, logits.shape[1])
            )
    return found


def _pairs(found: Any, row: int) -> tuple[tuple[int, float], ...]:
    return tuple(zip(found.indices[row].tolist(), found.values[row].tolist(), strict=True))


@dataclass(eq=False)
class _Kept:
    stream: Tensor | None = None
    mixed: Tensor | None = None


def _written(session: Any, head: HeadId, tokens: list[int]) -> Tensor:
    """(token, d_model): what the head adds to the stream where it looks at each token alone."""
    kept, blocks = _Kept(), session.anatomy.blocks
    block = blocks[head.layer]

    def hidden_of(args: Any, more: Any) -> Tensor:
        hidden: Tensor = more.get("hidden_states", args[0] if args else None)
        return hidden

    def after_first(module: Any, args: Any, more: Any) -> None:
        kept.stream = hidden_of(args, more)

    def replace(module: Any, args: Any, more: Any) -> Any:
        stream = hidden_of(args, more) if kept.stream is None else kept.stream
        if "hidden_states" in more:
            return args, {**more, "hidden_states": stream}
        return (stream, *args[1:]), more

    def mixed(module: Any, args: Any) -> None:
        kept.mixed = args[0].reshape(len(tokens), session.n_heads, -1)

    def no_attention(layer: int, pattern: Tensor) -> Tensor:
        return torch.zeros_like(pattern) if layer == 0 and head.layer > 0 else pattern

    with session.held(), hooked() as handles:
        handles.append(block.output.register_forward_pre_hook(mixed))
        if head.layer > 0:
            first = blocks[1].module
            handles.append(first.register_forward_pre_hook(after_first, with_kwargs=True))
            handles.append(block.module.register_forward_pre_hook(replace, with_kwargs=True))
        session.run_whole([[token] for token in tokens], change=no_attention)
    assert kept.mixed is not None
    alone = torch.zeros_like(kept.mixed)
    alone[:, head.head] = kept.mixed[:, head.head]
    flat = alone.flatten(1)
    written: Tensor = block.output(flat) - block.output(torch.zeros_like(flat[:1]))
    if block.post is not None:  # its scale is that of this write alone
        written = block.post(written) - block.post(torch.zeros_like(written[:1]))
    scaled: Tensor = written * block.factor
    return scaled
