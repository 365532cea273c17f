"""What effects of heads cost on a text of 64 tokens, against plain passes of the same text.

    python -m benchmarks.effects

The estimates of all heads take one forward and one backward pass with nothing but activations to
differentiate; the plain ones beside them differentiate the embeddings alone, which is the least
that a backward pass can do. An exact effect of one head is timed in every layer, its base pass
apart, which the heads of a batch share. Plain passes keep their fast attention. Turns alternate, so
that all see the same machine; medians of ROUNDS.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn.functional import cross_entropy

from attn.analyse.effects.passes import Batch, Passes, Place
from attn.heads import HeadId
from attn.models.builtin import NAME
from attn.models.session import load_model
from benchmarks.report import medians, report
from benchmarks.scan import plain_model
from benchmarks.search import TEXT, TOKENS

ROUNDS = 7
BASE = "a plain forward pass"
BOTH = "a plain forward and backward pass"
ESTIMATES = "estimates of all heads"
UNABLATED = "the base pass of exact effects"
EXACT = "one head exactly, mean over layers"


def main() -> None:
    session = load_model(NAME)
    tokens = session.encode(TEXT, limit=TOKENS)
    assert len(tokens) == TOKENS
    batch = Batch.make([Place(0, 0, tokens.ids.tolist(), 0)], session.device)
    passes, plain = Passes(session), plain_model(session, logits=True)
    plain.requires_grad_(False)
    d_head = session.anatomy.blocks[0].output.in_features // session.n_heads
    mean = torch.zeros(d_head)
    targets = batch.ids[0, 1:]

    def forward() -> None:
        with torch.no_grad():
            plain(input_ids=batch.ids, use_cache=False)

    def forward_backward() -> None:
        inputs = plain.get_input_embeddings()(batch.ids).detach().requires_grad_(True)
        logits = plain(inputs_embeds=inputs, use_cache=False).logits
        torch.autograd.grad(cross_entropy(logits[0, :-1], targets, reduction="sum"), inputs)

    def estimates() -> None:
        with passes.running(grad=True):
            passes.estimate(batch)

    def unablated() -> None:
        with passes.running(grad=False):
            passes.unablated(batch)

    with passes.running(grad=False):
        whole = passes.unablated(batch)

    def exact() -> None:
        with passes.running(grad=False):
            for layer in passes.layers:
                whole.without(HeadId(layer, layer % session.n_heads), mean)

    work: dict[str, Callable[[], None]] = {
        BASE: forward, BOTH: forward_backward, ESTIMATES: estimates, UNABLATED: unablated,
        EXACT: exact,
    }  # fmt: skip
    median = medians(work, ROUNDS)
    median[EXACT] /= len(passes.layers)
    against = {ESTIMATES: (BOTH, 4.0), EXACT: (BASE, 0.7), UNABLATED: (BASE, ""), BOTH: (BASE, "")}
    rows = []
    for name, took in median.items():
        other, bar = against.get(name, (BASE, ""))
        ratio = took / median[other]
        rows.append({"what": name, "ms": 1000 * took, "ratio": ratio, "to": other, "at most": bar})
    report("effects", rows)


if __name__ == "__main__":
    main()
