"""Sentences with two names, one of them said twice: who looks at whom before the last word.

Wang et al. 2022, "Interpretability in the Wild" (2211.00593): after "Then, Mary and John went to
the store. John gave a drink to" the right name is Mary, the indirect object, the wrong one John,
the subject, whose second mention is S2. The paper finds its heads by path patching, which is not
done here; it reports that name movers of GPT-2 small look at the indirect object, and S-inhibition
heads at S2, from the last position.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from attn.measure.metric import ANY, NotMeasured, metric

if TYPE_CHECKING:
    from attn.measure.probes.model import ProbedModel, Seen

NAMES = (
    "Mary", "John", "James", "Anna", "David", "Sarah", "Paul", "Laura", "Peter", "Emma",
    "Robert", "Kate", "Michael", "Alice", "Mark", "Susan",
)  # fmt: skip
TEMPLATES = (
    "Then, {A} and {B} went to the store. {S} gave a drink to",
    "When {A} and {B} got a snack at the house, {S} decided to give it to",
    "After {A} and {B} had a long talk at school, {S} said something to",
)
LEAST = 4  # names that a model needs as single tokens
SENTENCES = 12
_ON = "on sentences with two names"


class Sentence(NamedTuple):
    """Token ids with the BOS, the positions of the right name, of S2 and of the end, and the ids
    of the right and of the wrong name."""

    ids: list[int]
    right_at: int
    s2_at: int
    right: int
    wrong: int

    @property
    def last(self) -> int:
        """The position of the end."""
        return len(self.ids) - 1


class Numbers(NamedTuple):
    """(sentence, layer, head) each: attention of the last position on the right name and on S2, and
    the direct effect on the right name's logit over the wrong one's."""

    right: np.ndarray
    s2: np.ndarray
    effect: np.ndarray


def sentences(model: ProbedModel) -> list[Sentence]:
    """The sentences, of names that are one token in the model's own vocabulary.

    Each template has the right name first and second, equally often. Raises NotMeasured where the
    model has too few names.
    """
    known = [(name, token) for name in NAMES if (token := model.word(name)) is not None]
    if len({token for _, token in known}) < LEAST:
        raise NotMeasured(
            f"{len(known)} of {len(NAMES)} names are single tokens of this model, too few"
        )
    found = []
    for i in range(SENTENCES):
        (a, a_id), (b, b_id) = known[2 * i % len(known)], known[(2 * i + 1) % len(known)]
        a_is_right = i // len(TEMPLATES) % 2 == 0
        subject = b if a_is_right else a
        text = TEMPLATES[i % len(TEMPLATES)].format(A=a, B=b, S=subject)
        ids = model.with_bos(model.after(text))
        right, wrong = (a_id, b_id) if a_is_right else (b_id, a_id)
        if ids.count(right) == 1 and ids.count(wrong) == 2 and len(ids) <= model.session.n_ctx:
            s2 = len(ids) - 1 - ids[::-1].index(wrong)
            found.append(Sentence(ids, ids.index(right), s2, right, wrong))
    if len(found) < SENTENCES / 2:
        raise NotMeasured("its tokenizer or its context does not hold the sentences of this probe")
    return found


def _numbers(model: ProbedModel) -> Numbers:
    if "names" not in model.kept:
        model.kept["names"] = _measure(model)
    found: Numbers = model.kept["names"]
    return found


def _measure(model: ProbedModel) -> Numbers:
    import torch

    model.need_next_token()
    model.need_path()
    some = sentences(model)
    device = model.session.device
    n = torch.arange(len(some), device=device)
    right, s2, last = (
        torch.tensor(at, device=device)
        for at in zip(*((one.right_at, one.s2_at, one.last) for one in some), strict=True)
    )
    wanted = model.directions([one.right for one in some])
    wanted = wanted - model.directions([one.wrong for one in some])  # (sentence, d_model)
    found = [np.full((len(some), *model.shape), np.nan) for _ in range(3)]

    def look(seen: Seen) -> None:
        written = model.written(seen, torch.stack([n, last], 1))
        for place, values in zip(
            found,
            (
                seen.pattern[n, :, last, right],
                seen.pattern[n, :, last, s2],
                torch.einsum("rhm,rm->rh", written, wanted),
            ),
            strict=True,
        ):
            place[:, seen.layer] = values.double().cpu().numpy()

    ended = model.run([one.ids for one in some], look)
    scale = ended.scale[n, last].double().cpu().numpy()
    return Numbers(found[0], found[1], found[2] / scale[:, None, None])


@metric(
    "probe", "Name mover", unit="share of attention",
    formula="mean of a[last, right name], 0 where the head's direct effect favours the wrong name",
    role="name mover", threshold=0.3, on=_ON,
)  # fmt: skip
def name_mover(model: ProbedModel) -> np.ndarray:
    """On twelve sentences like “Then, Mary and John went to the store. John gave a drink to”:
    attention of the last position on the right name, where what the head writes favours that name.

    Wang et al. (2022) find name movers by path patching; this only reads attention and the direct
    path, so a head may move other words too or may be made up for by later ones. No threshold is
    published: 0.3 is chosen here.
    """
    numbers = _numbers(model)
    score: np.ndarray = (numbers.right * (numbers.effect > 0)).mean(0)
    return np.where(np.isnan(numbers.effect).any(0), np.nan, score)


@metric(
    "probe", "Effect on the right name", unit="logits", low_high=ANY,
    formula="mean of (what the head writes at the last position) · (W_U[right] − W_U[wrong]), "
    "through the final norm with its scale held",
)  # fmt: skip
def name_effect(model: ProbedModel) -> np.ndarray:
    """On the same sentences: how much the head's own output lifts the right name over the wrong
    one; below 0 it does the reverse, as negative name movers do.

    Only the straight path to the vocabulary: what later layers make of it is left out, and so are
    biases behind the heads (Wang et al. 2022 patch paths; this does not).
    """
    effect: np.ndarray = _numbers(model).effect.mean(0)
    return effect


@metric(
    "probe", "S-inhibition", unit="share of attention",
    formula="mean of a[last, second mention of the wrong name]",
    role="S-inhibition", threshold=0.3, on=_ON,
)  # fmt: skip
def s_inhibition(model: ProbedModel) -> np.ndarray:
    """On the same sentences: attention of the last position on the second mention of the wrong
    name, as S-inhibition heads have it.

    Attention alone: that later heads then look away from that name is not tested, and a head that
    looks at any recent name scores as well. Wang et al. (2022) find these heads by path patching
    and publish no threshold: 0.3 is chosen here.
    """
    found: np.ndarray = _numbers(model).s2.mean(0)
    return found
