"""The score of one pair of a head, split exactly over what wrote to the residual stream.

The softmax cares only about differences within a row, so every number is given against the row:
what a part adds to the score of this source, less its mean over all sources that the row sees. With
every norm's scale held, these add to ``score(dst, src) − mean over visible sources``, which is
``log a(dst, src) − mean log a(dst, ·)`` in nats where scores are not capped. As in Elhage et al.
2021 (terms of the QK circuit), with norms and rotations as they are on this text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from attn.analyse.why.answers import Split
from attn.errors import ModelError, QueryError
from attn.heads import HeadId, Part
from attn.models.residual import Reads, ResidualStream

EXACT = 1e-4
"""The most that parts may miss the score by, as a share of it."""

ALIBI = "distance (ALiBi)"


def read(session: Any, ids: Sequence[int], last: int | None = None) -> ResidualStream:
    """Read a text for the questions of this package; ``last`` the last layer that they ask of.

    Raises ModelError for a model whose heads do not write to one residual stream.
    """
    if session.bidirectional:
        raise ModelError(
            f"{session.name} reads both ways, and its norms stand in the residual stream: why its "
            f"heads look somewhere cannot be split. Choose a model that predicts the next token."
        )
    return ResidualStream(session, ids, last)


def seen_by(stream: ResidualStream, head: HeadId, dst: int) -> range:
    """The sources that a row of a head sees."""
    visible = stream.layers[head.layer].visible
    assert visible is not None
    return range(dst + 1 - int(visible[dst]), dst + 1)


def check_pair(stream: ResidualStream, head: HeadId, dst: int, src: int) -> None:
    """Raise HeadError or QueryError for a head or a pair that there is not on this text."""
    session = stream.session
    head.check(session.n_layers, session.n_heads)
    session.need_attention(head.layer)
    if head.layer > stream.last:
        raise QueryError(f"The text was read up to layer {stream.last}: read it up to the head's.")
    if not 0 <= dst < len(stream):
        raise QueryError(f"The text has tokens 0 to {len(stream) - 1}: there is no {dst}.")
    if src not in seen_by(stream, head, dst):
        raise QueryError(
            f"{head} does not see token {src} from token {dst}: choose an earlier one."
        )


@dataclass(frozen=True, eq=False)
class Pull:
    """What a pair's score asks of the stream: gradients of the score against the row.

    ``query`` (d_model,) at the destination, ``key`` (n, d_model) at every source; a part's nats are
    its product with them. ``query_bias`` and ``key_bias`` are what is left for a stream of zeros,
    ``distance`` what ALiBi adds, all in nats.
    """

    total: float
    query: Tensor
    key: Tensor
    query_bias: float
    key_bias: float
    distance: float


def against_row(stream: ResidualStream, head: HeadId, dst: int, src: int) -> Tensor:
    """(n,) weights of sources that give a value at ``src`` less its mean over the row."""
    weights = torch.zeros(len(stream), device=stream.session.device)
    seen = seen_by(stream, head, dst)
    weights[seen.start : seen.stop] = -1 / len(seen)
    weights[src] += 1
    return weights


def pull(stream: ResidualStream, head: HeadId, dst: int, src: int) -> Pull:
    """The gradients of one pair's score against its row."""
    reads = stream.reads(head.layer)
    weights = against_row(stream, head, dst, src)
    query, key = reads.query[head.head, dst], reads.key[head.head]
    wanted = weights @ key * reads.scale  # (d_head,): what the query is multiplied by
    of_key = weights[:, None] * query * reads.scale
    distance = 0.0 if reads.bias is None else float(weights @ _bias_row(reads, head, dst))
    return Pull(
        total=float(query.double() @ wanted.double()) + distance,
        query=reads.pull_query(head.head, dst, wanted[None])[0],
        key=reads.pull_key(head.head, of_key[None])[0],
        query_bias=float(reads.query_bias[head.head, dst].double() @ wanted.double()),
        key_bias=float((reads.key_bias[head.head].double() * of_key.double()).sum()),
        distance=distance,
    )


def _bias_row(reads: Reads, head: HeadId, dst: int) -> Tensor:
    assert reads.bias is not None
    bias = reads.bias[head.head]
    return bias[min(dst, len(bias) - 1)].float()


def split(stream: ResidualStream, head: HeadId, dst: int, src: int) -> Split:
    """Split the score of one pair over what wrote to the stream, on the query's and the key's side.

    ``dst`` and ``src`` positions of the text. Raises HeadError, QueryError for a pair that there is
    not, and ModelError where the parts do not add to the score.
    """
    check_pair(stream, head, dst, src)
    asked, everywhere = pull(stream, head, dst, src), range(len(stream))
    query = _nats(stream, head.layer, [dst], asked.query[None])
    key = _nats(stream, head.layer, everywhere, asked.key)
    query[-1] += asked.query_bias
    key[-1] += asked.key_bias
    parts = stream.names(head.layer)
    if stream.reads(head.layer).bias is not None:
        parts = [*parts, Part(ALIBI)]
        query, key = (np.append(side, asked.distance) for side in (query, key))
    _check(stream, head, asked.total, query, key)
    layer = stream.layers[head.layer]
    assert layer.pattern is not None
    return Split(
        head,
        dst,
        src,
        asked.total,
        tuple(parts),
        query,
        key,
        attention=float(layer.pattern[head.head, dst, src]),
        visible=len(seen_by(stream, head, dst)),
        capped=stream.reads(head.layer).cap is not None,
    )


def why(session: Any, text: str | Sequence[int], head: HeadId, dst: int, src: int) -> Split:
    """Split the score of one look over what wrote to the residual stream.

    ``text`` a text, or token ids; ``dst`` and ``src`` positions, a BOS counted. Raises as
    :func:`read` and :func:`split`. Elhage et al. 2021, "A Mathematical Framework for Transformer
    Circuits", with norms held and rotations as they are on this text.

    >>> found = attn.why(model, "one two three. one two three.", attn.HeadId(18, 6), 6, 3)
    >>> bool(abs(found.key.sum() - found.total) < 1e-4 * max(abs(found.total), 1))
    True
    >>> part, nats = found.strongest("key", 1)[0]
    """
    ids = session.encode(text).ids.tolist() if isinstance(text, str) else text
    head.check(session.n_layers, session.n_heads)
    return split(read(session, ids, head.layer), head, dst, src)


def _nats(stream: ResidualStream, layer: int, at: Sequence[int], gradient: Tensor) -> np.ndarray:
    """(part,) float64: each part of the stream times a gradient (position, d_model)."""
    flat = gradient.reshape(-1)
    found = [some.flatten(1) @ flat for some in stream.parts(layer, at)]
    nats: np.ndarray = torch.cat(found).double().cpu().numpy()
    return nats


def _check(
    stream: ResidualStream, head: HeadId, total: float, query: np.ndarray, key: np.ndarray
) -> None:
    """Refuse a model for which the parts of a side do not add to the score, by name."""
    for side, values in (("query", query), ("key", key)):
        size = max(abs(total), 0.01 * float(np.abs(values).sum()), 1e-3)
        if not abs(float(values.sum()) - total) <= EXACT * size:
            raise ModelError(
                f"The scores of {stream.session.name} are no sum over what wrote to the residual "
                f"stream ({head}, {side} side): why it looks there cannot be said."
            )


def split_pairs(stream: ResidualStream, head: HeadId, dst: int, src: int) -> np.ndarray:
    """(query part, key part) float64 nats: the same total over all pairs of parts.

    Parts as :meth:`ResidualStream.names`, without ALiBi, which belongs to no part. Rows add to the
    query side of :func:`split`, columns to its key side, but for that distance.
    """
    check_pair(stream, head, dst, src)
    reads = stream.reads(head.layer)
    weights = against_row(stream, head, dst, src)
    unit = torch.eye(reads.query.shape[-1], device=weights.device)
    of_query = reads.pull_query(head.head, dst, unit)  # (d_head, d_model)
    of_key = reads.pull_key(head.head, unit[:, None] * weights[:, None])  # (d_head, n, d_model)
    seen = seen_by(stream, head, dst)
    of_key = of_key[:, seen.start : seen.stop].flatten(1)
    queries = torch.cat([part[:, 0] @ of_query.mT for part in stream.parts(head.layer, [dst])])
    keys = torch.cat([part.flatten(1) @ of_key.mT for part in stream.parts(head.layer, seen)])
    queries[-1] += reads.query_bias[head.head, dst]
    keys[-1] += weights @ reads.key_bias[head.head]
    nats: np.ndarray = (queries.double() @ keys.double().mT * reads.scale).cpu().numpy()
    return nats


def looks(stream: ResidualStream, part: Part, at: int, gradient: Tensor) -> np.ndarray:
    """(source,) float64: what an earlier head wrote at a position, by where it read it from.

    ``gradient`` (d_model,) of a score at that position. Adds to the head's nats there.
    """
    layer = stream.layers[part.layer]
    assert layer.value is not None
    assert layer.pattern is not None
    where = torch.tensor([at], device=gradient.device)
    pulled = gradient * stream.blocks[part.layer].factor
    if layer.post is not None:
        pulled = layer.post.at(where).pull_back(pulled[None])[0]
    back = stream.matrix(part.layer)[part.head] @ pulled  # (d_head,)
    moved = layer.value[part.head].float() @ back
    nats: np.ndarray = (layer.pattern[part.head, at] * moved).double().cpu().numpy()
    return nats
