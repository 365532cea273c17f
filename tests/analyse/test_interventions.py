"""Interventions against plain eager transformers whose attention is changed by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from attn.analyse.interventions import Intervention, intervene
from attn.errors import HeadError, ModelError, QueryError
from attn.heads import HeadId
from tests.analyse.conftest import Make, some_ids
from tests.architectures import HEADS
from tests.conftest import check_sentence

N = 20
HEAD = HeadId(0, 1)
CHANGES = (
    Intervention(HEAD, "looks", ((9, 4), (9, 2), (12, 7))),
    Intervention(HEAD, "looks", ((9, 4), (12, 7)), renormalise=True),
    Intervention(HEAD, "head"),
    Intervention(HEAD, "row", dst=11, row=6),
)


def ids_of(session: Any) -> list[int]:
    return some_ids(session, N)


def by_hand(plain: Any, ids: list[int], one: Intervention, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Plain eager attention whose softmax of the first layer is changed, in loops."""
    done = [False]
    softmax = torch.nn.functional.softmax

    def changed(scores: Any, *args: Any, **more: Any) -> Any:
        found = softmax(scores, *args, **more)
        if done[0] or found.shape[-2:] != (N, N):
            return found
        done[0] = True  # the first layer's
        found = found.clone()
        own = found.reshape(HEADS, N, N)[one.head.head]
        before = own.clone()
        if one.kind == "head":
            own[:] = 0
        if one.kind == "row":
            own[one.dst] = before[one.row]
        for dst, src in one.pairs:
            own[dst, src] = 0
        if one.renormalise:
            for dst, _ in one.pairs:
                own[dst] = own[dst] / own[dst].sum()
        return found

    with monkeypatch.context() as patch, torch.no_grad():
        patch.setattr(torch.nn.functional, "softmax", changed)
        out = plain(input_ids=torch.tensor([ids]), output_attentions=True, use_cache=False)
    assert done[0]
    return out


@pytest.mark.parametrize("name", ["gpt2", "llama", "qwen3", "bloom", "gpt-neo", "gpt-j"])
@pytest.mark.parametrize("one", CHANGES, ids=lambda one: f"{one.kind} {one.renormalise}")
def test_equal_to_plain_attention_changed_by_hand(
    name: str, one: Intervention, architecture: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, session, plain = architecture(name)
    ids = ids_of(session)
    found = intervene(session, ids, [one], position=14)
    wanted = by_hand(plain, ids, one, monkeypatch)
    logits = wanted.logits[0].double()
    for position in range(1, N):
        loss = float(logits[position - 1].logsumexp(-1) - logits[position - 1, ids[position]])
        assert found.after[position] == pytest.approx(loss, abs=2e-4)
    np.testing.assert_allclose(found.next_after, logits[14].softmax(-1).numpy(), atol=2e-5)
    with torch.no_grad():
        before = plain(input_ids=torch.tensor([ids]), output_attentions=True, use_cache=False)
    first = min((dst for dst, _ in one.pairs), default=one.dst if one.kind == "row" else 0)
    for moved in found.moved:
        both = [out.attentions[moved.head.layer][0, moved.head.head] for out in (before, wanted)]
        rows = ((both[0] - both[1]).abs().sum(-1) / 2)[first:]
        assert moved.mean == pytest.approx(float(rows.mean()), abs=1e-4)
        assert moved.most == pytest.approx(float(rows.max()), abs=1e-4)
    assert [moved.head.layer for moved in found.moved] == [1] * HEADS
    assert found.moved[0].mean == max(moved.mean for moved in found.moved)
    assert found.moved[0].mean > 1e-6
    np.testing.assert_array_equal(found.before[1:first], found.after[1:first])


@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma2", "bloom"])
def test_the_mean_of_a_head_by_hand(name: str, architecture: Make) -> None:
    kind, session, plain = architecture(name)
    ids = ids_of(session)
    found = intervene(session, ids, [Intervention(HeadId(1, 2), "mean")])
    block = next(m for m in plain.modules() if isinstance(m, torch.nn.ModuleList))[1]
    width = block.get_submodule(kind.output).weight.numel() // 32 // HEADS

    def replace(module: Any, args: Any) -> Any:
        flat = args[0].clone()
        of = slice(2 * width, 3 * width)
        flat[..., of] = flat[..., of].reshape(N, width).mean(0)
        return (flat,)

    handle = block.get_submodule(kind.output).register_forward_pre_hook(replace)
    with torch.no_grad():
        logits = plain(input_ids=torch.tensor([ids])).logits[0].double()
    handle.remove()
    losses = [float(logits[i - 1].logsumexp(-1) - logits[i - 1, ids[i]]) for i in range(1, N)]
    np.testing.assert_allclose(found.after[1:], losses, atol=2e-4)
    assert np.abs(found.after - found.before)[1:].max() > 1e-3


def test_nothing_done_changes_nothing(architecture: Make) -> None:
    _, session, _ = architecture("llama")
    found = intervene(session, ids_of(session), [])
    np.testing.assert_array_equal(found.before, found.after)
    assert not any(moved.most for moved in found.moved)
    assert np.isnan(found.before[0])
    token, before, after = found.likeliest(1)[0]
    assert before == after == found.next_before.max()
    assert token == int(found.next_before.argmax())


def test_several_heads_at_once(architecture: Make) -> None:
    _, session, _ = architecture("llama")
    ids = ids_of(session)
    both = intervene(
        session, ids, [Intervention(HEAD, "head"), Intervention(HeadId(1, 3), "looks", ((9, 4),))]
    )
    one = intervene(session, ids, [Intervention(HEAD, "head")])
    assert (both.after[1:10] == one.after[1:10]).all()
    assert both.after[10] != one.after[10]


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (Intervention(HeadId(9, 0), "head"), HeadError),
        (Intervention(HEAD, "looks", ((3, 5),)), QueryError),
        (Intervention(HEAD, "looks", ((99, 5),)), QueryError),
        (Intervention(HEAD, "row", dst=3, row=5), QueryError),
        (Intervention(HEAD, "patch"), QueryError),
    ],
)
def test_what_cannot_be_done(
    architecture: Make, change: Intervention, kind: type[Exception]
) -> None:
    _, session, _ = architecture("llama")
    with pytest.raises(kind) as error:
        intervene(session, ids_of(session), [change])
    check_sentence(error.value)


def test_an_encoder_has_no_loss(architecture: Make) -> None:
    _, session, _ = architecture("bert")
    with pytest.raises(ModelError, match="next token"):
        intervene(session, ids_of(session), [Intervention(HEAD, "head")])
