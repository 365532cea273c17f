"""The worked example of the Methods page, by the functions that scans use."""

from __future__ import annotations

import re

import torch

from attn.measure.masks import Context
from attn.measure.metrics import metrics, of_rows
from attn.measure.scores import multiple
from attn.ui.methods.methods import EXAMPLE, worked_example
from tests.ui.conftest import Start, said


def test_the_worked_example_is_what_a_scan_computes(start: Start) -> None:
    texts = [text for text, _ in EXAMPLE]
    n = len(texts)
    ids = torch.tensor([[sorted(set(texts)).index(text) for text in texts]])
    pattern = torch.eye(n)[None, None].clone()
    pattern[0, 0, -1] = torch.tensor([share for _, share in EXAMPLE])
    assert torch.isclose(pattern.sum(-1), torch.ones(n)).all()
    text = worked_example()
    found = {
        name: of_rows(metrics()[name], pattern, Context(ids))[0, 0, -1]
        for name in ("sink", "induction", "previous", "duplicate", "self", "distance")
    }
    for name, words in (
        ("induction", r"its ([\d.]+) is \*\*induction"),
        ("sink", r"\*\*Sink\*\* is ([\d.]+),"),
        ("previous", r"\*\*previous token\*\* ([\d.]+),"),
        ("duplicate", r"\*\*duplicate token\*\* ([\d.]+),"),
        ("self", r"\*\*self\*\* ([\d.]+)\."),
        ("distance", r"for `cat`, and ([\d.]+) in the mean"),
    ):
        told = re.search(words, text)
        assert told, name
        assert f"{float(found[name]):.2f}" == told[1], name
    visible = torch.arange(1, n + 1)[None, None]
    row = multiple(pattern, visible)[0, 0, -1]
    told_multiples = re.findall(r"\| ([\d.]+)× \|", text)
    assert told_multiples == [f"{float(value):.2f}" for value in row]
    assert [i for i in range(1, n) if row[i] > 1] == [2]
    assert "A worked example" in said(start("methods"))
