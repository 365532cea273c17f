"""The score of a pair, split: the sums for every architecture, and two models by hand."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch

from attn.analyse.why.direct import direct_effect, direct_parts
from attn.analyse.why.graph import carried, follow
from attn.analyse.why.split import ALIBI, looks, pull, read, seen_by, split, split_pairs, why
from attn.errors import HeadError, ModelError, QueryError
from attn.heads import HeadId
from attn.models.session import load_model
from tests.analyse.conftest import Make, some_ids
from tests.architectures import ALL, D_HEAD, HEADS
from tests.conftest import check_sentence

N = 30
SPLIT = [name for name, kind in ALL.items() if kind.norms is not None]
IN_STREAM = [name for name, kind in ALL.items() if kind.norms is None]
CASES = ((20, 15), (29, 25), (13, 13), (29, 29))


def ids_of(session: Any, n: int = N) -> list[int]:
    return some_ids(session, n)


def attentions(plain: Any, ids: list[int]) -> Any:
    """(layer with attention, head, dst, src) float64 as plain transformers computes them."""
    with torch.no_grad():
        out = plain(input_ids=torch.tensor([ids]), output_attentions=True, use_cache=False)
    return [one[0].double() for one in out.attentions if one is not None]


@pytest.mark.parametrize("name", SPLIT)
def test_both_sides_and_all_pairs_add_to_the_log_of_the_attention(
    name: str, architecture: Make
) -> None:
    kind, session, plain = architecture(name)
    ids = ids_of(session)
    stream = read(session, ids)
    layers = [layer for layer in range(session.n_layers) if layer not in kind.without]
    compared = 0
    for layer, pattern in zip(layers, attentions(plain, ids), strict=True):
        for head in range(session.n_heads):
            at = HeadId(layer, head)
            for dst, src in CASES:
                seen = seen_by(stream, at, dst)
                assert len(seen) == kind.visible[layer](dst)
                if src not in seen:
                    continue
                found = split(stream, at, dst, src)
                size = max(abs(found.total), 0.05)
                row = pattern[head, dst, seen.start : seen.stop].log()
                wanted = float(row[src - seen.start] - row.mean())
                if name != "gemma2" and bool(row.isfinite().all()):  # its scores are capped after
                    assert abs(found.total - wanted) < 1e-4 * size
                    compared += 1
                assert found.capped == (name == "gemma2")
                assert abs(found.query.sum() - found.total) < 1e-4 * size
                assert abs(found.key.sum() - found.total) < 1e-4 * size
                assert found.attention == pytest.approx(float(pattern[head, dst, src]), abs=1e-5)
                pairs = split_pairs(stream, at, dst, src)
                alibi = found.parts[-1].name == ALIBI
                assert alibi == (name == "bloom")
                query, key = (v[:-1] if alibi else v for v in (found.query, found.key))
                np.testing.assert_allclose(pairs.sum(1), query, atol=2e-5 * max(size, 1))
                np.testing.assert_allclose(pairs.sum(0), key, atol=2e-5 * max(size, 1))
    assert compared > 8 or name == "gemma2"  # GPT-Neo's smallest attention is 0 in float32


@pytest.mark.parametrize("name", [name for name in SPLIT if not ALL[name].without])
def test_an_earlier_head_is_the_sum_of_its_looks(name: str, architecture: Make) -> None:
    _, session, _ = architecture(name)
    stream = read(session, ids_of(session))
    for head in range(session.n_heads):
        found = split(stream, HeadId(1, head), 20, 15)
        for number, part in enumerate(found.parts):
            if part.head < 0:
                continue
            for side, values in (("query", found.query), ("key", found.key)):
                table = carried(stream, found, part, side)
                assert float(table.sum()) == pytest.approx(values[number], abs=2e-5)


@pytest.mark.parametrize("name", SPLIT)
def test_direct_effects_add_to_the_logit(name: str, architecture: Make) -> None:
    kind, session, plain = architecture(name)
    ids = ids_of(session)
    stream = read(session, ids)
    kept: list[Any] = []
    handle = plain.get_output_embeddings().register_forward_hook(
        lambda module, args, output: kept.append(output)
    )
    with torch.no_grad():
        logits = plain(input_ids=torch.tensor([ids])).logits[0].double()
    handle.remove()
    uncapped = kept[0][0].double()
    capped = getattr(plain.config.get_text_config(), "final_logit_softcapping", None)
    assert bool(torch.allclose(uncapped, logits)) == (capped is None)
    for dst in (3, 20):
        token = ids[dst + 1]
        parts, values = direct_parts(stream, dst, token)
        wanted = float(uncapped[dst, token] - uncapped[dst].mean())
        assert values.sum() == pytest.approx(wanted, abs=2e-4)
        layer = next(number for number in (1, 0) if number not in kind.without)
        for head in range(session.n_heads):
            found = direct_effect(stream, HeadId(layer, head), dst)
            assert found.token == token
            assert found.capped == (capped is not None)
            number = [part.name for part in parts].index(f"L{layer}H{head}")
            assert found.total == pytest.approx(values[number], abs=1e-4)
            assert found.sources.sum() == pytest.approx(found.total)
            assert (found.sources[dst + 1 :] == 0).all()
            best, value = found.raised[0]
            again = direct_effect(stream, HeadId(layer, head), dst, best)
            assert again.total == pytest.approx(value, abs=1e-4)


def test_gpt2_by_hand(architecture: Make) -> None:
    """Every part of every pair, from the weights of plain transformers, written out in loops."""
    _, session, plain = architecture("gpt2")
    ids = ids_of(session, 9)
    stream = read(session, ids)
    plain = copy.deepcopy(plain).double()
    first, block = plain.transformer.h
    d = plain.config.n_embd
    tokens = plain.transformer.wte.weight[ids]
    places = plain.transformer.wpe.weight[: len(ids)]
    with torch.no_grad():
        entered = tokens + places
        pattern, value = _gpt2_attention(first, first.ln_1(entered))
        w_o = first.attn.c_proj.weight
        heads = [pattern[h] @ value[h] @ w_o[h * D_HEAD : (h + 1) * D_HEAD] for h in range(HEADS)]
        middle = entered + sum(heads) + first.attn.c_proj.bias
        mlp = first.mlp(first.ln_2(middle))
        bias = first.attn.c_proj.bias.expand_as(entered)
        parts = [tokens, places, *heads, mlp, bias]
        whole = middle + mlp
        spread = (whole - whole.mean(-1, keepdim=True)).square().mean(-1, keepdim=True)
        size = 1 / (spread + block.ln_1.eps).sqrt()
        weight, added = block.attn.c_attn.weight, block.attn.c_attn.bias
        for head in range(HEADS):
            q_of = slice(head * D_HEAD, (head + 1) * D_HEAD)
            k_of = slice(d + head * D_HEAD, d + (head + 1) * D_HEAD)
            queries, keys = [], []
            for number, part in enumerate(parts):
                normed = (part - part.mean(-1, keepdim=True)) * size * block.ln_1.weight
                last = number == len(parts) - 1
                if last:
                    normed = normed + block.ln_1.bias
                queries.append(normed @ weight[:, q_of] + (added[q_of] if last else 0))
                keys.append(normed @ weight[:, k_of] + (added[k_of] if last else 0))
            for dst, src in ((8, 3), (5, 5)):
                found = split_pairs(stream, HeadId(1, head), dst, src)
                for i, query in enumerate(queries):
                    for j, key in enumerate(keys):
                        scores = [
                            float(query[dst] @ key[s]) / math.sqrt(D_HEAD) for s in range(dst + 1)
                        ]
                        wanted = scores[src] - sum(scores) / len(scores)
                        assert found[i, j] == pytest.approx(wanted, abs=2e-5)


def _gpt2_attention(block: Any, normed: Any) -> tuple[Any, Any]:
    """(head, dst, src) pattern and (head, src, d_head) values of a GPT-2 block."""
    query, key, value = (
        one.unflatten(-1, (HEADS, D_HEAD)).transpose(0, 1)
        for one in block.attn.c_attn(normed).chunk(3, -1)
    )
    scores = query @ key.mT / math.sqrt(D_HEAD)
    hidden = torch.ones_like(scores[0]).triu(1).bool()
    return scores.masked_fill(hidden, -torch.inf).softmax(-1), value


def test_llama_by_hand(architecture: Make) -> None:
    """The same for RMSNorm, rotary positions and grouped KV heads."""
    _, session, plain = architecture("llama")
    ids = ids_of(session, 9)
    stream = read(session, ids)
    plain = copy.deepcopy(plain).double()
    n, kv = len(ids), plain.config.num_key_value_heads
    first, block = plain.model.layers
    with torch.no_grad():
        entered = plain.model.embed_tokens.weight[ids]
        base = plain.config.rope_parameters["rope_theta"]
        angles = torch.arange(n).double()[:, None] * base ** (
            -torch.arange(0, D_HEAD, 2).double() / D_HEAD
        )
        cos, sin = (torch.cat([f, f], -1) for f in (angles.cos(), angles.sin()))

        def rotated(x: Any) -> Any:
            half = D_HEAD // 2
            return x * cos + torch.cat([-x[..., half:], x[..., :half]], -1) * sin

        def of_heads(x: Any, many: int) -> Any:
            split_up = x.unflatten(-1, (many, D_HEAD)).transpose(0, 1)
            return split_up.repeat_interleave(HEADS // many, 0)

        def rms(x: Any, like: Any, norm: Any) -> Any:
            size = 1 / (like.square().mean(-1, keepdim=True) + norm.variance_epsilon).sqrt()
            return x * size * norm.weight

        attn = first.self_attn
        normed = rms(entered, entered, first.input_layernorm)
        query = rotated(of_heads(normed @ attn.q_proj.weight.T, HEADS))
        key = rotated(of_heads(normed @ attn.k_proj.weight.T, kv))
        value = of_heads(normed @ attn.v_proj.weight.T, kv)
        scores = query @ key.mT / math.sqrt(D_HEAD)
        hidden = torch.ones(n, n).triu(1).bool()
        mixed = scores.masked_fill(hidden, -torch.inf).softmax(-1) @ value
        w_o = attn.o_proj.weight.T
        heads = [mixed[h] @ w_o[h * D_HEAD : (h + 1) * D_HEAD] for h in range(HEADS)]
        middle = entered + sum(heads)
        mlp = first.mlp(rms(middle, middle, first.post_attention_layernorm))
        parts, whole = [entered, *heads, mlp, torch.zeros_like(mlp)], middle + mlp
        queries, keys = [], []
        for part in parts:
            normed = rms(part, whole, block.input_layernorm)
            queries.append(rotated(of_heads(normed @ block.self_attn.q_proj.weight.T, HEADS)))
            keys.append(rotated(of_heads(normed @ block.self_attn.k_proj.weight.T, kv)))
    for head in range(HEADS):
        found = split_pairs(stream, HeadId(1, head), 8, 3)
        for i, query in enumerate(queries):
            for j, key in enumerate(keys):
                scores = query[head, 8] @ key[head, :9].T / math.sqrt(D_HEAD)
                assert found[i, j] == pytest.approx(float(scores[3] - scores.mean()), abs=2e-5)


@pytest.mark.parametrize("name", IN_STREAM)
def test_a_norm_in_the_stream_is_refused(name: str, architecture: Make) -> None:
    _, session, _ = architecture(name)
    with pytest.raises(ModelError) as error:
        why(session, ids_of(session), HeadId(1, 0), 5, 3)
    check_sentence(error.value)
    assert session.name in str(error.value)


def test_what_there_is_not(architecture: Make) -> None:
    _, session, _ = architecture("mistral")
    stream = read(session, ids_of(session))
    for head, dst, src, kind in (
        (HeadId(2, 0), 5, 3, HeadError),
        (HeadId(1, HEADS), 5, 3, HeadError),
        (HeadId(1, 0), 5, 6, QueryError),
        (HeadId(1, 0), N, 6, QueryError),
        (HeadId(1, 0), -1, 0, QueryError),
        (HeadId(1, 0), 29, 2, QueryError),  # beyond the window
    ):
        with pytest.raises(kind) as error:
            split(stream, head, dst, src)
        check_sentence(error.value)
    short = read(session, ids_of(session), 0)
    with pytest.raises(QueryError):
        split(short, HeadId(1, 0), 5, 3)
    with pytest.raises(QueryError):
        direct_effect(short, HeadId(0, 0), 5)
    with pytest.raises(QueryError):
        direct_effect(stream, HeadId(0, 0), 5, token=session.n_vocab)


def test_half_precision_is_refused(architecture: Make) -> None:
    _, session, _ = architecture("llama")
    half = load_model(session.name, device="cpu", dtype="bfloat16")
    with pytest.raises(ModelError, match="float32"):
        why(half, ids_of(half), HeadId(1, 0), 5, 3)


class TestGraph:
    def test_edges_are_what_parts_and_looks_carry(self, architecture: Make) -> None:
        _, session, _ = architecture("qwen3")
        stream = read(session, ids_of(session))
        graph = follow(stream, HeadId(1, 2), 20, 15, steps=3, threshold=0.02)
        assert graph.root == "L1H2:20-15"
        assert len({node.id for node in graph.nodes}) == len(graph.nodes)
        nodes = {node.id: node for node in graph.nodes}
        assert {edge.target for edge in graph.edges} <= set(graph.splits)
        for edge in graph.edges:
            made, part = graph.splits[edge.target], nodes[edge.source].part
            node = nodes[edge.source]
            side = made.query if edge.side == "query" else made.key
            assert abs(edge.nats) >= 0.02 * abs(made.total)
            assert node.dst == (made.dst if edge.side == "query" else made.src)
            if part.head < 0:
                assert edge.nats == side[made.parts.index(part)]
                continue
            asked = pull(stream, made.head, made.dst, made.src)
            gradient = asked.query if edge.side == "query" else asked.key[made.src]
            assert edge.nats == looks(stream, part, node.dst, gradient)[node.src]
        for (target, side), share in graph.shown.items():
            carried_by = [
                edge.nats for edge in graph.edges if (edge.target, edge.side) == (target, side)
            ]
            assert share == pytest.approx(sum(carried_by) / graph.splits[target].total)

    def test_a_higher_threshold_prunes(self, architecture: Make) -> None:
        _, session, _ = architecture("llama")
        stream = read(session, ids_of(session))
        few = follow(stream, HeadId(1, 0), 20, 15, threshold=0.5)
        many = follow(stream, HeadId(1, 0), 20, 15, threshold=0.0)
        assert set(few.edges) < set(many.edges)


class TestBuiltIn:
    """The built-in model on random tokens that come twice."""

    BEST, CONTROL = HeadId(17, 5), HeadId(17, 0)

    def test_an_induction_head_looks_where_a_previous_token_head_wrote(self, session: Any) -> None:
        draw = np.random.default_rng(3).integers(1000, 20000, 25)
        ids = [int(i) for i in (*draw, *draw)]
        stream = read(session, ids, 18)
        votes = 0
        for dst in range(30, 45):
            found = split(stream, self.BEST, dst, dst - 24)
            assert abs(found.key.sum() - found.total) < 1e-4 * max(abs(found.total), 0.1)
            assert abs(found.query.sum() - found.total) < 1e-4 * max(abs(found.total), 0.1)
            part, _ = found.strongest("key", 1)[0]
            votes += part.name == "L16H0"
        assert votes >= 10
        previous = stream.layers[16].pattern[0].diagonal(-1).mean()
        others = [
            float(stream.layers[16].pattern[head].diagonal(-1).mean()) for head in range(1, 9)
        ]
        assert float(previous) > 0.5
        assert float(previous) > max(others)

    def test_without_that_look_there_is_less_induction(self, session: Any) -> None:
        """Off the look of L16H0, the mass on the right token falls; off another head's, hardly."""
        draw = np.random.default_rng(3).integers(1000, 20000, 25)
        ids = [[int(i) for i in (*draw, *draw)]]

        def induction(off: HeadId | None) -> float:
            kept: dict[int, Any] = {}

            def change(layer: int, pattern: Any) -> Any:
                if off is None or layer != off.layer:
                    return pattern
                changed = pattern.clone()
                changed[:, off.head].diagonal(-1, -2, -1).zero_()
                return changed

            session.run_whole(
                ids, lambda reading: kept.update({reading.layer: reading.pattern}), change=change,
                last=18,
            )  # fmt: skip
            return float(kept[17][0, self.BEST.head].diagonal(-24)[1:].mean())

        before = induction(None)
        assert before > 0.3
        assert induction(HeadId(16, 0)) < 0.6 * before
        assert induction(HeadId(16, 8)) > 0.9 * before
