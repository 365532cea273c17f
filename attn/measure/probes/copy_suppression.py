"""Random tokens said twice: who looks at the token that is about to come, and lowers it?

McDougall et al. 2023, "Copy Suppression" (2310.04625): where the layers before a head predict a
token that stands in the text, the head looks there and lowers that token's logit. The paper scores
the share of a head's effect on OpenWebText that this explains, by ablation; here the input is made,
so that the token to come is known: in the second copy it is what followed in the first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from attn.measure.draws import random_sequences, vocabulary_of
from attn.measure.metric import NotMeasured, metric

if TYPE_CHECKING:
    from torch import Tensor

    from attn.measure.probes.model import ProbedModel, Seen

SEQUENCES, EVERY = 1, 3
LEAST = 4  # rows
SHARE = 0.5  # of the rows: where the whole model must predict the token
TOP = 10
"""A token is predicted where it is among so many likeliest."""


def rows_and_sources(model: ProbedModel) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Token ids (n, position); rows (row, 2) of sequence and position, every third of the
    second copy; and the source of each, where the token to come stands in the first copy."""
    session = model.session
    ids = random_sequences(
        vocabulary_of(session), session.bos_id, SEQUENCES, seed=0, n_ctx=session.n_ctx
    )
    start = 0 if session.bos_id is None else 1
    length = (ids.shape[1] - start) // 2
    dst = np.arange(start + length, start + 2 * length - 1, EVERY)
    rows = np.array([(i, one) for i in range(SEQUENCES) for one in dst], np.int64).reshape(-1, 2)
    return ids, rows, rows[:, 1] - (length - 1)


@metric(
    "probe", "Copy suppression", unit="share of attention",
    formula="mean of a[dst, src], 0 where the layers before do not predict the token of src or "
    "the head does not lower it",
    role="copy suppression", threshold=0.3, on="on random tokens",
)  # fmt: skip
def copy_suppression(model: ProbedModel) -> np.ndarray:
    """On random tokens said twice: attention on the token about to come, where the layers before
    predict it (among the ten likeliest) and what the head moves from there lowers it.

    McDougall et al. (2023) ablate on natural text; this only reads the direct path on random
    tokens, so a head that suppresses on words alone is not found. Lowered is: below the mean over
    the vocabulary. No threshold of this kind is published: 0.3 is chosen here.
    """
    import torch

    model.need_next_token()
    model.need_path()
    ids, places, sources_at = rows_and_sources(model)
    if len(places) < LEAST:
        raise NotMeasured("the context of this model is too short")
    device = model.session.device
    rows, sources = torch.tensor(places, device=device), torch.tensor(sources_at, device=device)
    tokens = torch.tensor(ids, device=device)[rows[:, 0], sources]
    wanted = model.directions(tokens.tolist()) - model.mean_direction  # (row, d_model)
    scores = model.empty()

    def look(seen: Seen) -> None:
        logits = model.unembed(seen.stream[rows[:, 0], rows[:, 1]])  # (row, token)
        predicted = rank_of(logits, tokens) < TOP
        written = model.written(seen, rows, sources)
        lowered = torch.einsum("rhm,rm->rh", written, wanted) < 0
        share = seen.pattern[rows[:, 0], :, rows[:, 1], sources]
        score = (share * (lowered & predicted[:, None])).double().mean(0)
        scores[seen.layer] = score.cpu().numpy()

    ended = model.run(ids.tolist(), look, places)
    right = int((rank_of(ended.logits, tokens) < TOP).sum())
    if right < SHARE * len(tokens):
        raise NotMeasured(
            f"the model foretells what is said twice in {right} of {len(tokens)} places, too few"
        )
    return scores


def rank_of(logits: Tensor, tokens: Tensor) -> Tensor:
    """(row,) int64: how many other tokens have at least the logit of the row's own token.

    ``logits`` (row, token), ``tokens`` (row,).
    """
    own = logits.gather(1, tokens[:, None])
    return (logits >= own).sum(1) - 1
