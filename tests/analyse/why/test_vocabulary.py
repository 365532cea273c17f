"""What a head writes when it looks at a token, against the weights of plain transformers."""

from __future__ import annotations

import copy

import pytest
import torch

from attn.analyse.why.vocabulary import written_by_looking
from attn.errors import HeadError, ModelError
from attn.heads import HeadId
from attn.models.session import load_model
from tests.architectures import ALL, D_HEAD, plain_model, save
from tests.conftest import Tiny

TOKENS = (5, 40, 200)


def test_llama_by_hand(tmp_path_factory: pytest.TempPathFactory) -> None:
    """RMSNorm, grouped values, the embedding after the first MLP, the final norm."""
    kind, folder = ALL["llama"], tmp_path_factory.mktemp("llama")
    save(kind, folder)
    session, plain = load_model(str(folder), device="cpu"), plain_model(kind, folder)
    model = copy.deepcopy(plain).double()
    first, block = model.model.layers
    with torch.no_grad():
        embedded = model.model.embed_tokens.weight[list(TOKENS)]
        stream = embedded + first.mlp(first.post_attention_layernorm(embedded))
        normed = block.input_layernorm(stream)
        values = (normed @ block.self_attn.v_proj.weight.T).unflatten(-1, (2, D_HEAD))
        for head in range(4):
            w_o = block.self_attn.o_proj.weight.T[head * D_HEAD : (head + 1) * D_HEAD]
            written = values[:, head // 2] @ w_o
            logits = model.lm_head(model.model.norm(written))
            logits = logits - logits.mean(-1, keepdim=True)
            found = written_by_looking(session, HeadId(1, head), TOKENS, n=5)
            for row, one in enumerate(found):
                assert one.token == TOKENS[row]
                best, worst = logits[row].topk(5), logits[row].topk(5, largest=False)
                assert [i for i, _ in one.raised] == best.indices.tolist()
                assert [i for i, _ in one.lowered] == worst.indices.tolist()
                assert [v for _, v in one.raised] == pytest.approx(best.values.tolist(), rel=1e-3)
                assert one.rank == int((logits[row] > logits[row, TOKENS[row]]).sum())


def test_gpt2_by_hand(gpt2: Tiny) -> None:
    """LayerNorm with its mean and biases, and the embedding of the first position."""
    model = copy.deepcopy(gpt2.plain).double()
    first, block = model.transformer.h
    d = model.config.n_embd
    with torch.no_grad():
        embedded = model.transformer.wte.weight[list(TOKENS)] + model.transformer.wpe.weight[0]
        middle = embedded + first.attn.c_proj.bias
        stream = middle + first.mlp(first.ln_2(middle))
        value = block.attn.c_attn(block.ln_1(stream))[:, 2 * d :]
        width = d // model.config.n_head
        for head in range(model.config.n_head):
            of = slice(head * width, (head + 1) * width)
            written = value[:, of] @ block.attn.c_proj.weight[of]
            normed = model.transformer.ln_f(written) - model.transformer.ln_f.bias
            logits = normed @ model.lm_head.weight.T
            for row, one in enumerate(written_by_looking(gpt2.session, HeadId(1, head), TOKENS)):
                assert [i for i, _ in one.raised] == logits[row].topk(8).indices.tolist()


@pytest.mark.parametrize("name", [n for n, kind in ALL.items() if kind.norms is not None])
def test_every_architecture_gives_numbers(
    name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    session = load_model(str(save(ALL[name], tmp_path_factory.mktemp(name))), device="cpu")
    for layer in (0, 1):
        if layer in session.without_attention:
            continue
        for one in written_by_looking(session, HeadId(layer, 1), TOKENS):
            values = [value for _, value in (*one.raised, *one.lowered[::-1])]
            assert values == sorted(values, reverse=True)
            assert values[0] > 0 > values[-1]


def test_what_there_is_not(gpt2: Tiny, tmp_path_factory: pytest.TempPathFactory) -> None:
    with pytest.raises(HeadError):
        written_by_looking(gpt2.session, HeadId(2, 0), TOKENS)
    bert = load_model(str(save(ALL["bert"], tmp_path_factory.mktemp("bert"))), device="cpu")
    with pytest.raises(ModelError):
        written_by_looking(bert, HeadId(1, 0), TOKENS)
