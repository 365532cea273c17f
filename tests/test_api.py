"""What `import attn` gives: every name documented, typed, shown by an example that runs."""

from __future__ import annotations

import doctest
import inspect
import re
import subprocess
import sys
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import attn
from attn.corpus.corpus import load_corpus
from attn.heads import HeadId
from attn.index.index import Index
from attn.notebook import AttentionData
from attn.show import charts
from tests.conftest import SAMPLE_DOCS, Tiny

FIGURES = ("budget", "contributions", "grid", "pattern", "scatter", "spectrum")
MODULES = {"describe": "attn.describe", "scan": "attn.scan"}


def function(name: str) -> Any:
    """What a public name stands for: of a module that can be called, its function."""
    found = getattr(attn, name)
    return found.__wrapped__ if name in MODULES else found


PUBLIC = {name: function(name) for name in attn.__all__ if name != "charts"}
METHODS = {
    f"AttentionData.{name}": member
    for name, member in vars(AttentionData).items()
    if not name.startswith("_")
}
DOCUMENTED = {**PUBLIC, **METHODS, **{f"charts.{name}": getattr(charts, name) for name in FIGURES}}


def test_the_names_are_these() -> None:
    assert attn.__all__ == sorted(attn.__all__)
    assert set(attn.__all__) <= set(dir(attn))
    figures = {
        name
        for name, member in vars(charts).items()
        if inspect.isfunction(member) and "plotly.graph_objects" in inspect.getsource(member)
    }
    assert figures == set(FIGURES)
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        attn.nothing_of_the_kind  # noqa: B018


def path_takers() -> Iterator[tuple[str, Any]]:
    """Every public function that may take a path: the library's, and those behind commands."""
    from attn.index import archive, hub, index, manifest
    from attn.measure import user_metrics
    from attn.scan import merge
    from attn.show import report

    yield from DOCUMENTED.items()
    for owner in (Index, AttentionData):
        for name in dir(owner):
            if (name == "__init__" or not name.startswith("_")) and callable(getattr(owner, name)):
                yield f"{owner.__name__}.{name}", getattr(owner, name)
    for made in (
        archive.export_index, archive.import_index, hub.push_index, hub.pull_index,
        index.find_indexes, manifest.verify, merge.merge_indexes, report.write,
        user_metrics.load_file,
    ):  # fmt: skip
        yield made.__qualname__, made


def test_what_takes_a_path_takes_its_name_too() -> None:
    """``str | Path`` wherever a signature says Path, in lists as well."""
    found = []
    for name, made in path_takers():
        if not callable(made):  # a property
            continue
        for parameter in inspect.signature(made).parameters.values():
            kind = str(parameter.annotation)
            if re.search(r"\bPath\b|PathLike", kind):
                found.append(f"{name}({parameter.name})")
                assert re.search(r"\bstr \| (Path|os\.PathLike)\b", kind), found[-1]
    assert {"scan(out)", "Index.open(path)", "Index.__init__(path)", "load_corpus(name)"} <= {
        *found
    }
    assert {"merge_indexes(paths)", "merge_indexes(out)", "import_index(out)"} <= {*found}


def test_a_name_does_what_its_path_does(
    gpt2: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from attn.index.archive import export_index, import_index
    from attn.index.index import find_indexes
    from attn.index.manifest import verify
    from attn.scan.merge import merge_indexes

    monkeypatch.chdir(tmp_path)
    folder = attn.scan(
        gpt2.session, load_corpus("sample", docs=2), attn.scan.Plan(ctx=16), out="made"
    )
    assert find_indexes("made") == [folder]
    assert folder.resolve().parent == tmp_path / "made"
    verify(str(folder))
    merged = merge_indexes([str(folder)], "merged")
    assert merged.name == folder.name
    assert import_index(export_index(str(folder), "one.tar"), "other").folder.name == folder.name


def test_importing_loads_nothing_large() -> None:
    code = (
        "import sys, os, attn\n"
        "large = {'torch', 'streamlit', 'transformers', 'plotly', 'openai', 'pyarrow', 'numpy'}\n"
        "assert not large & set(sys.modules), large & set(sys.modules)\n"
        "assert 'GOMP_SPINCOUNT' in os.environ\n"
        "for name in attn.__all__:\n"
        "    if name not in ('load_model', 'scan', 'why'):\n"
        "        getattr(attn, name)\n"
        "assert not {'torch', 'streamlit'} & set(sys.modules)\n"
        "attn.load_model, attn.scan, attn.why\n"
        "assert 'streamlit' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    "before",
    [
        "",
        "import attn.scan, attn.describe",
        "from attn.scan import scan; from attn.describe.describe import describe",
        "from attn import scan, describe, report",
        "import attn.cli.describe, attn.__main__; from attn.scan import Plan",
    ],
)
def test_what_can_be_called_is_one_thing_whatever_was_imported_before(before: str) -> None:
    code = (
        f"{before}\n"
        "import inspect, sys, attn\n"
        "assert attn.scan is sys.modules['attn.scan']\n"
        "assert attn.describe is sys.modules['attn.describe']\n"
        "assert callable(attn.scan) and callable(attn.describe) and callable(attn.score)\n"
        "assert attn.report.__module__ == 'attn.show.report'\n"
        "from attn.scan import scan\n"
        "assert inspect.signature(attn.scan) == inspect.signature(scan)\n"
        "assert list(inspect.signature(attn.describe).parameters)[:2] == ['index', 'head']\n"
        "assert attn.scan.Plan().ctx == 128\n"
        "assert attn.describe.describe.Options().samples == 20\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", DOCUMENTED)
def test_every_name_has_a_docstring_with_an_example(name: str) -> None:
    doc = inspect.getdoc(DOCUMENTED[name]) or ""
    assert len(doc.splitlines()) > 2
    assert doctest.DocTestParser().get_examples(doc), f"{name} has no example"


@pytest.mark.parametrize("name", PUBLIC)
def test_every_name_says_what_it_raises(name: str) -> None:
    assert "raise" in inspect.getdoc(PUBLIC[name]).lower()  # type: ignore[union-attr]


@pytest.mark.parametrize("name", DOCUMENTED)
def test_every_name_has_types(name: str) -> None:
    found = DOCUMENTED[name]
    if isinstance(found, property):
        found = found.fget
    found = getattr(found, "func", found)  # of a cached property
    found = found.__init__ if inspect.isclass(found) else found
    said = found.__annotations__
    assert "return" in said
    missing = [p for p in inspect.signature(found).parameters if p != "self" and p not in said]
    assert not missing, f"{name} has parameters without a type: {missing}"


def test_types_are_shipped() -> None:
    assert Path(attn.__file__).with_name("py.typed").is_file()
    assert typing.get_type_hints(HeadId) == {"layer": int, "head": int}


@pytest.fixture(scope="module")
def names(session: Any, sample_index: Path) -> Iterator[dict[str, Any]]:
    """What the examples of docstrings may speak of without making it."""
    texts = [document.text for document in load_corpus("sample", docs=SAMPLE_DOCS)]
    index = Index.open(sample_index)
    yield {
        "attn": attn,
        "model": session,
        "index": index,
        "texts": texts,
        "data": AttentionData(session, texts),
    }
    index.path.with_name(f"{index.name}.descriptions").unlink(missing_ok=True)


@pytest.mark.parametrize("name", DOCUMENTED)
def test_every_example_runs(
    name: str, names: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ATTN_INDEXES", str(tmp_path))
    doc = inspect.getdoc(DOCUMENTED[name]) or ""
    test = doctest.DocTestParser().get_doctest(doc, dict(names), name, None, None)
    said: list[str] = []
    doctest.DocTestRunner().run(test, out=said.append)
    assert not said, "".join(said)


EVIL = "<script>alert('x')</script>"


def test_values_show_themselves_in_notebooks(sample_index: Path, tmp_path: Path) -> None:
    from dataclasses import replace

    index, head = Index.open(sample_index), HeadId(18, 6)
    ranking = index.top(head, 3)
    assert head._repr_html_() == "<code>L18H6</code>"
    page = ranking._repr_html_()
    assert page.count("<tr>") == 4
    assert f"3 of {index.pairs(head):,}" in page
    assert "among" not in index.top(head, 3, token=" the")._repr_html_()
    assert "smollm2-135m" in index._repr_html_()
    evil = replace(ranking.examples[0], token=EVIL)
    for shown in (evil._repr_html_(), replace(ranking, examples=(evil,))._repr_html_()):
        assert "<script" not in shown
        assert "&lt;script&gt;" in shown
    named = Index(tmp_path / EVIL.replace("/", ""), replace(index.manifest, corpus=EVIL))
    assert "<script" not in named._repr_html_()
