"""attn/analyse/roles.py: which heads wear which role, and where that is said."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from attn.analyse.roles import Role, labels, roles, told
from attn.analyse.summary import not_measured
from attn.corpus.corpus import load_corpus
from attn.errors import IndexDamaged, QueryError
from attn.heads import HeadId
from attn.index.index import Index
from attn.index.measured import Measured
from attn.measure.metrics import metrics
from attn.scan.plan import Plan
from attn.scan.run import scan
from attn.show import charts
from attn.show.report import report
from tests.conftest import Tiny

HEAD = HeadId(1, 2)


def index_of(**numbers: float) -> Any:
    """What an index would say of one head."""
    return SimpleNamespace(
        numbers=lambda head: numbers,
        definition=lambda name: metrics()[name],
        heads=lambda: [HeadId(0, 0), HEAD],
    )


def test_a_threshold_is_reached_or_not() -> None:
    index = index_of(sink=0.9, induction_random=0.8749, previous_random=0.3999, retrieval=0.1)
    found = roles(index, HEAD)
    assert found == (
        Role("induction", "induction_random", 0.8749, "on random tokens"),
        Role("retrieval", "retrieval", 0.1, "on a planted sentence"),
    )
    assert told(found) == (
        "Known roles: induction 0.87 on random tokens; retrieval 0.10 on a planted sentence."
    )
    assert labels(index) == [told(found)[len("Known roles: ") : -1]] * 2


def test_none() -> None:
    found = roles(index_of(sink=1.0, induction_random=float("nan")), HEAD)
    assert (found, told(found)) == ((), "")


def test_every_role_has_a_threshold_within_its_range() -> None:
    given = {one.role: one for one in metrics().values() if one.role}
    assert set(given) == {
        "induction", "duplicate token", "previous token", "name mover", "S-inhibition",
        "successor", "copy suppression", "retrieval",
    }  # fmt: skip
    for one in given.values():
        low, high = one.low_high
        assert one.threshold is not None
        assert high is not None
        assert low < one.threshold < high
        assert one.on.startswith("on ")
    assert {one.name for one in metrics().values() if one.threshold} == {
        one.name for one in given.values()
    }


@pytest.fixture(scope="module")
def scanned(gpt2: Tiny, text_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Index:
    """The tiny GPT-2, whose tokenizer has neither names nor days."""
    plan = Plan(ctx=32, min_row=4, shard=4)
    out = tmp_path_factory.mktemp("roles")
    return Index.open(scan(gpt2.session, load_corpus(str(text_file)), plan, out=out))


def rewritten(index: Index, work: Path, **told: Any) -> Measured:
    """What an index would say it holds if some of that were otherwise."""
    schema = pq.read_schema(index.path / "heads.parquet")
    whole = json.loads(schema.metadata[b"attn"]) | told
    whole = {name: value for name, value in whole.items() if value is not None}
    return Measured.read({b"attn": json.dumps(whole).encode()}, "index")


class TestInAnIndex:
    def test_what_the_model_has_no_answer_to_is_said(self, scanned: Index) -> None:
        why = scanned.not_measured
        assert why["successor"].startswith("0 of 8 lists")
        assert "names are single tokens" in why["name_mover"]
        assert why["name_mover"] in not_measured(scanned)
        with pytest.raises(QueryError, match="The metric successor is not measured here: 0 of 8"):
            scanned.metric("successor")

    def test_an_older_index_opens(self, scanned: Index, tmp_path: Path) -> None:
        older = rewritten(scanned, tmp_path, reasons=None)
        assert older.reasons == {}
        assert older.sums == scanned.measured.sums
        index = Index(scanned.path, scanned.manifest)
        index.__dict__["measured"] = older
        heads = {k: v for k, v in index._heads.items() if metrics().get(k, metrics()["sink"]).kind
                 != "probe"}  # fmt: skip
        index.__dict__["_heads"] = heads
        assert index.not_measured["retrieval"] == "the index is older than this metric: scan again"
        roles(index, HEAD)

    @pytest.mark.parametrize("reasons", [[], "none", {"successor": 3}])
    def test_reasons_that_are_none(self, reasons: Any, scanned: Index, tmp_path: Path) -> None:
        with pytest.raises(IndexDamaged):
            rewritten(scanned, tmp_path, reasons=reasons)

    def test_scanning_again_measures_new_probes(self, scanned: Index) -> None:
        """The probes are a part of the identity: else the older index would be found and used."""
        assert "retrieval" in Measured.now().identity["probes"]

    def test_report_and_map_say_it(self, scanned: Index) -> None:
        values = scanned._heads["induction_random"]
        before = values.copy()
        values[1, 2] = 0.87
        try:
            index = Index(scanned.path, scanned.manifest)
            index.__dict__["_heads"] = scanned._heads
            assert "Known roles: induction 0.87 on random tokens" in report(index, HEAD, n=1)
            figure = charts.grid(values, HEAD, unit="", low_high=(0.0, 1.0), labels=labels(index))
            assert figure.data[-1].hovertext[6] == "<br>induction 0.87 on random tokens"
        finally:
            values[:] = before


def test_the_built_in_model(session: Any) -> None:
    """Its known induction heads wear the role; every number is within its range."""
    from attn.measure.probes.measure import measure_probes
    from attn.measure.random_tokens import measure_random

    found, reasons = measure_probes(session)
    assert not reasons
    for name, values in found.items():
        low, high = metrics()[name].low_high
        assert np.isfinite(values).all()
        assert (values >= low).all()
        assert high is None or (values <= high).all()
    induction = measure_random(session)["induction_random"]
    threshold = metrics()["induction_random"].threshold
    assert threshold is not None
    assert induction[18, 6] >= threshold
    assert induction[17, 5] >= threshold
    assert found["retrieval"][18, 6] > 0.5
