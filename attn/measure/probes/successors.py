"""Days, months, numbers, letters through a head's weights: does it write what comes next?

Gould et al. 2023, "Successor Heads" (2312.09230): the logits ``W_U · OV · MLP0(W_E t)`` of a token
t; the score is the share of tokens whose successor has the highest among the tokens of its list.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from attn.measure.metric import NotMeasured, metric

if TYPE_CHECKING:
    from torch import Tensor

    from attn.measure.probes.model import ProbedModel

_DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday"
_MONTHS = "January February March April May June July August September October November December"
_WORDS = (
    "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen twenty"
)
_ORDINALS = "first second third fourth fifth sixth seventh eighth ninth tenth"
LISTS: dict[str, tuple[tuple[str, ...], bool]] = {
    "numbers": (tuple(map(str, range(1, 201))), False),
    "number words": (tuple(_WORDS.split()), False),
    "ordinals": (tuple(_ORDINALS.split()), False),
    "days": (tuple(_DAYS.split()), True),
    "months": (tuple(_MONTHS.split()), True),
    "short days": (tuple(day[:3] for day in _DAYS.split()), True),
    "short months": (tuple(month[:3] for month in _MONTHS.split()), True),
    "letters": (tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ"), False),
}
"""The paper's eight lists; True where the first follows the last."""
LEAST = 5  # tokens with a successor that a list needs, to count
LEAST_LISTS = 3


class Tokens(NamedTuple):
    """A list's tokens that the model has, and for some of them, by place, the successor's place."""

    ids: list[int]
    follows: dict[int, int]


def lists(model: ProbedModel) -> dict[str, Tokens]:
    """The lists, of words that are one token in the model's own vocabulary.

    Raises NotMeasured where fewer than three lists are left.
    """
    found = {}
    for name, (words, cycle) in LISTS.items():
        known = [model.word(word) for word in words]
        places: dict[int, int] = {}
        ids: list[int] = []
        for i, token in enumerate(known):
            if token is not None and token not in ids:
                places[i] = len(ids)
                ids.append(token)
        after = {i: (i + 1) % len(words) if cycle else i + 1 for i in places}
        follows = {places[i]: places[j] for i, j in after.items() if j in places}
        if len(follows) >= LEAST:
            found[name] = Tokens(ids, follows)
    if len(found) < LEAST_LISTS:
        raise NotMeasured(
            f"{len(found)} of {len(LISTS)} lists (days, months, numbers …) are single tokens of "
            f"this model, too few"
        )
    return found


def through_first_mlp(model: ProbedModel, ids: list[int]) -> Tensor:
    """(token, d_model) float32: ``MLP0(W_E t)``, the norm before the MLP in it.

    The first layer runs on each token's embedding, without position, its attention writing 0.
    Raises NotMeasured for a model whose first layer has no attention that can be taken out.
    """
    import torch

    from attn.measure.module_calls import hooked

    norms, session = model.norms, model.session
    block, output = norms.blocks.get(0), norms.outputs.get(0)
    if block is None or output is None:
        raise NotMeasured("the first layer of this model has no attention that can be taken out")
    seen: dict[str, Tensor] = {}

    def embedded(module: Any, args: Any, output: Tensor) -> None:
        seen["embedding"] = output

    def enter(module: Any, args: Any, more: Any) -> tuple[Any, Any]:
        hidden, plain = more.get("hidden_states", args[0] if args else None), seen["embedding"]
        if norms.embedding is None and plain.shape == hidden.shape:
            ratio = torch.linalg.vecdot(hidden, plain) / torch.linalg.vecdot(plain, plain)
            mean = ratio.mean()
            off = (hidden - mean * plain).norm()
            if off > 1e-2 * hidden.norm():  # it has a position in it
                hidden = plain
        seen["in"] = hidden
        if "hidden_states" in more:
            return args, {**more, "hidden_states": hidden}
        return (hidden, *args[1:]), more

    def silent(module: Any, args: Any, output: Tensor) -> Tensor:
        return torch.zeros_like(output)

    def leave(module: Any, args: Any, output: Any) -> None:
        seen["out"] = output[0] if isinstance(output, tuple) else output

    with session.held(), hooked() as handles:
        handles.append(session.hf.get_input_embeddings().register_forward_hook(embedded))
        handles.append(block.register_forward_pre_hook(enter, with_kwargs=True))
        handles.append(output.register_forward_hook(silent))
        handles.append(block.register_forward_hook(leave))
        tokens = torch.tensor(ids, device=session.device)[:, None]
        if session.n_layers > 1:  # no layer above the second's attention is run
            session.observe(tokens, lambda reading: None, layers=[1])
        else:
            session.run_whole(tokens, lambda reading: None)
    return (seen["out"].float() - seen["in"].float())[:, 0]


@metric(
    "probe", "Successor", unit="share of tokens",
    formula="share of t whose successor is the argmax of W_U · OV · MLP0(W_E t) within its list",
    role="successor", threshold=0.4, on="on days, months, numbers and letters",
)  # fmt: skip
def successor(model: ProbedModel) -> np.ndarray:
    """Whether the head's weights turn a day, month, number or letter into the one that follows it:
    the share of tokens whose successor gets the highest logit of its list (Gould et al. 2023).

    Weights alone: no text shows that the head looks at such tokens, biases are left out, and only
    words that are one token of the model count. The paper publishes no threshold: 0.4 is that of a
    re-implementation. Heads of the first layer come before the MLP that the formula takes.
    """
    import torch

    model.need_next_token()
    model.need_path()
    found = lists(model)
    ids = sorted({token for one in found.values() for token in one.ids})
    place = {token: i for i, token in enumerate(ids)}
    read, wanted = through_first_mlp(model, ids), model.directions(ids)
    scores = model.empty()
    for layer in model.norms.blocks:
        folded = model.weights(layer).folded(model.norms.layers[layer])
        written = torch.einsum("tm,hmd,hdn->htn", read, folded.w_v, folded.w_o)
        logits = written @ wanted.mT  # (head, token, token)
        right = torch.zeros(len(logits), device=logits.device)
        n = 0
        for one in found.values():
            columns = torch.tensor([place[token] for token in one.ids], device=logits.device)
            rows = columns[list(one.follows)]
            best = logits[:, rows][:, :, columns].argmax(-1)
            right += (best == torch.tensor([*one.follows.values()], device=best.device)).sum(1)
            n += len(rows)
        scores[layer] = (right.double() / n).cpu().numpy()
    return scores
