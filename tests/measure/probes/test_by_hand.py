"""Every probe against loops over plain transformers, a text and a head at a time, in float64."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from attn.measure.metrics import NotMeasured
from attn.measure.probes import copy_suppression, names, retrieval, successors
from attn.measure.probes.measure import measure_probes, run_probes
from attn.measure.probes.model import ProbedModel
from attn.models.session import load_model
from tests.architectures import ALL, D_HEAD, HEADS, blocks, plain_model, save
from tests.measure.probes.planting import save_words

KINDS = ("llama", "gpt2", "gemma2", "qwen3", "opt")
LENGTHS = {"llama": "max_position_embeddings", "gpt2": "n_positions"}


class Plain:
    """A random model of plain transformers, and what its weights say by their names."""

    def __init__(self, name: str, folder: Path) -> None:
        kind = ALL[name]
        assert kind.norms is not None
        length = {LENGTHS.get(name, "max_position_embeddings"): 160}
        save(kind, folder, vocab_size=512, **length)
        size = save_words(folder)
        assert size <= 512
        self.name, self.kind, self.norms = name, kind, kind.norms
        self.hf = plain_model(kind, folder).double()
        self.session = load_model(str(folder), device="cpu")
        self.model = ProbedModel(self.session)
        self.blocks, self.base = blocks(self.hf), self.hf.base_model
        self.final = self.base.get_submodule(self.norms.final.removeprefix("model."))
        self.gain = self.norms.gain(self.base, self.norms.final.removeprefix("model."))
        self.w_u = self.hf.get_output_embeddings().weight.detach()  # (token, d_model)

    def read(self, ids: list[int]) -> dict[str, Any]:
        """Of one text: ``logits``; ``patterns`` (layer, head, dst, src); for each layer the
        ``stream`` before it, the ``values`` (head, src, d_head) and what all heads write, ``all``;
        ``last`` what the final norm reads."""
        found: dict[str, Any] = {"stream": [], "values": [], "all": []}
        handles = [self.final.register_forward_pre_hook(lambda m, a: found.update(last=a[0][0]))]
        for block in self.blocks:

            def keep(m: Any, a: Any, k: Any) -> None:
                found["stream"].append(k.get("hidden_states", a[0] if a else None)[0])

            def value(m: Any, a: Any, out: Any) -> None:
                some = self.kind.heads(out[0])
                found["values"].append(some.repeat_interleave(HEADS // some.shape[1], 1).mT.mT)

            def mixed(m: Any, a: Any) -> None:
                found["all"].append(a[0][0])

            handles += [
                block.register_forward_pre_hook(keep, with_kwargs=True),
                block.get_submodule(self.kind.values).register_forward_hook(value),
                block.get_submodule(self.kind.output).register_forward_pre_hook(mixed),
            ]
        with torch.no_grad():
            out = self.hf(torch.tensor([ids]), output_attentions=True, use_cache=False)
        for handle in handles:
            handle.remove()
        return found | {"logits": out.logits[0], "patterns": torch.stack(out.attentions)[:, 0]}

    def w_o(self, layer: int, head: int) -> Any:
        """(d_head, d_model): how a head writes, but for a norm behind."""
        output = self.blocks[layer].get_submodule(self.kind.output)
        weight = output.weight if type(output).__name__ == "Conv1D" else output.weight.T
        return weight.detach()[head * D_HEAD : (head + 1) * D_HEAD]

    def direct(self, read: Any, layer: int, dst: int, written: Any, direction: Any) -> float:
        """A write's effect on the logit of a direction of W_U, all scales held."""
        if self.norms.written:
            total = sum(
                read["all"][layer][dst, h * D_HEAD : (h + 1) * D_HEAD] @ self.w_o(layer, h)
                for h in range(HEADS)
            )
            gain = self.norms.gain(self.blocks[layer], self.norms.written)
            written = written * gain / total.square().mean().sqrt()
        last = read["last"][dst]
        if self.norms.centred:
            written, last = written - written.mean(), last - last.mean()
        return float((written * self.gain) @ direction / last.square().mean().sqrt())


@pytest.fixture(scope="module", params=KINDS)
def plain(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Plain:
    return Plain(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture(autouse=True)
def _no_grad() -> Any:
    with torch.no_grad():
        yield


def test_names(plain: Plain) -> None:
    mover, effect, s2 = np.zeros((3, 2, HEADS))
    some = names.sentences(plain.model)
    texts = set()
    for one in some:
        words = [plain.session.tokenizer.decode([i]).strip() for i in one.ids]
        names_said = [i for i, word in enumerate(words) if word in names.NAMES]
        assert len(names_said) == 3
        (right,) = (i for i in names_said if words.count(words[i]) == 1)
        second = names_said[-1]
        texts.add((tuple(words), right))
        read, last = plain.read(one.ids), len(one.ids) - 1
        direction = plain.w_u[one.ids[right]] - plain.w_u[one.ids[second]]
        for layer in range(2):
            for head in range(HEADS):
                z = read["all"][layer][last, head * D_HEAD : (head + 1) * D_HEAD]
                lifts = plain.direct(read, layer, last, z @ plain.w_o(layer, head), direction)
                row = read["patterns"][layer, head, last]
                effect[layer, head] += lifts / len(some)
                s2[layer, head] += float(row[second]) / len(some)
                mover[layer, head] += float(row[right]) * (lifts > 0) / len(some)
    assert len(texts) == 12
    assert {right for _, right in texts if right} >= {2, 4}  # first and second, equally often
    np.testing.assert_allclose(names.name_effect(plain.model), effect, rtol=2e-3, atol=2e-4)
    np.testing.assert_allclose(names.s_inhibition(plain.model), s2, atol=1e-4)
    np.testing.assert_allclose(names.name_mover(plain.model), mover, atol=1e-4)


def test_copy_suppression(plain: Plain, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copy_suppression, "TOP", 200)  # a random model seldom foretells more
    ids, rows, sources = copy_suppression.rows_and_sources(plain.model)
    wanted, right = np.zeros((2, HEADS)), 0
    for (i, dst), src in zip(rows, sources, strict=True):
        read, token = plain.read(ids[i].tolist()), ids[i, dst + 1]
        assert ids[i, src] == token
        direction = plain.w_u[token] - plain.w_u.mean(0)
        right += int((read["logits"][dst] > read["logits"][dst, token]).sum()) < 200
        for layer in range(2):
            lens = plain.hf.get_output_embeddings()(plain.final(read["stream"][layer][dst]))
            if int((lens > lens[token]).sum()) >= 200:
                continue
            for head in range(HEADS):
                a = read["patterns"][layer, head, dst, src]
                moved = a * read["values"][layer][src, head] @ plain.w_o(layer, head)
                if plain.direct(read, layer, dst, moved, direction) < 0:
                    wanted[layer, head] += float(a) / len(rows)
    if right < len(rows) / 2:
        with pytest.raises(NotMeasured, match=f"in {right} of {len(rows)} places"):
            copy_suppression.copy_suppression(plain.model)
        monkeypatch.setattr(copy_suppression, "SHARE", 0.0)
    assert wanted.any()
    found = copy_suppression.copy_suppression(plain.model)
    np.testing.assert_allclose(found, wanted, atol=1e-4)


@pytest.mark.parametrize("plain", ["llama", "gpt2", "gemma2"], indirect=True)
def test_successor(plain: Plain) -> None:
    block = plain.blocks[0]
    table = plain.hf.get_input_embeddings().weight.detach()
    scale = 32**0.5 if plain.name == "gemma2" else 1.0  # the square root of d_model

    def first_mlp(token: int) -> Any:
        x = (scale * table[token])[None, None]
        if plain.name == "gpt2":
            return block.mlp(block.ln_2(x))[0, 0]
        if plain.name == "gemma2":
            return block.post_feedforward_layernorm(block.mlp(block.pre_feedforward_layernorm(x)))[
                0, 0
            ]
        return block.mlp(block.post_attention_layernorm(x))[0, 0]

    def moved(layer: int, head: int, x: Any) -> Any:
        if plain.norms.centred:
            x = x - x.mean()
        x = x * plain.norms.gain(plain.blocks[layer], plain.norms.read)
        values = plain.blocks[layer].get_submodule(plain.kind.values)
        weight = values.weight if type(values).__name__ == "Conv1D" else values.weight.T
        of_heads = plain.kind.heads((x @ weight.detach())[None])[0]  # no bias
        x = of_heads[head // (HEADS // len(of_heads))] @ plain.w_o(layer, head)
        if plain.norms.written:
            x = x * plain.norms.gain(plain.blocks[layer], plain.norms.written)
        return (x - x.mean() if plain.norms.centred else x) * plain.gain

    right, n = np.zeros((2, HEADS)), 0
    words = {plain.session.tokenizer.decode([i]): i for i in range(len(plain.session.tokenizer))}
    for some, cycle in successors.LISTS.values():
        known = {word: words.get(f" {word}") for word in some}
        there = [token for token in known.values() if token is not None]
        for word, after in zip(some, [*some[1:], some[0] if cycle else ""], strict=True):
            token, goal = known[word], known.get(after)
            if token is None or goal is None:
                continue
            n += 1
            e = first_mlp(token)
            for layer in range(2):
                for head in range(HEADS):
                    x = moved(layer, head, e)
                    best = max(there, key=lambda other: float(plain.w_u[other] @ x))
                    right[layer, head] += best == goal
    assert n > 80
    np.testing.assert_allclose(successors.successor(plain.model), right / n, atol=1.01 / n)


def test_retrieval(plain: Plain, monkeypatch: pytest.MonkeyPatch) -> None:
    """Random models repeat nothing, so texts count here whatever the model says."""
    monkeypatch.setattr(retrieval, "RECALL", -1.0)
    some = retrieval.runs(plain.model)
    wanted = np.zeros((2, HEADS))
    for one, (needle, question, _) in zip(some, retrieval.NEEDLES, strict=True):
        ids, said = one.ids, [plain.session.tokenizer.decode([i]).strip() for i in one.ids]
        asked = "".join(plain.session.tokenizer.decode(ids))
        assert asked.count(f" {needle}") == 1
        assert f" {question} Answer: {needle}"[:-1].endswith(asked[-20:])
        read = plain.read(ids)
        length = one.length
        for k in range(length):
            row, token = len(ids) - length + k, ids[one.start + k]
            for layer in range(2):
                for head in range(HEADS):
                    src = int(read["patterns"][layer, head, row].argmax())
                    inside = one.start <= src < one.start + length
                    wanted[layer, head] += (inside and ids[src] == token) / length / len(some)
        assert said[one.start] == needle.split()[0]
    assert wanted.any()
    np.testing.assert_allclose(retrieval.retrieval(plain.model), wanted, atol=0.03)


@pytest.mark.parametrize("name", [n for n in ALL if n not in KINDS])
def test_every_architecture_has_a_number_or_a_reason(name: str, tmp_path: Path) -> None:
    kind = ALL[name]
    more = {} if name == "llama4" else {"vocab_size": 512}
    save(kind, tmp_path, **more)
    session = load_model(str(tmp_path), device="cpu")
    found, reasons = run_probes(session)
    assert {*found, *reasons} == {
        "name_mover", "name_effect", "s_inhibition", "successor", "copy_suppression", "retrieval",
    }  # fmt: skip
    for values in found.values():
        there = np.isfinite(values).all(1)
        assert there.tolist() == [layer not in kind.without for layer in range(2)]
    if kind.bidirectional:
        assert not found
        assert set(reasons.values()) == {"this model reads both ways and foretells no next token"}


def test_kept_with_the_model(plain: Plain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATTN_CACHE", str(tmp_path))
    found, reasons = measure_probes(plain.session)
    (file,) = (tmp_path / "probes").iterdir()
    monkeypatch.setattr(
        "attn.measure.probes.measure.run_probes", lambda session: pytest.fail("again")
    )
    again, why = measure_probes(plain.session)
    assert reasons == why
    assert set(found) == set(again)
    for name in found:
        np.testing.assert_array_equal(found[name], again[name])
    file.write_bytes(b"no archive")
    monkeypatch.undo()
    monkeypatch.setenv("ATTN_CACHE", str(tmp_path))
    assert set(measure_probes(plain.session)[0]) == set(found)
