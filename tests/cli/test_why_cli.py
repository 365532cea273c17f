"""`attn why`: rows that add up, and sentences for what there is not."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.cli.commands import attn
from tests.conftest import Tiny

TEXT = "one two three one two three"


@pytest.fixture(scope="module")
def index(llama: Tiny, make: Callable[[Tiny, str], Any]) -> Any:
    return make(llama, "small").index


def test_json_rows_add_to_the_total(index: Any) -> None:
    done = attn("why", index.path, "L1H1", "--text", TEXT, "--pair", "5,2", "--json")
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert {tuple(row) for row in rows} == {("side", "part", "nats")}
    (total,) = [row["nats"] for row in rows if row["side"] == "total"]
    for side in ("query", "key"):
        parts = {row["part"]: row["nats"] for row in rows if row["side"] == side}
        assert sum(parts.values()) == pytest.approx(total, rel=1e-4, abs=1e-6)
        assert set(parts) == {
            "embedding", *(f"L0H{head}" for head in range(index.manifest.n_heads)), "MLP 0", "bias",
        }  # fmt: skip
    assert next(row["part"] for row in rows if row["side"] == "pair").count(" × ") == 1


def test_lines_for_people(index: Any) -> None:
    done = attn("why", index.path, "L1H1", "--text", TEXT, "--pair", "5,2", "-n", "3")
    assert done.returncode == 0
    assert "nats against the mean over the" in done.stdout
    assert "query side" in done.stdout
    assert "key side" in done.stdout


@pytest.mark.parametrize(
    ("head", "pair", "said"),
    [
        ("L9H0", "5,2", "L9H0"),
        ("L1H1", "2,5", "does not see"),
        ("L1H1", "99,2", "there is no 99"),
        ("L1H1", "5", "DST,SRC"),
    ],
)
def test_what_there_is_not(index: Any, head: str, pair: str, said: str) -> None:
    done = attn("why", index.path, head, "--text", TEXT, "--pair", pair)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
