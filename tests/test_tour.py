"""The tour runs, and what is committed of it is what a run says."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from tests.tour import TOUR, executed

TEXT = json.loads(TOUR.read_text(encoding="utf-8"))
CODE = [cell for cell in TEXT["cells"] if cell["cell_type"] == "code"]
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


def source(cell: Any) -> str:
    return "".join(cell["source"])


def outputs(cell: Any) -> list[tuple[str, Any]]:
    """Kind and content of each output; nothing but streams and displays is expected."""
    found: list[tuple[str, Any]] = []
    for output in cell["outputs"]:
        if output["output_type"] == "stream":
            assert output["name"] == "stdout", output
            found.append(("stream", "".join(output["text"])))
            continue
        assert output["output_type"] in ("display_data", "execute_result"), output
        for kind, data in sorted(output["data"].items()):
            found.append((kind, data if isinstance(data, dict) else "".join(data)))
    return found


def shape(text: str) -> str:
    """A text without its numbers, and without what names an index."""
    return NUMBER.sub("#", re.sub(r"_[0-9a-f]{12}\b", "_ID", text))


def test_a_run_says_what_is_committed(builtin: Path, tmp_path: Path) -> None:
    run = [cell for cell in executed(tmp_path)["cells"] if cell["cell_type"] == "code"]
    for ours, theirs in zip(CODE, run, strict=True):
        before, after = outputs(ours), outputs(theirs)
        assert [kind for kind, _ in before] == [kind for kind, _ in after]
        for (_, said), (_, says) in zip(before, after, strict=True):
            if isinstance(said, dict):
                assert [t["type"] for t in said["data"]] == [t["type"] for t in says["data"]]
                continue
            assert shape(said) == shape(says)
            wanted = [float(n) for n in NUMBER.findall(re.sub(r"_[0-9a-f]{12}\b", "", said))]
            got = [float(n) for n in NUMBER.findall(re.sub(r"_[0-9a-f]{12}\b", "", says))]
            assert got == pytest.approx(wanted, rel=0.02, abs=0.005)


def test_every_cell_was_run_in_order() -> None:
    assert [cell["execution_count"] for cell in CODE] == list(range(1, len(CODE) + 1))
    assert all("execution" not in cell["metadata"] for cell in CODE)


def test_nothing_of_a_machine_is_in_it() -> None:
    said = json.dumps([outputs(cell) for cell in CODE])
    assert not re.search(r" at 0x[0-9a-f]+", said)
    assert str(Path.home()) + os.sep not in said
    assert not re.search(r"/tmp/|/home/|/root/|/Users/|[A-Z]:\\\\\\\\", said)
    assert not re.search(r"\d+(\.\d+)? ?(s|ms|seconds)\b per|it/s|tokens/s", said)


def test_it_is_the_demo_of_the_original() -> None:
    demo = "\n".join(source(cell) for cell in CODE)
    parts = [
        "AttentionData(", "suppress_first_token=True", "layer, head =", "describe_head(",
        "get_ranked_multiples(", "str_token=", "reverse=True", "get_random_multiples(",
        "data.index", "index.metric(", "charts.grid(", "summary(", "charts.budget(",
        "charts.pattern(", "attn.score(",
    ]  # fmt: skip
    places = [demo.find(part) for part in parts]
    assert -1 not in places
    assert places == sorted(places)
    words = "\n".join(source(cell) for cell in TEXT["cells"])
    assert 'load_model("gpt2")' in words
    assert '"stas/openwebtext-10k"' in words
