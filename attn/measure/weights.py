"""A model's weights → numbers of its heads: copying, composition, and the sizes of OV and QK.

As in Elhage et al. 2021, "A Mathematical Framework for Transformer Circuits". A head's OV circuit
is ``W_V W_O`` and its QK circuit ``W_Q W_Kᵀ``, both (d_model, d_model). The gain of every norm, and
the mean that a LayerNorm takes off, are folded into the weights beside it (see
:mod:`attn.measure.norms`); biases and rotations by position are no part of the circuits. Neither is
ever made whole: ``W_V = Q R`` with an orthogonal Q, so ``R W_O``, (d_head, d_model), has the
singular values and the norms of the product, and a vocabulary × vocabulary matrix shares its
eigenvalues with one of (d_head, d_head).

What a model gives is kept in the cache folder under the hash of its weights and of this file.
"""

from __future__ import annotations

import hashlib
import inspect
import os
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from attn.config import settings
from attn.measure import circuits, module_calls
from attn.measure import norms as norms_of_models
from attn.measure.circuits import Layer, layer_weights, of_finite
from attn.measure.metrics import of_kind
from attn.measure.norms import Norms, find_norms

__all__ = ["Layer", "composition", "eigenvalues", "layer_weights", "measure_weights"]

PARTNERS = 5
"""Earlier heads that are kept for each way to compose."""

WAYS = ("q", "k", "v")
"""What of a head reads an earlier head's output: its queries, keys or values."""


def eigenvalues(w_v: Tensor, w_o: Tensor, through: Tensor) -> Tensor:
    """(head, d_head) complex eigenvalues of ``W_E W_V W_O W_U``, those that need not be 0.

    ``w_v`` (head, d_model, d_head), ``w_o`` (head, d_head, d_model), ``through`` (d_model, d_model)
    is ``W_U W_E``. All eigenvalues but d_head of that (vocabulary, vocabulary) matrix are 0, and
    the others are those of ``W_O W_U W_E W_V``. NaN for a head whose weights are not finite.
    """
    return of_finite(torch.linalg.eigvals, (w_o @ through @ w_v).double())


def composition(left: Tensor, right: Tensor) -> Tensor:
    """(earlier head, head) ``‖A B‖ / (‖A‖ ‖B‖)`` by Frobenius norms, 0 to 1.

    ``left`` (earlier head, d_head, d_model) as :attr:`Layer.written`; ``right`` (head, d_model,
    d_head) as :meth:`Layer.read`.
    """
    rows, columns = left.flatten(0, 1), right.permute(1, 0, 2).flatten(1)
    blocks = (rows @ columns).reshape(len(left), left.shape[1], len(right), right.shape[2])
    sizes = left.flatten(1).norm(dim=1)[:, None] * right.flatten(1).norm(dim=1)
    scores: Tensor = blocks.square().sum((1, 3)).sqrt() / sizes
    return scores


def measure_weights(session: Any) -> dict[str, np.ndarray]:
    """What the weights say of every head of a model: name → (layer, head, ...).

    The metrics of :mod:`attn.measure.weight_metrics`, float64; ``ov_singular`` and
    ``qk_singular`` (layer, head, d_head) float32; and for each of :data:`WAYS` ``q_heads`` (layer,
    head, partner) int32, the earlier heads composed with most, as ``layer * n_heads + head``, -1
    for none, and ``q_scores`` float32. NaN in layers without attention, and where weights are 0 or
    not finite and a number has no meaning, and for ``copying`` where the unembedding does not read
    the residual stream; nothing where a model's weights cannot be told by head, or a norm beside
    them is of no known kind. Read from the cache folder where they are there already.
    """
    name = f"{session.weights[:32]}-{shape_of(session)[:16]}-{_code()[:16]}.npz"
    place = settings().cache / "weights" / name
    try:
        with place.open("rb") as file, np.load(file, allow_pickle=False) as kept:
            return {name: kept[name] for name in kept.files}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile):  # none, or damaged
        pass
    found = _measure(session)
    keep(found, place)
    return found


def _code() -> str:
    """A hash of the code that computes the numbers: another one computes them anew."""
    rules = "".join(inspect.getsource(rule) for rule in of_kind("weights").values())
    files = b"".join(
        Path(str(one)).read_bytes()
        for one in (__file__, circuits.__file__, norms_of_models.__file__, module_calls.__file__)
    )
    return hashlib.sha256(files + rules.encode()).hexdigest()


def shape_of(session: Any) -> str:
    """A hash of what decides how weights are read and the hash of the weights leaves out: the
    configuration, with the number of heads, and an unembedding of its own."""
    digest = hashlib.sha256(session.hf.config.to_json_string().encode())
    weight = getattr(session.hf.get_output_embeddings(), "weight", None)
    if weight is not None and weight is not session.hf.get_input_embeddings().weight:
        raw = weight.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        digest.update(memoryview(raw.numpy()))
    return digest.hexdigest()


def keep(found: dict[str, np.ndarray], place: Path) -> None:
    """Write a file of the cache, all at once; a folder that cannot be written is left alone."""
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=".weights-", dir=place.parent)
    except OSError:
        return
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez(file, **found)  # type: ignore[arg-type]
        os.replace(temporary, place)
    except OSError:
        Path(temporary).unlink(missing_ok=True)


@torch.no_grad()
def _measure(session: Any) -> dict[str, np.ndarray]:
    there = [i for i in range(session.n_layers) if i not in session.without_attention]
    try:
        norms = find_norms(session)
        layers = {i: layer_weights(session, i).folded(norms.layers[i]) for i in there}
    except (AttributeError, ValueError, RuntimeError):  # a Bridge that cannot say, an unknown norm
        return {}
    n, shape = session.n_heads, (session.n_layers, session.n_heads)
    widest = max(max(layer.w_q.shape[2], layer.w_o.shape[1]) for layer in layers.values())
    found: dict[str, np.ndarray] = {}
    given = {"eigenvalues": np.full((*shape, widest), np.nan, np.complex128)}
    through = _through(session, norms)
    for circuit in ("ov", "qk"):
        values = np.full((*shape, widest), np.nan, np.float32)
        for i, layer in layers.items():
            singular = layer.ov_singular if circuit == "ov" else layer.qk_singular
            values[i, :, : singular.shape[1]] = singular.cpu().numpy()
        found[f"{circuit}_singular"] = given[circuit] = values
    for i, layer in layers.items():
        if through is not None:
            values = eigenvalues(layer.w_v, layer.w_o, through).cpu().numpy()
            given["eigenvalues"][i, :, : values.shape[1]] = values
    for way in WAYS:
        heads = np.full((*shape, PARTNERS), -1, np.int32)
        scores = np.full((*shape, PARTNERS), np.nan, np.float32)
        for i, layer in layers.items():
            read = layer.read(way)
            numbers = [j * n + head for j in there if j < i for head in range(n)]
            if not numbers:
                continue
            table = composition(torch.cat([layers[j].written for j in there if j < i]), read)
            order = table.double().nan_to_num(-1).sort(dim=0, descending=True, stable=True)
            best, rows = (some[:PARTNERS].T.cpu().numpy() for some in order)
            kept, none = best.shape[1], best < 0  # none: one of the two has no size
            heads[i, :, :kept] = np.where(none, -1, np.array(numbers)[rows])
            scores[i, :, :kept] = np.where(none, np.nan, best)
        found[f"{way}_heads"], found[f"{way}_scores"], given[way] = heads, scores, scores
    found["random_composition"] = np.full(shape, np.nan)
    for i, layer in layers.items():
        found["random_composition"][i] = layer.w_q.shape[1] ** -0.5
    return {name: rule(given) for name, rule in of_kind("weights").items()} | found


def _through(session: Any, norms: Norms) -> Tensor | None:
    """(d_model, d_model) ``W_U W_E`` with the norms folded in; None without such a pair."""
    try:
        w_e = session.bridge.W_E.detach().float()  # (token, d_model)
        w_u = session.bridge.W_U.detach().float()  # (d_model, token)
    except (AttributeError, RuntimeError):
        return None
    if not norms.unembeds or w_e.ndim != 2 or w_u.ndim != 2 or w_u.shape[::-1] != w_e.shape:
        return None
    if norms.embedding is not None:
        w_e = norms.embedding.after(w_e)
    if norms.final is not None:
        w_u = norms.final.before(w_u)
    through: Tensor = w_u @ w_e
    return through
