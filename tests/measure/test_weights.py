"""What the weights say, by hand, against the full matrices, and against transformer_lens."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from attn.heads import HeadId
from attn.index.index import Index
from attn.measure import weight_metrics, weights
from attn.measure.metrics import of_kind
from attn.models.session import load_model
from tests.architectures import (
    ALL,
    D_HEAD,
    D_MODEL,
    HEADS,
    Architecture,
    blocks,
    plain_model,
    save,
)
from tests.conftest import Tiny, save_gpt2

EYE = torch.eye(6)


class Circuits(NamedTuple):
    """What a head does, (d_model, d_model) float64 each."""

    ov: np.ndarray
    qk: np.ndarray


@pytest.fixture
def _no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATTN_CACHE", str(tmp_path / "cache"))


def copying_of(w_v: torch.Tensor, w_o: torch.Tensor, through: torch.Tensor) -> np.ndarray:
    """(head,) the copying score of some heads' own weights."""
    values = weights.eigenvalues(w_v, w_o, through).numpy()[None]
    return weight_metrics.copying({"eigenvalues": values})[0]


class TestCopying:
    """W_E and W_U are the identity here, d_head is d_model: OV itself is the circuit."""

    @pytest.mark.parametrize(
        ("ov", "score"),
        [
            (EYE, 1.0),
            (-3 * EYE, -1.0),
            (torch.diag(torch.tensor([1.0, 1, 1, 1, -1, -1])), 1 / 3),
            (torch.diag(torch.tensor([3.0, 0, 0, 0, 0, -1])), 0.5),
            (torch.kron(torch.eye(3), torch.tensor([[0.0, -1], [1, 0]])), 0.0),
        ],
        ids=["copies", "forbids", "mostly copies", "by size", "turns: neither"],
    )
    def test_known(self, ov: torch.Tensor, score: float) -> None:
        found = copying_of(ov[None], EYE[None], EYE)
        assert float(found[0]) == pytest.approx(score, abs=1e-6)

    def test_weights_of_zero_have_none(self) -> None:
        assert np.isnan(copying_of(0 * EYE[None], EYE[None], EYE)).all()

    def test_through_a_vocabulary(self) -> None:
        """Three tokens, each embedded on its own axis and unembedded from the next one's."""
        w_e, w_u = torch.eye(3), torch.roll(torch.eye(3), 1, 0)
        same = copying_of(torch.eye(3)[None], torch.eye(3)[None], w_u @ w_e)
        # The eigenvalues of a cycle of three are the cube roots of 1, which add to 0.
        assert float(same[0]) == pytest.approx(0.0, abs=1e-6)
        back = copying_of(w_u.T[None], torch.eye(3)[None], w_u @ w_e)
        assert float(back[0]) == pytest.approx(1.0, abs=1e-6)


def layer_of(ov: torch.Tensor, qk: torch.Tensor) -> weights.Layer:
    """A layer of one head whose circuits are these, (d_model, d_model)."""
    one = torch.eye(len(ov))[None]
    return weights.Layer(w_q=qk[None], w_k=one, w_v=ov[None], w_o=one)


class TestComposition:
    def test_known(self) -> None:
        """The earlier head writes on axis 0 alone; who reads axis 0 alone reads all of it."""
        left = layer_of(torch.outer(EYE[3], EYE[0]), EYE).written
        first, second = torch.outer(EYE[0], EYE[1]), torch.outer(EYE[1], EYE[0])
        for qk, q, k in ((first, 1.0, 0.0), (second, 0.0, 1.0), (EYE, 6**-0.5, 6**-0.5)):
            right = layer_of(torch.outer(EYE[0], EYE[2]), qk)
            for way, score in (("q", q), ("k", k), ("v", 1.0)):
                found = weights.composition(left, right.read(way))
                assert float(found) == pytest.approx(score, abs=1e-6), way

    def test_sizes_do_not_count(self) -> None:
        draw = torch.Generator().manual_seed(0)
        a, b = (torch.randn(6, 6, generator=draw) for _ in range(2))
        one = weights.composition(layer_of(a, a).written, layer_of(b, b).read("q"))
        two = weights.composition(layer_of(7 * a, a).written, layer_of(b, b / 9).read("q"))
        torch.testing.assert_close(one, two)

    def test_random_matrices_have_one_over_the_root_of_d_model(self) -> None:
        """What the Methods page says to compare with."""
        draw = torch.Generator().manual_seed(0)
        d_model, d_head = 256, 32
        w = [torch.randn(8, d_model, d_head, generator=draw) for _ in range(8)]
        one, two = (weights.Layer(a, b, c, d.mT) for a, b, c, d in (w[:4], w[4:]))
        for way in weights.WAYS:
            found = weights.composition(one.written, two.read(way))
            assert float(found.mean()) == pytest.approx(d_model**-0.5, rel=0.05)


class TestRank:
    @pytest.mark.parametrize(
        ("values", "rank"),
        [([2.0, 2, 2, 2], 4.0), ([5.0, 0, 0, 0], 1.0), ([1.0, 1, 0, 0], 2.0), ([2.0, 1], 25 / 17)],
    )
    def test_known(self, values: list[float], rank: float) -> None:
        assert float(
            weight_metrics.ov_rank({"ov": np.array(values)[None, None]})[0, 0]
        ) == pytest.approx(rank)


CENTRED = np.eye(D_MODEL) - 1 / D_MODEL  # what LayerNorm does first


def whole(plain: Any, layer: int, head: int) -> tuple[np.ndarray, np.ndarray]:
    """OV and QK of a head, (d_model, d_model) float64, sliced from plain GPT-2 or Llama weights.

    The layer's norm is in them.
    """
    block = blocks(plain)[layer]
    at = slice(head * D_HEAD, (head + 1) * D_HEAD)
    if hasattr(block, "attn"):
        q, k, v = (
            block.attn.c_attn.weight.detach()
            .double()
            .numpy()
            .reshape(D_MODEL, 3, -1)
            .swapaxes(0, 1)
        )
        o = block.attn.c_proj.weight.detach().double().numpy()
        norm = CENTRED @ np.diag(block.ln_1.weight.detach().double().numpy())
    else:
        q, k, v, o = (
            getattr(block.self_attn, f"{name}_proj").weight.detach().double().numpy().T
            for name in "qkvo"
        )
        k, v = (
            x.reshape(D_MODEL, -1, D_HEAD).repeat(D_MODEL // x.shape[1], 1).reshape(D_MODEL, -1)
            for x in (k, v)
        )
        norm = np.diag(block.input_layernorm.weight.detach().double().numpy())
    q, k, v = norm @ q, norm @ k, norm @ v
    return v[:, at] @ o[at], q[:, at] @ k[:, at].T


def unembedding(plain: Any) -> np.ndarray:
    """(d_model, token) float64 with the last norm of plain GPT-2 or Llama in it."""
    w_u = plain.get_output_embeddings().weight.detach().double().numpy().T
    base = plain.base_model
    if hasattr(base, "ln_f"):
        return CENTRED @ np.diag(base.ln_f.weight.detach().double().numpy()) @ w_u
    return np.diag(base.norm.weight.detach().double().numpy()) @ w_u


@pytest.mark.usefixtures("_no_cache")
class TestAgainstTheFullMatrices:
    def test_every_number(self, tiny: Tiny) -> None:
        found = weights.measure_weights(tiny.session)
        w_e = tiny.plain.get_input_embeddings().weight.detach().double().numpy()
        w_u = unembedding(tiny.plain)
        circuits = {(x, h): whole(tiny.plain, x, h) for x in (0, 1) for h in range(4)}
        for (layer, head), (ov, qk) in circuits.items():
            at = layer, head
            values = np.linalg.eigvals(w_e @ ov @ w_u)
            assert found["random_composition"][at] == pytest.approx(D_MODEL**-0.5)
            score = values.real.sum() / np.abs(values).sum()
            assert found["copying"][at] == pytest.approx(score, abs=1e-4)
            for name, circuit in (("ov", ov), ("qk", qk)):
                singular = np.linalg.svd(circuit, compute_uv=False)
                np.testing.assert_allclose(
                    found[f"{name}_singular"][at], singular[:D_HEAD], rtol=1e-4, atol=1e-5
                )
                assert np.abs(singular[D_HEAD:]).max() < 1e-9
                assert found[f"{name}_norm"][at] == pytest.approx(np.linalg.norm(circuit), rel=1e-4)
                rank = (singular**2).sum() ** 2 / (singular**4).sum()
                assert found[f"{name}_rank"][at] == pytest.approx(rank, rel=1e-4)
            for way, reads in (("q", qk), ("k", qk.T), ("v", ov)):
                if layer == 0:
                    assert (found[f"{way}_heads"][at] == -1).all()
                    assert np.isnan(found[f"{way}_composition"][at])
                    continue
                wanted = {}
                for earlier in range(4):
                    first = circuits[0, earlier][0]
                    sizes = np.linalg.norm(first) * np.linalg.norm(reads)
                    wanted[earlier] = np.linalg.norm(first @ reads) / sizes
                best = sorted(wanted, key=lambda one: -wanted[one])
                assert found[f"{way}_heads"][at].tolist() == [*best, -1]
                scores = [wanted[one] for one in best]
                np.testing.assert_allclose(found[f"{way}_scores"][at][:4], scores, rtol=1e-4)
                assert found[f"{way}_composition"][at] == pytest.approx(scores[0], rel=1e-4)


@pytest.mark.usefixtures("_no_cache")
class TestWithoutANumber:
    def test_weights_of_zero(self, uniform_gpt2: Path) -> None:
        """Queries and keys of 0 have no directions and compose with nothing; values do."""
        found = weights.measure_weights(load_model(str(uniform_gpt2), device="cpu"))
        assert (found["qk_norm"] == 0).all()
        for name in ("qk_rank", "q_composition", "k_composition", "q_scores", "k_scores"):
            assert np.isnan(found[name]).all(), name
        assert (found["q_heads"] == -1).all()
        assert (found["k_heads"] == -1).all()
        assert (found["v_composition"][1] > 0).all()
        assert np.isfinite(found["copying"]).all()

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_weights_that_are_not_finite(self, tmp_path: Path, value: float) -> None:
        """One head's values: neither an error nor a number, for it and for it alone."""
        session = load_model(str(save_gpt2(tmp_path / "model")), device="cpu")
        with torch.no_grad():  # the Bridge shares the weights
            session.hf.transformer.h[0].attn.c_attn.weight[3, 2 * D_MODEL + D_HEAD] = value
        found = weights.measure_weights(session)
        spoilt = np.zeros((2, 4), bool)
        spoilt[0, 1] = True
        np.testing.assert_array_equal(np.isnan(found["copying"]), spoilt)
        for name in ("ov_norm", "ov_rank"):
            np.testing.assert_array_equal(np.isnan(found[name]), spoilt)
        assert np.isfinite(found["qk_norm"]).all()
        assert np.isfinite(found["v_composition"][1]).all()
        assert 1 not in found["v_heads"][1]


def folded(kind: Architecture, session: Any, plain: Any, layer: int, head: int) -> Circuits:
    """OV and QK of a head as TransformerLens has the weights, with the norms that a table names."""
    attn, block = session.bridge.blocks[layer].attn, blocks(plain)[layer]
    q, k, v, o = (getattr(attn, name).detach().double() for name in ("W_Q", "W_K", "W_V", "W_O"))
    q, k, v, o = (one[head * len(one) // HEADS] for one in (q, k, v, o))
    if kind.norms is not None:
        norms = kind.norms
        read = torch.diag(torch.ones(D_MODEL).double() * norms.gain(block, norms.read))
        if norms.centred:
            read = torch.tensor(CENTRED) @ read
        q, k, v = read @ q, read @ k, read @ v
        q, k = q * norms.gain(block, norms.query), k * norms.gain(block, norms.key)
        o = o * norms.gain(block, norms.written)
    return Circuits((v @ o).numpy(), (q @ k.T).numpy())


def through(kind: Architecture, session: Any, plain: Any) -> np.ndarray:
    """(d_model, d_model) ``W_U W_E`` of TransformerLens, with the norms that a table names."""
    assert kind.norms is not None
    norms, base = kind.norms, plain.base_model
    w_e, w_u = (getattr(session.bridge, name).detach().double() for name in ("W_E", "W_U"))
    final = torch.diag(torch.ones(D_MODEL).double() * norms.gain(base, norms.final))
    if norms.centred:
        final = torch.tensor(CENTRED) @ final
    if norms.embedding:
        w_e = w_e @ torch.tensor(CENTRED) * norms.gain(base, norms.embedding)
    return (final @ w_u @ w_e).numpy()


@pytest.mark.usefixtures("_no_cache")
@pytest.mark.parametrize("name", ALL)
class TestAgainstTransformerLens:
    def test_every_architecture(self, name: str, tmp_path: Path) -> None:
        kind = ALL[name]
        folder = save(kind, tmp_path / "model")
        session, plain = load_model(str(folder), device="cpu"), plain_model(kind, folder)
        found = weights.measure_weights(session)
        there = [layer for layer in (0, 1) if layer not in kind.without]
        circuits = {
            (layer, head): folded(kind, session, plain, layer, head)
            for layer in there
            for head in range(HEADS)
        }
        for at, (ov, qk) in circuits.items():
            for circuit, matrix in (("ov", ov), ("qk", qk)):
                wanted = np.linalg.svd(matrix, compute_uv=False)[:D_HEAD]
                mine = found[f"{circuit}_singular"][at]
                np.testing.assert_allclose(mine, wanted, rtol=1e-3, atol=1e-5)
            if kind.norms is None:
                assert np.isnan(found["copying"][at])
            else:
                path = through(kind, session, plain)
                values = np.linalg.eigvals(path @ ov)
                score = values.real.sum() / np.abs(values).sum()
                assert found["copying"][at] == pytest.approx(score, abs=1e-4)
            for way, reads in (("q", qk), ("k", qk.T), ("v", ov)):
                scores = [
                    np.linalg.norm(before.ov @ reads)
                    / (np.linalg.norm(before.ov) * np.linalg.norm(reads))
                    for (layer, _), before in circuits.items()
                    if layer < at[0]
                ]
                mine = found[f"{way}_composition"][at]
                assert mine == pytest.approx(max(scores, default=np.nan), rel=1e-3, nan_ok=True)

    def test_ov_is_what_the_plain_layers_do(self, name: str, tmp_path: Path) -> None:
        """What goes in at one end and comes out at the other, without the Bridge."""
        kind = ALL[name]
        folder = save(kind, tmp_path / "model")
        session, plain = load_model(str(folder), device="cpu"), plain_model(kind, folder)
        for layer in (layer for layer in (0, 1) if layer not in kind.without):
            block = blocks(plain)[layer]
            values, output = block.get_submodule(kind.values), block.get_submodule(kind.output)
            with torch.no_grad():
                moved = values(torch.eye(D_MODEL)) - values(torch.zeros(1, D_MODEL))
                split = kind.heads(moved[None] if moved.ndim == 2 else moved)
                split = split.reshape(D_MODEL, -1, D_HEAD)
                split = split.repeat_interleave(HEADS // split.shape[1], 1)
                mine = weights.layer_weights(session, layer)
                for head in range(HEADS):
                    alone = torch.zeros(D_MODEL, HEADS, D_HEAD)
                    alone[:, head] = split[:, head]
                    wrote = output(alone.flatten(1)) - output(torch.zeros(1, HEADS * D_HEAD))
                    ov = mine.w_v[head] @ mine.w_o[head]
                    torch.testing.assert_close(ov, wrote, rtol=1e-4, atol=1e-5)


class TestCache:
    @pytest.fixture
    def counted(self, monkeypatch: pytest.MonkeyPatch) -> list[int]:
        """Grows by one whenever weights are measured."""
        calls, real = list[int](), weights._measure

        def measure(session: Any) -> Any:
            calls.append(1)
            return real(session)

        monkeypatch.setattr(weights, "_measure", measure)
        return calls

    @pytest.mark.usefixtures("_no_cache")
    def test_measured_once_a_model(
        self, gpt2: Tiny, llama: Tiny, tmp_path: Path, counted: list[int]
    ) -> None:
        one, again = (weights.measure_weights(gpt2.session) for _ in range(2))
        assert len(counted) == 1
        assert one.keys() == again.keys()
        for name, values in one.items():
            np.testing.assert_array_equal(values, again[name])
            assert values.dtype == again[name].dtype
        weights.measure_weights(llama.session)
        assert len(counted) == 2
        (first, _) = sorted((tmp_path / "cache" / "weights").iterdir())
        assert not first.name.startswith(".")

    @pytest.mark.usefixtures("_no_cache")
    def test_a_damaged_file_is_made_anew(
        self, gpt2: Tiny, tmp_path: Path, counted: list[int]
    ) -> None:
        whole = weights.measure_weights(gpt2.session)
        (file,) = (tmp_path / "cache" / "weights").iterdir()
        for damage in (b"", b"PK\x03\x04", file.read_bytes()[:-300]):
            file.write_bytes(damage)
            np.testing.assert_array_equal(
                weights.measure_weights(gpt2.session)["copying"], whole["copying"]
            )
        assert len(counted) == 4

    def test_a_folder_that_cannot_be_written_is_no_failure(
        self, gpt2: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, counted: list[int]
    ) -> None:
        (tmp_path / "file").write_text("no folder")
        monkeypatch.setenv("ATTN_CACHE", str(tmp_path / "file"))
        assert weights.measure_weights(gpt2.session)["copying"].shape == (2, 4)
        assert len(counted) == 1


class TestIndex:
    def test_keeps_them(self, tiny: Tiny, make: Any) -> None:
        index: Index = make(tiny, "small").index
        found = weights.measure_weights(tiny.session)
        for name in of_kind("weights"):
            np.testing.assert_array_equal(index.metric(name), found[name])
        head = HeadId(1, 2)
        np.testing.assert_array_equal(index.singular_values(head)["qk"], found["qk_singular"][1, 2])
        told = index.composes_with(head)
        assert list(told) == list(weights.WAYS)
        for way, partners in told.items():
            assert len(partners) == 4
            numbers = [one.layer * 4 + one.head for one, _ in partners]
            assert numbers == found[f"{way}_heads"][1, 2][:4].tolist()
            assert partners[0][1] == pytest.approx(index.metric(f"{way}_composition")[1, 2])
        assert index.composes_with(HeadId(0, 0)) == {"q": [], "k": [], "v": []}

    def test_a_merge_keeps_them(self, tiny: Tiny, text_file: Path, tmp_path: Path) -> None:
        from attn.corpus.corpus import load_corpus
        from attn.scan.merge import merge_indexes
        from attn.scan.plan import Plan
        from attn.scan.run import scan

        plan = Plan(ctx=32, shard=2)
        parts = [
            scan(
                tiny.session, load_corpus(str(text_file), docs=docs), plan, skip=skip, out=tmp_path
            )
            for skip, docs in ((0, 4), (4, None))
        ]
        merged = Index.open(merge_indexes(parts, tmp_path / "whole"))
        for name, values in Index.open(parts[0]).of_model().items():
            np.testing.assert_array_equal(merged.of_model()[name], values)
