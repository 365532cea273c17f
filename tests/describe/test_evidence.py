"""What is shown to a describer: telling passages first, then weaker ones, then rest."""

from __future__ import annotations

from pathlib import Path

import pytest

from attn.describe import evidence
from attn.errors import DescribeError
from attn.heads import HeadId
from attn.index.index import Index

HEAD = HeadId(1, 2)


def test_kinds_and_number(tiny_folder_index: Index) -> None:
    found = evidence.gather(tiny_folder_index, HEAD, 20)
    kinds = [passage.kind for passage in found]
    assert len(found) == 20
    assert kinds.count("ranked") >= 12
    assert "band" in kinds
    assert kinds == sorted(kinds, key=["ranked", "band", "rest"].index)


def test_the_ranked_ones_are_the_best_of_their_documents(tiny_folder_index: Index) -> None:
    found = [p for p in evidence.gather(tiny_folder_index, HEAD, 20) if p.kind == "ranked"]
    multiples = [passage.example.multiple for passage in found]
    assert multiples == sorted(multiples, reverse=True)
    assert len({passage.document_id for passage in found}) == len(found)


def test_no_row_twice(tiny_folder_index: Index) -> None:
    found = evidence.gather(tiny_folder_index, HEAD, 40)
    assert len({passage.place[:3] for passage in found}) == len(found)


def test_a_seed_decides(tiny_folder_index: Index) -> None:
    one, same, other = (
        evidence.fingerprint(evidence.gather(tiny_folder_index, HEAD, 20, seed))
        for seed in (1, 1, 2)
    )
    assert one == same
    assert one != other


def test_rows_at_rest_come_from_a_head_that_rests(sample_index: Path) -> None:
    index = Index.open(sample_index)
    found = evidence.gather(index, HeadId.parse("L18H6"), 20)
    rests = [passage for passage in found if passage.kind == "rest"]
    assert rests
    assert all(passage.sink >= evidence.RESTS for passage in rests)


def test_visible_is_what_the_row_sees(tiny_folder_index: Index) -> None:
    for passage in evidence.gather(tiny_folder_index, HEAD, 20):
        assert passage.visible == passage.example.dst + 1


def test_a_head_without_pairs_says_so(
    tiny_folder_index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evidence, "_passages", lambda *_: [])
    with pytest.raises(DescribeError, match="no pair of L1H2 in a training document"):
        evidence.gather(tiny_folder_index, HEAD)
