"""The Python of README and CONTRIBUTING runs, and what they name is there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from attn.index.index import Index
from attn.measure.metrics import metrics
from tests.sharing import linked

ROOT = Path(__file__).parent.parent
DOCS = ("README.md", "CONTRIBUTING.md")
TEXTS = {name: (ROOT / name).read_text(encoding="utf-8") for name in DOCS}


def blocks(name: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", TEXTS[name], re.DOTALL)


def test_the_library_takes_ten_lines() -> None:
    lines = [line for line in blocks("README.md")[0].splitlines() if line.strip()]
    assert len(lines) <= 10


def test_the_python_of_the_readme(
    sample_index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """Its scan is the one that the README's command has made: the same folder is found."""
    linked(sample_index, tmp_path)
    monkeypatch.setenv("ATTN_INDEXES", str(tmp_path))
    names: dict[str, Any] = {}
    for block in blocks("README.md"):
        exec(compile(block, "README.md", "exec"), names)
    assert isinstance(names["index"], Index)
    assert names["index"].path == tmp_path / sample_index.name
    assert [path.name for path in tmp_path.iterdir()] == [sample_index.name]
    assert names["figure"].data[0].z.shape == (30, 9)
    assert len(names["rows"]) == 3
    assert "Layer 18 Head 6, Top 3 / " in capsys.readouterr().out


@pytest.mark.parametrize("number", range(2, len(blocks("CONTRIBUTING.md"))))
def test_the_examples_of_contributing(number: int, session: Any) -> None:
    code = compile(blocks("CONTRIBUTING.md")[number], "CONTRIBUTING.md", "exec", dont_inherit=True)
    exec(code, {"model": session})


def test_a_metric_of_contributing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_new_metrics: None
) -> None:
    """The first block is a file that defines a metric, the second its test."""
    file, test = blocks("CONTRIBUTING.md")[:2]
    (tmp_path / "near.py").write_text(file, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    exec(compile(test, "CONTRIBUTING.md", "exec", dont_inherit=True), {})
    assert "near" in metrics()


def test_there_is_an_example_of_everything() -> None:
    parts = re.split(r"^## ", TEXTS["CONTRIBUTING.md"], flags=re.MULTILINE)[1:]
    assert [part.split("\n")[0] for part in parts] == [
        "Where a number on screen comes from", "How to check a change",
        "A metric", "A score", "A model source", "A corpus source",
    ]  # fmt: skip
    assert all("```python" in part for part in parts[2:])


def test_the_map_names_a_file_in_each_of_its_ten_lines() -> None:
    text = TEXTS["CONTRIBUTING.md"].split("## Where a number on screen comes from")[1]
    lines = [line for line in text.split("\n## ")[0].splitlines() if line.startswith("- ")]
    named = [re.findall(r"`([^`]+)`", line) for line in lines]
    assert [len(files) for files in named] == [1] * 10
    assert all((ROOT / files[0]).is_file() for files in named)


@pytest.mark.parametrize("name", DOCS)
def test_files_and_names_exist(name: str) -> None:
    text = re.sub(r"\s+", " ", TEXTS[name])
    files = set(re.findall(r"`((?:attn|tests|pages|notebooks)/[\w/]+\.\w+)`", text))
    assert not [file for file in files if not (ROOT / file).is_file()]
    named = re.findall(r"`(\w+)` in `([\w/]+\.py)`", text)
    assert named or name == "README.md"
    for word, file in named:
        defined = rf"^(?:class |def )?{word}\b(?:\(|:| =| :)"
        assert re.search(defined, (ROOT / file).read_text(), re.MULTILINE), f"{word} in {file}"


def test_links_lead_to_files() -> None:
    for text in TEXTS.values():
        links = re.findall(r"\]\(([^)#]+)\)", text)
        assert not [one for one in links if "://" not in one and not (ROOT / one).exists()]


def test_the_pages_are_the_apps() -> None:
    from attn.ui.router import _PAGES

    table = TEXTS["README.md"].split("## The pages")[1].split("\n## ")[0]
    assert re.findall(r"^\| (\w+) \|", table, re.MULTILINE)[1:] == [page[1] for page in _PAGES]


def test_the_comparison_is_whole() -> None:
    table = TEXTS["README.md"].split("## Beside other tools")[1].split("\n## ")[0]
    rows = [line.strip("|").split("|") for line in table.splitlines() if line.startswith("|")]
    assert len({len(row) for row in rows}) == 1
    assert all(cell.strip() for row in rows[1:] for cell in row)
    assert f"| {len(metrics())}, each with a warning |" in table
    assert all(metric.warning for metric in metrics().values())
