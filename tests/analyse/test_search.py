"""Searches against loops over plain eager attentions, by hand, and on the real model."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from attn.analyse.search import TEMPLATES, by_cells, by_token, pair, parse_pair, template
from attn.errors import QueryError
from attn.heads import HeadId, Tokens
from attn.index.index import Index
from tests.cli.test_cli import attn
from tests.conftest import Tiny
from tests.oracle_tables import token_tables, value_writes
from tests.scanned import HEADS

TEXT = "the cat sat on the mat, and (the dog [sat]) on the cat. It was late!\nThe cat slept."


def eager(tiny: Tiny, ids: list[int]) -> np.ndarray:
    """(layer, head, dst, src) by plain Hugging Face."""
    import torch

    with torch.no_grad():
        found = tiny.plain(torch.tensor([ids]), output_attentions=True).attentions
    return np.stack([layer[0].double().numpy() for layer in found])


class TestByToken:
    @pytest.mark.parametrize(("text", "regex"), [(" the", False), ("^ ?[tT]he$|cat", True)])
    def test_it_is_the_oracles(
        self, tiny: Tiny, make: Callable[[Tiny, str], Any], text: str, regex: bool
    ) -> None:
        found = make(tiny, "small")
        answers = by_token(found.index, text, regex=regex, least_mass=0.0)
        assert [a.head for a in sorted(answers, key=lambda a: a.head)] == HEADS
        for answer in answers:
            head = answer.head
            skip = found.plan.skip_first
            table, _ = token_tables(found.texts, head.layer, head.head, found.plan.min_row, skip)
            some = [
                row for token, row in table.items()
                if (re.search(text, token) if regex else token == text)
            ]  # fmt: skip
            assert some
            mass = sum(row.mass for row in some)
            assert answer.mass == pytest.approx(mass, rel=1e-5)
            assert answer.lift == pytest.approx(mass / sum(r.even for r in some), rel=1e-5)
            assert answer.share == pytest.approx(
                mass / sum(r.mass for r in table.values()), rel=1e-5
            )
            assert sum(r.least for r in some) <= answer.pairs <= sum(r.most for r in some)
        assert [a.lift for a in answers] == sorted((a.lift for a in answers), reverse=True)

    def test_little_mass_is_left_out(self, gpt2: Tiny, make: Callable[[Tiny, str], Any]) -> None:
        index = make(gpt2, "small").index
        masses = sorted(a.mass for a in by_token(index, " the", least_mass=0.0))
        kept = by_token(index, " the", least_mass=masses[3])
        assert sorted(a.mass for a in kept) == masses[3:]

    def test_a_token_that_is_not_there(self, gpt2: Tiny, make: Callable[[Tiny, str], Any]) -> None:
        index = make(gpt2, "small").index
        with pytest.raises(QueryError, match="No token of the corpus reads exactly 'zebra'"):
            by_token(index, "zebra")
        with pytest.raises(QueryError, match="matches"):
            by_token(index, "zebra|yak", regex=True)
        with pytest.raises(QueryError, match="not a regular expression"):
            by_token(index, "(", regex=True)


class TestByCells:
    @pytest.mark.parametrize("name", TEMPLATES)
    def test_it_is_what_loops_find(self, tiny: Tiny, name: str) -> None:
        tokens = tiny.session.encode(TEXT, False)
        cells = template(name, tokens)
        ids = tiny.ids(TEXT)
        patterns, writes = eager(tiny, ids), value_writes(tiny.plain, ids)
        answers = by_cells(tiny.session, ids, cells)
        assert sorted(a.head for a in answers) == HEADS
        for answer in answers:
            layer, head = answer.head.layer, answer.head.head
            shares, even, moved = [], [], []
            for dst in range(len(ids)):
                some = [src for src in range(dst + 1) if cells[dst, src]]
                if some:
                    row = patterns[layer, head, dst]
                    shares.append(sum(row[src] for src in some))
                    even.append(len(some) / (dst + 1))
                    moved.append(sum(row[src] * writes[layer, head, src] for src in some))
            assert answer.share == pytest.approx(np.mean(shares), abs=1e-5)
            assert answer.uniform == pytest.approx(np.mean(even), rel=1e-9)
            assert answer.lift == pytest.approx(np.mean(shares) / np.mean(even), abs=1e-4)
            assert answer.write == pytest.approx(np.mean(moved), rel=1e-3, abs=1e-5)
        assert [a.lift for a in answers] == sorted((a.lift for a in answers), reverse=True)

    def test_the_lift_of_a_pair_is_its_multiple(self, tiny: Tiny) -> None:
        ids = tiny.ids(TEXT)
        tokens = tiny.session.encode(TEXT, False)
        for answer in by_cells(tiny.session, ids, pair(tokens, 9, 4)):
            attention = eager(tiny, ids)[answer.head.layer, answer.head.head, 9, 4]
            assert answer.share == pytest.approx(attention, abs=1e-6)
            assert answer.lift == pytest.approx(attention * 10, abs=1e-5)

    def test_a_uniform_head_has_lift_one(self, uniform_gpt2: Path) -> None:
        from attn.models.session import load_model

        session = load_model(str(uniform_gpt2), device="cpu")
        tokens = session.encode(TEXT, False)
        for name in TEMPLATES:
            for answer in by_cells(session, tokens.ids.tolist(), template(name, tokens)):
                assert answer.lift == pytest.approx(1, abs=1e-5), name

    def test_bad_questions_are_a_sentence(self, gpt2: Tiny) -> None:
        tokens = gpt2.session.encode("the cat sat", False)
        ids = tokens.ids.tolist()
        with pytest.raises(QueryError, match="after its destination"):
            by_cells(gpt2.session, ids, pair(tokens, 0, 1))
        with pytest.raises(QueryError, match="no such pair"):
            by_cells(gpt2.session, ids, template("opening bracket", tokens))
        with pytest.raises(QueryError, match="do not fit"):
            by_cells(gpt2.session, ids, np.ones((2, 2), bool))
        with pytest.raises(QueryError, match="positions 0 to"):
            pair(tokens, 99, 0)
        with pytest.raises(QueryError, match="no pattern 'spiral'"):
            template("spiral", tokens)
        with pytest.raises(QueryError, match="DST,SRC"):
            parse_pair("5-3")


class TestTemplates:
    """By hand, on tokens named one by one."""

    IDS = (7, 1, 2, 3, 1, 2)
    TEXTS = ("<s>", "He", " (", "it", ").", " Yes")

    def cells(self, name: str, texts: tuple[str, ...] | None = None) -> set[tuple[int, int]]:
        texts = texts or self.TEXTS
        kinds = tuple("special" if text == "<s>" else "" for text in texts)
        found = TEMPLATES[name](Tokens(np.array(self.IDS), texts, kinds=kinds))
        return {(int(dst), int(src)) for dst, src in np.argwhere(found)}

    def test_each(self) -> None:
        assert self.cells("previous token") == {(i, i - 1) for i in range(1, 6)}
        assert self.cells("first token") == {(i, 0) for i in range(1, 6)}
        assert self.cells("same token") == {(4, 1), (5, 2)}
        assert self.cells("induction") == {(4, 2), (5, 3)}
        assert self.cells("opening bracket") == {(3, 2), (4, 2)}
        assert self.cells("start of the sentence") == {(2, 1), (3, 1), (4, 1)}

    def test_brackets_nest_and_close_their_own_kind(self) -> None:
        texts = ("(", "[", "x", "]", "y", ")")
        assert self.cells("opening bracket", texts) == {
            (1, 0), (2, 1), (3, 1), (4, 0), (5, 0)
        }  # fmt: skip
        assert self.cells("opening bracket", ("(", "]", "x", ")", "y", "z")) == {
            (1, 0), (2, 0), (3, 0)
        }  # fmt: skip


class TestTheRealModel:
    def test_known_heads_stand_out(self, session: Any) -> None:
        text = (
            "Mira Castell opened the old ferry office at seven. By noon, Mira Castell had sold "
            "twelve tickets, and the old ferry office smelled of coffee again."
        )
        tokens = session.encode(text, False)
        best = {
            name: by_cells(session, tokens.ids.tolist(), template(name, tokens))
            for name in ("previous token", "induction", "same token")
        }
        assert best["previous token"][0].head == HeadId(16, 0)
        assert best["previous token"][0].lift > 5
        assert HeadId(17, 5) in {a.head for a in best["induction"][:3]}
        assert best["induction"][0].lift > 5
        assert {HeadId(8, 0), HeadId(5, 6)} <= {a.head for a in best["same token"][:5]}

    def test_the_index_and_a_text_agree_on_induction(
        self, session: Any, sample_index: Path
    ) -> None:
        index = Index.open(sample_index)
        natural, random = index.metric("induction"), index.metric("induction_random")
        top = [set(np.argsort(-values, axis=None)[:10].tolist()) for values in (natural, random)]
        assert len(top[0] & top[1]) >= 6


class TestCommand:
    def test_by_token(self, gpt2: Tiny, make: Callable[[Tiny, str], Any]) -> None:
        index = make(gpt2, "small").index
        done = attn("find", index.path, "--token", " the", "-n", "3", "--json")
        rows = [json.loads(line) for line in done.stdout.splitlines()]
        wanted = by_token(index, " the")[:3]
        assert [(r["layer"], r["head"], r["lift"]) for r in rows] == [
            (a.head.layer, a.head.head, a.lift) for a in wanted
        ]
        lines = attn("find", index.path, "--token", " the", "-n", "3").stdout.splitlines()
        assert [line.split()[:2] for line in lines] == [
            [str(a.head), f"{a.lift:.2f}×"] for a in wanted
        ]

    @pytest.mark.parametrize(
        "question", [["--pattern", "induction"], ["--pair", "4,0"]], ids=["pattern", "pair"]
    )
    def test_on_a_text(
        self, gpt2: Tiny, make: Callable[[Tiny, str], Any], question: list[str]
    ) -> None:
        index = make(gpt2, "small").index
        done = attn("find", index.path, "--text", TEXT, *question, "--json")
        assert done.returncode == 0, done.stderr
        rows = [json.loads(line) for line in done.stdout.splitlines()]
        assert len(rows) == 8
        assert {"layer", "head", "share", "uniform", "lift", "write"} == set(rows[0])

    @pytest.mark.parametrize(
        "words",
        [
            [],
            ["--text", TEXT],
            ["--token", "x", "--text", TEXT],
            ["--text", TEXT, "--pattern", "induction", "--pair", "1,0"],
            ["--token", "zebra"],
            ["--text", TEXT, "--pattern", "spiral"],
            ["--text", TEXT, "--pair", "a"],
            ["--text", TEXT, "--pair", "900,0"],
        ],
    )
    def test_bad_input_is_one_sentence(
        self, gpt2: Tiny, make: Callable[[Tiny, str], Any], words: list[str]
    ) -> None:
        done = attn("find", make(gpt2, "small").index.path, *words)
        assert done.returncode == 2
        assert done.stderr.startswith("Error: ")
        assert len(done.stderr.strip().splitlines()) == 1
