"""How near is near: what tests/oracle.py allows between two readings in float32."""

from __future__ import annotations

import copy

import numpy as np
import torch

from tests.conftest import DOCUMENTS, Tiny
from tests.oracle import NEAR


def test_two_readings_differ_by_less_than_each_from_float64(tiny: Tiny) -> None:
    exact = copy.deepcopy(tiny.plain).double()
    between = own = 0.0
    for text in DOCUMENTS:
        ids = torch.tensor([tiny.session.encode(text, limit=64).ids.tolist()])
        if ids.shape[1] < 2:
            continue
        with torch.no_grad():
            eager, double = (
                model(ids, output_attentions=True).attentions for model in (tiny.plain, exact)
            )
        for layer, pattern in tiny.session.patterns(ids):
            mine, plain, sure = (
                x[0].double().numpy() for x in (pattern, eager[layer], double[layer])
            )
            some = sure > 1e-3  # as much as a pair above average has
            between = max(between, float((np.abs(mine - plain)[some] / plain[some]).max()))
            own = max(own, float((np.abs(mine - sure)[some] / sure[some]).max()))
    assert between < NEAR
    assert own < 2 * NEAR
