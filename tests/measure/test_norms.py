"""Norms as they are found: against what they compute, and against what stands beside them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from attn.measure.norms import UnknownNorm, find_norms, measure_norm
from attn.models.session import load_model
from tests.architectures import ALL, save


class Shifted(nn.Module):
    """An RMS norm that keeps its gain less one, as Gemma's does."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(d))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * (x.square().mean(-1, keepdim=True) + 1e-6).rsqrt() * (1 + self.weight)


@pytest.mark.parametrize("d", [2, 5, 32])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_gain_is_what_the_norm_multiplies_by(d: int, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    layer, rms, shifted = nn.LayerNorm(d), nn.RMSNorm(d), Shifted(d)
    for module in (layer, rms):
        nn.init.uniform_(module.weight, -2, 2)
    nn.init.normal_(layer.bias)
    for module, gain, centred in (
        (layer, layer.weight, True), (rms, rms.weight, False), (shifted, 1 + shifted.weight, False),
    ):  # fmt: skip
        found = measure_norm(module.to(dtype), torch.zeros(1, 3, d, dtype=dtype))
        assert found is not None
        assert found.centred == centred
        wanted = gain.detach().float().expand(1, 3, d)
        torch.testing.assert_close(found.gain, wanted, rtol=2e-2, atol=1e-2)


@pytest.mark.parametrize(
    "module",
    [nn.Identity(), nn.Linear(8, 8), nn.Dropout(), nn.GELU(), nn.Softmax(-1), nn.Linear(8, 4),
     nn.Tanh(), nn.Bilinear(8, 8, 8)],
)  # fmt: skip
def test_what_is_no_norm(module: nn.Module) -> None:
    assert measure_norm(module.eval(), torch.zeros(1, 3, 8)) is None


@pytest.mark.parametrize("name", ALL)
def test_every_architecture(name: str, tmp_path: Path) -> None:
    """Which norms there are is in a table; that the folded weights are right, in test_weights."""
    kind = ALL[name]
    session = load_model(str(save(kind, tmp_path / "model")), device="cpu")
    found = find_norms(session)
    assert set(found.layers) == {0, 1} - set(kind.without)
    for norms in found.layers.values():
        assert (norms.read is not None) == (kind.norms is not None)
        for part in ("query", "key", "written"):
            assert (getattr(norms, part) is not None) == bool(getattr(kind.norms, part, "")), part
    assert found.unembeds == (kind.norms is not None)
    assert (found.final is not None) == (kind.norms is not None)


def test_an_unknown_norm_is_refused(tmp_path: Path) -> None:
    """A norm between the values and the output: numbers of the weights would leave it out."""
    session = load_model(str(save(ALL["llama"], tmp_path / "model")), device="cpu")
    attention = session.hf.model.layers[0].self_attn
    attention.o_proj = nn.Sequential(nn.RMSNorm(32), attention.o_proj)
    nn.init.uniform_(attention.o_proj[0].weight, 0.2, 2)
    with pytest.raises(UnknownNorm):
        find_norms(session)


def test_weights_of_an_unknown_norm_are_not_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from attn.measure import weights

    monkeypatch.setenv("ATTN_CACHE", str(tmp_path / "cache"))
    session = load_model(str(save(ALL["llama"], tmp_path / "model")), device="cpu")
    session.hf.model.layers[1].self_attn.register_forward_pre_hook(
        lambda _, args, more: (args, {**more, "hidden_states": 2 * more["hidden_states"]}),
        with_kwargs=True,
    )
    assert weights.measure_weights(session) == {}
