"""Metrics of a user's own: loaded, scanned, kept with the index, merged, and what is refused."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from attn.analyse.summary import not_measured
from attn.corpus.corpus import load_corpus
from attn.errors import IndexDamaged, IndexMismatch, MetricError, QueryError
from attn.heads import HeadId
from attn.index.index import Index
from attn.index.measured import Measured
from attn.measure.metrics import metrics
from attn.measure.user_metrics import load_file
from attn.scan.merge import merge_indexes
from attn.scan.plan import Plan
from attn.scan.run import scan
from attn.show.report import report
from tests.conftest import Tiny, check_sentence, contents

MINE = '''
from attn.measure.metric import metric


@metric("pairs", "Even sources", unit="share of attention", formula="Σ a[dst, src], src even")
def even_sources(context):
    """Attention on every other position, the first among them.

    It says nothing of tokens.
    """
    mask = context.earlier_same.new_zeros((1, context.width, context.width))
    mask[..., ::2] = 1
    return mask


@metric("rows", "Second best", unit="share of attention", formula="the second largest a[dst, src]")
def second_best(pattern):
    """Attention of the row's second best source.

    It is 0 where a row sees one source.
    """
    return pattern.topk(2, -1).values[..., 1]


@metric("derived", "Best over second", unit="times", formula="max a / second a",
        low_high=(1.0, None))
def best_over_second(means):
    """How many times the second best source the best one gets.

    Means are compared, not rows.
    """
    return means["concentration"] / means["second_best"]
'''
PLAN = Plan(ctx=32, min_row=4, shard=4)


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    file = tmp_path / "mine.py"
    file.write_text(MINE, encoding="utf-8")
    return file


def index_of(tiny: Tiny, texts: Path, out: Path, plan: Plan = PLAN) -> Index:
    return Index.open(scan(tiny.session, load_corpus(str(texts)), plan, out=out))


def by_loops(tiny: Tiny, index: Index) -> dict[str, np.ndarray]:
    """The two sums from plain eager attention, a row at a time, and their quotient."""
    import torch

    shape = index.manifest.n_layers, index.manifest.n_heads
    even, second, best, rows = (np.zeros(shape) for _ in range(4))
    for document in range(index.manifest.documents + index.manifest.short):
        try:
            ids = index.window(document).ids
        except QueryError:  # too short to be in the index
            continue
        with torch.no_grad():
            patterns = tiny.plain(torch.tensor([ids]), output_attentions=True).attentions
        for layer, pattern in enumerate(patterns):
            for head in range(shape[1]):
                for dst in range(PLAN.min_row, len(ids)):
                    row = pattern[0, head, dst].tolist()
                    ranked = sorted(row, reverse=True)
                    even[layer, head] += sum(row[::2])
                    best[layer, head] += ranked[0]
                    second[layer, head] += ranked[1]
                    rows[layer, head] += 1
    return {
        "even_sources": even / rows,
        "second_best": second / rows,
        "best_over_second": best / second,
    }


@pytest.mark.usefixtures("no_new_metrics")
def test_they_are_measured_like_those_of_attn(
    gpt2: Tiny, text_file: Path, mine: Path, tmp_path: Path
) -> None:
    plain = index_of(gpt2, text_file, tmp_path / "plain")
    load_file(mine)
    index = index_of(gpt2, text_file, tmp_path / "more")
    assert index.manifest.identity != plain.manifest.identity
    for name, wanted in by_loops(gpt2, index).items():
        np.testing.assert_allclose(index.metric(name), wanted, rtol=1e-4, err_msg=name)
    for name in plain.metric_names:
        np.testing.assert_array_equal(index.metric(name), plain.metric(name), err_msg=name)
    page = report(index, HeadId(1, 2), n=1)
    assert "Second best" in page
    assert "It is 0 where a row sees one source." in page


@pytest.mark.usefixtures("no_new_metrics")
def test_parts_of_a_corpus_hold_them_too(
    gpt2: Tiny, text_file: Path, mine: Path, tmp_path: Path
) -> None:
    load_file(mine)
    whole = index_of(gpt2, text_file, tmp_path / "whole")
    parts = [
        scan(
            gpt2.session, load_corpus(str(text_file), docs=stop), PLAN, skip=skip,
            out=tmp_path / "parts",
        )
        for skip, stop in ((0, 4), (4, None))
    ]  # fmt: skip
    merged = merge_indexes(parts, tmp_path / "merged")
    assert contents(merged) == contents(whole.path)


def test_an_index_is_read_without_their_code(
    gpt2: Tiny, text_file: Path, mine: Path, tmp_path: Path
) -> None:
    """Another process, which has not loaded the file, shows the sums and says what it lacks."""
    run = [sys.executable, "-m", "attn"]
    done = subprocess.run(
        [*run, "scan", "--model", gpt2.folder, "--corpus", text_file, "--ctx", "32", "--metrics",
         mine, "--out", tmp_path],
        capture_output=True, text=True, check=True, env=os.environ | {"COLUMNS": "200"},
    )  # fmt: skip
    index = Index.open(done.stdout.strip())
    assert index.definition("second_best").title == "Second best"
    assert index.definition("second_best").origin == "mine.py"
    told = pq.read_schema(index.path / "heads.parquet").metadata
    assert b"mine.py" in told[b"attn"]
    assert str(tmp_path).encode() not in told[b"attn"]
    assert "even_sources" in index.metric_names
    assert "best_over_second" not in index.metric_names
    with pytest.raises(
        QueryError, match=r"function is not loaded: it comes from mine\.py"
    ) as caught:
        index.metric("best_over_second")
    check_sentence(caught.value)
    assert "Best over second (its function is not loaded" in not_measured(index)
    asked = subprocess.run(
        [*run, "heads", index.path, "--by", "best_over_second", "--metrics", mine, "-n", "1"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    head, value = asked.stdout.split()
    at = HeadId.parse(head)
    second = index.numbers(at)["second_best"]
    assert float(value) == pytest.approx(index.numbers(at)["concentration"] / second, abs=1e-3)


BROKEN = {
    "no file": None,
    "no metric": "x = 1",
    "a name of attn": MINE.replace("even_sources", "induction"),
    "a syntax error": "def (",
    "an error as it runs": "1 / 0",
    "an unknown kind": MINE.replace('"pairs"', '"triples"'),
    "no warning": MINE.replace("    It says nothing of tokens.\n", ""),
    "a wrong shape": MINE.replace(".values[..., 1]", ".values"),
    "an error in the function": MINE.replace("mask[..., ::2]", "mask[..., ::2, 9, 9]"),
    "not finite": MINE.replace("values[..., 1]", "values[..., 1] / 0"),
    "a derived one of no such sum": MINE.replace('means["concentration"]', 'means["charm"]'),
    "a derived one of a wrong shape": MINE.replace(
        'means["concentration"] / means["second_best"]', "1.0"
    ),
    "a probe": MINE.replace('"rows"', '"probe"'),
    "one on random tokens that fails": MINE.replace('"rows"', '"random"'),
}


@pytest.mark.usefixtures("no_new_metrics")
@pytest.mark.parametrize("what", BROKEN)
def test_what_cannot_be_loaded_leaves_nothing(what: str, tmp_path: Path) -> None:
    before, file, text = metrics(), tmp_path / "broken.py", BROKEN[what]
    if text is not None:
        file.write_text(text, encoding="utf-8")
    with pytest.raises(MetricError) as caught:
        load_file(file)
    check_sentence(caught.value)
    assert before == metrics()


@pytest.mark.usefixtures("no_new_metrics")
def test_the_command_says_what_is_wrong_with_a_file(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "attn", "scan", "--metrics", tmp_path / "none.py"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith("Error: There is no file")
    assert "Traceback" not in done.stderr


class TestIndexesOfOtherTimes:
    def test_an_index_that_lacks_a_sum_says_so(
        self, gpt2: Tiny, text_file: Path, tmp_path: Path
    ) -> None:
        """As one from before `punctuation` was added would look."""
        index = index_of(gpt2, text_file, tmp_path)
        held = index.measured
        kept = [i for i, name in enumerate(held.sums) if name not in ("punctuation", "repeats")]
        path = index.path / "heads.parquet"
        table = pq.read_table(path)
        some = [[row[i] for i in kept] for row in table["sums"].to_pylist()]
        column = table.schema.get_field_index("sums")
        table = table.set_column(column, "sums", [some])
        older = Measured(tuple(held.sums[i] for i in kept), tuple(held.scales[i] for i in kept))
        wanted = {name: index.metric(name) for name in index.metric_names}
        told = _reopened(index, table.replace_schema_metadata(older.metadata()))
        assert set(wanted) - set(told.metric_names) == {"punctuation", "prefix_matching"}
        for name in told.metric_names:
            np.testing.assert_array_equal(told.metric(name), wanted[name], err_msg=name)
        with pytest.raises(QueryError, match="older than this metric: scan again"):
            told.metric("punctuation")
        assert "Punctuation and line ends" in not_measured(told)
        assert "Not measured in this index" in report(told, HeadId(0, 0), n=1)

    def test_an_index_that_does_not_say_is_damaged(
        self, gpt2: Tiny, text_file: Path, tmp_path: Path
    ) -> None:
        index = index_of(gpt2, text_file, tmp_path)
        table = pq.read_table(index.path / "heads.parquet").replace_schema_metadata(None)
        with pytest.raises(IndexDamaged, match="does not say what it holds") as caught:
            _reopened(index, table).metric("induction")
        check_sentence(caught.value)

    @pytest.mark.usefixtures("no_new_metrics")
    def test_parts_with_other_metrics_are_not_merged(
        self, gpt2: Tiny, text_file: Path, mine: Path, tmp_path: Path
    ) -> None:
        one = scan(gpt2.session, load_corpus(str(text_file), docs=4), PLAN, out=tmp_path)
        load_file(mine)
        two = scan(gpt2.session, load_corpus(str(text_file)), PLAN, skip=4, out=tmp_path)
        with pytest.raises(IndexMismatch, match="metrics") as caught:
            merge_indexes([one, two], tmp_path)
        check_sentence(caught.value)


def _reopened(index: Index, table: object) -> Index:
    """The index with another heads.parquet, whose manifest fits it."""
    from attn.files import sha256
    from attn.index.format import options
    from attn.index.manifest import FileRecord, footer, sealed_text

    path = index.path / "heads.parquet"
    pq.write_table(table, path, **options())
    record = FileRecord(path.stat().st_size, sha256(path), footer(path))
    manifest = replace(index.manifest, files={**index.manifest.files, "heads.parquet": record})
    (index.path / "manifest.json").write_text(sealed_text(asdict(manifest)))
    return Index.open(index.path)
