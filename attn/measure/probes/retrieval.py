"""A sentence planted in a text and then repeated: who looks at the token being copied?

Wu et al. 2024, "Retrieval Head Mechanistically Explains Long-Context Factuality" (2404.15574):
while a model repeats the planted sentence, a head scores for each token that it copies, where its
strongest source lies in the planted sentence and is the token that comes next. The paper decodes
greedily and counts runs whose answer is right (ROUGE-1 recall over 50); here the answer is given
(teacher-forced) and a run counts where the model itself would have said more than half of it. Texts
have up to 128 tokens: this is no test of long contexts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from attn.measure.metric import NotMeasured, metric

if TYPE_CHECKING:
    from attn.measure.probes.model import ProbedModel, Seen

LENGTH = 128
RECALL = 0.5  # the share of the answer that the model itself must say
FILLER = (
    "The river was high after a week of rain, and the boats stayed at the pier. A man sold bread "
    "and apples from a cart near the gate. Two children ran past with a small brown dog. The bells "
    "rang at noon and most of the shops closed for an hour. In the afternoon the wind turned and "
    "the clouds moved off to the east. Someone played a piano in a house on the hill. The mail "
    "came late, as it often did in spring. By evening the streets were dry and the lamps were lit, "
    "and people sat outside to talk about the harvest, the roads and the price of wood."
)
NEEDLES = (
    ("The key to the blue box is under the third stone by the old well.", "Where is the key?", 0.2),
    ("The best thing to do in the city is to eat a sandwich in the park.", "What is best?", 0.5),
    ("My uncle keeps seven silver coins in a jar behind the kitchen door.", "Where are they?", 0.8),
)
"""Planted sentence, question, and how far into the text it is planted."""


class Run(NamedTuple):
    """Token ids; where the planted sentence begins; its length. The answer is the end of the ids,
    its last token left out, which nothing after it needs."""

    ids: list[int]
    start: int
    length: int

    @property
    def rows(self) -> np.ndarray:
        """(length,) the positions from which the answer's tokens are foretold."""
        return np.arange(len(self.ids) - self.length, len(self.ids))

    @property
    def answer(self) -> list[int]:
        """The planted sentence's ids."""
        return self.ids[self.start : self.start + self.length]


def runs(model: ProbedModel) -> list[Run]:
    """The texts. Raises NotMeasured where the model's context does not hold them."""
    filler = model.after(FILLER)
    most = min(LENGTH, model.session.n_ctx)
    found = []
    for planted, question, depth in NEEDLES:
        needle, asked = model.after(planted), model.after(f"{question} Answer:")
        room = most - len(model.with_bos([])) - 2 * len(needle) + 1 - len(asked)
        if room < 2 * len(needle):
            raise NotMeasured("the context of this model is too short for the planted text")
        around = filler[:room]
        at = int(len(around) * depth)
        before = model.with_bos(around[:at])
        ids = [*before, *needle, *around[at:], *asked, *needle[:-1]]
        found.append(Run(ids, len(before), len(needle)))
    return found


@metric(
    "probe", "Retrieval", unit="share of tokens",
    formula="share of the planted sentence's tokens t that are the head's strongest source in the "
    "row that foretells t; mean over the texts that count",
    role="retrieval", threshold=0.1, on="on a planted sentence",
)  # fmt: skip
def retrieval(model: ProbedModel) -> np.ndarray:
    """While a sentence planted in a text is repeated: how often the head's strongest source, in
    that sentence, is the token being copied (Wu et al. 2024, whose threshold 0.1 is).

    The answer is given, not decoded, and texts have up to 128 tokens, so nothing is said of long
    contexts. Induction heads score here too, since the sentence is repeated word by word.
    """
    import torch

    model.need_next_token()
    model.need_path()
    texts = runs(model)
    device = model.session.device
    hits = np.full((len(texts), *model.shape), np.nan)

    def look(seen: Seen) -> None:
        for i, one in enumerate(texts):
            rows = torch.tensor(one.rows, device=device)
            best = seen.pattern[i][:, rows, : len(one.ids)].argmax(-1)  # (head, row)
            ids = torch.tensor(one.ids, device=device)
            planted = (best >= one.start) & (best < one.start + one.length)
            same = ids[best] == torch.tensor(one.answer, device=device)
            hits[i, seen.layer] = (planted & same).double().mean(1).cpu().numpy()

    ended = model.run([one.ids for one in texts], look)
    said = ended.best.cpu().numpy()
    counts = [
        float((said[i, one.rows] == np.array(one.answer)).mean()) > RECALL
        for i, one in enumerate(texts)
    ]
    if not any(counts):
        raise NotMeasured(f"the model repeats the planted sentence in 0 of {len(texts)} texts")
    scores: np.ndarray = hits[np.array(counts)].mean(0)
    return scores
