"""AttentionData against a brute force that is written apart from it, on plain Hugging Face."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from attn.corpus.corpus import load_corpus
from attn.describe.chat import FakeModel
from attn.errors import AttnError, CorpusError, HeadError, ModelError, NoServer, QueryError
from attn.notebook import AttentionData, Multiple
from tests import architectures
from tests.conftest import DOCUMENTS, Tiny, plain_model
from tests.scanned import name_of

TEXTS = (*DOCUMENTS, "<script>alert(1)</script> & 'the' <b>cat</b> sat on the <b>mat</b> again")
FIRST, LONGEST = 4, 24
HEADS = [(0, 0), (0, 3), (1, 1), (1, 2)]
NEAR = 1e-4


Encoded = tuple[list[int], Sequence[str], Sequence[str]]
"""The ids of a text, what each token covers, and what it is called."""


@dataclass(frozen=True)
class Pair:
    """A pair of the brute force, its place in the texts first."""

    place: tuple[int, int, int]
    token: str
    multiple: float
    tokens: tuple[str, ...]
    row: np.ndarray


def brute_force(
    plain: Any, encoded: Sequence[Encoded], layer: int, head: int,
    *, first: int, skip: bool,
) -> list[Pair]:  # fmt: skip
    """All pairs above average of a head, the highest multiple first, by loops alone."""
    pairs = []
    for text, (ids, words, names) in enumerate(encoded):
        if len(ids) < 2:
            continue
        with torch.no_grad():
            out = plain(torch.tensor([ids]), output_attentions=True, use_cache=False)
        pattern = out.attentions[layer][0, head].numpy()
        for dst in range(first, len(ids)):
            row = pattern[dst, : dst + 1]
            for src in range(1 if skip else 0, dst + 1):
                multiple = float(row[src]) / (1 / (dst + 1))
                if multiple > 1:
                    seen = tuple(words[: dst + 1])
                    token = words[src] or names[src]
                    pairs.append(Pair((text, dst, src), token, multiple, seen, row))
    return sorted(pairs, key=lambda pair: (-pair.multiple, pair.place))


def check(rows: list[Multiple], wanted: Sequence[Pair], among: Sequence[Pair]) -> None:
    """The rows are the wanted pairs, in order; the order of near ties may differ."""
    assert len(rows) == len(wanted)
    for row, want in zip(rows, wanted, strict=True):
        token, multiple, str_tokens, pattern = row
        assert multiple == pytest.approx(want.multiple, abs=NEAR)
        same = [
            pair
            for pair in among
            if (pair.token, pair.tokens) == (token, str_tokens)
            and abs(pair.multiple - multiple) < NEAR
        ]
        assert same, row
        assert pattern.shape == (len(str_tokens),)
        assert any(np.allclose(pattern, pair.row, atol=6e-4) for pair in same)


def encode(tiny: Tiny, texts: Sequence[str] = TEXTS) -> list[Encoded]:
    bos = tiny.session.has_bos
    first = [tiny.session.tokenizer.bos_token] if bos else []
    found = []
    for text in texts:
        words = tiny.session.encode(text, limit=LONGEST).texts
        names = [*first, *(name_of(tiny.session.tokenizer, token) for token in tiny.ids(text))]
        found.append((tiny.ids(text, bos, LONGEST), words, names))
    return found


def tokenizer_of(tiny: Tiny) -> Any:
    """The tokenizer as it is on disk: a session's was given a BOS by the Bridge."""
    import transformers

    return transformers.AutoTokenizer.from_pretrained(tiny.folder)


def data_of(model: object, **options: Any) -> AttentionData:
    return AttentionData(model, TEXTS, min_length=FIRST, max_length=LONGEST, **options)


@pytest.fixture(scope="module")
def data(gpt2: Tiny) -> AttentionData:
    return data_of(gpt2.session)


@pytest.mark.parametrize("skip", [True, False])
def test_rankings_are_those_of_a_brute_force(tiny: Tiny, skip: bool) -> None:
    data, encoded = data_of(tiny.session, suppress_first_token=skip), encode(tiny)
    for layer, head in HEADS:
        pairs = brute_force(tiny.plain, encoded, layer, head, first=FIRST, skip=skip)
        assert len(pairs) > 50
        check(data.get_ranked_multiples(layer, head), pairs[:10], pairs)
        check(data.get_ranked_multiples(layer, head, reverse=True), pairs[::-1][:10], pairs)
        firsts = {pair.token for pair in pairs if pair.place[2] == 0}
        assert bool(firsts) is not skip
        for token in (" the", " cat", " and"):
            some = [pair for pair in pairs if pair.token == token]
            rows = data.get_ranked_multiples(layer, head, str_token=token, num_multiples=5)
            check(rows, some[:5], pairs)
            rows = data.get_ranked_multiples(layer, head, token, 5, reverse=True)
            check(rows, some[::-1][:5], pairs)


def test_all_pairs_can_be_asked_for(gpt2: Tiny, data: AttentionData) -> None:
    encoded = encode(gpt2)
    pairs = brute_force(gpt2.plain, encoded, 1, 2, first=FIRST, skip=True)
    check(data.get_ranked_multiples(1, 2, num_multiples=10_000), pairs, pairs)
    some = [pair for pair in pairs if pair.token == " the"]
    check(data.get_ranked_multiples(1, 2, " the", 10_000), some, pairs)
    assert len(data.get_random_multiples(1, 2, 10_000)) == len(pairs)
    assert data.get_ranked_multiples(1, 2, "no such token") == []


def test_random_rows_are_pairs_and_the_same_each_time(gpt2: Tiny, data: AttentionData) -> None:
    pairs = brute_force(gpt2.plain, encode(gpt2), 0, 3, first=FIRST, skip=True)
    rows = data.get_random_multiples(0, 3, 20)
    assert all(any(abs(p.multiple - row.multiple) < NEAR for p in pairs) for row in rows)
    assert len({(row.token, row.multiple, row.str_tokens) for row in rows}) == 20

    def told(found: list[Multiple]) -> list[tuple[str, float]]:
        return [(row.token, row.multiple) for row in found]

    assert told(data_of(gpt2.session).get_random_multiples(0, 3, 20)) == told(rows)
    assert told(data_of(gpt2.session, seed=1).get_random_multiples(0, 3, 20)) != told(rows)


def test_a_uniform_head_has_multiples_of_one(uniform_gpt2: Path) -> None:
    data = data_of(str(uniform_gpt2))
    assert all(
        row.multiple == pytest.approx(1, abs=1e-5) for row in data.get_ranked_multiples(1, 0)
    )


def test_one_scan_and_nothing_changes(gpt2: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = list(TEXTS)
    data = AttentionData(gpt2.session, texts, min_length=FIRST, max_length=LONGEST)
    before = data.get_ranked_multiples(1, 1)
    monkeypatch.setattr(AttentionData, "_scan", None)
    texts.reverse()
    data.get_ranked_multiples(1, 1, reverse=True)
    data.get_random_multiples(1, 1)
    before[0].attention_pattern[:] = 0
    again = data.get_ranked_multiples(1, 1)
    assert again[0].attention_pattern.any()
    assert [row[:3] for row in again] == [row[:3] for row in before]


@pytest.mark.parametrize("kind", ["name", "pair", "bridge"])
@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_every_kind_of_model(kind: str, family: str, request: pytest.FixtureRequest) -> None:
    tiny: Tiny = request.getfixturevalue(family)
    if kind == "name":
        model: object = str(tiny.folder)
    elif kind == "pair":
        model = (plain_model(tiny.folder), tokenizer_of(tiny))
    else:
        from attn.models.session import load_model

        model = load_model(str(tiny.folder), device="cpu").bridge
    rows = data_of(model).get_ranked_multiples(1, 1)
    wanted = data_of(tiny.session).get_ranked_multiples(1, 1)
    assert [row.token for row in rows] == [row.token for row in wanted]
    assert [row.multiple for row in rows] == pytest.approx([row.multiple for row in wanted])


@pytest.mark.parametrize("name", architectures.ALL)
def test_every_architecture_can_be_given(name: str, tmp_path: Path) -> None:
    import transformers

    from attn.models.given import session_of
    from attn.models.session import load_model

    folder = architectures.save(architectures.ALL[name], tmp_path)
    named = load_model(str(folder), device="cpu")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    plain = type(named.hf).from_pretrained(folder, dtype=torch.float32)
    heads = [_head(layer, 1) for layer in range(2) if layer not in named.without_attention]
    wanted = [named.pattern(list(range(3, 23)), head) for head in heads]
    for given in ((plain, tokenizer), (named.hf, tokenizer), named.bridge):
        if name == "falcon" and given == (plain, tokenizer):
            with pytest.raises(ModelError, match="attn_implementation='eager'"):
                session_of(given)
            continue
        session = session_of(given)
        assert session.bos_id == named.bos_id
        for head, pattern in zip(heads, wanted, strict=True):
            assert torch.allclose(session.pattern(list(range(3, 23)), head), pattern, atol=1e-6)


def test_a_given_model_stays_as_it_is(gpt2: Tiny) -> None:
    import transformers

    plain = transformers.AutoModelForCausalLM.from_pretrained(gpt2.folder, dtype=torch.float32)
    plain.train()
    data_of((plain, tokenizer_of(gpt2))).get_ranked_multiples(0, 0)
    assert plain.training
    assert plain.config._attn_implementation == "sdpa"
    assert not any("attn_watch" in module.__dict__ for module in plain.modules())


def test_the_models_of_a_session_can_be_given_again(gpt2: Tiny) -> None:
    rows = data_of((gpt2.session.hf, tokenizer_of(gpt2))).get_ranked_multiples(0, 0)
    assert rows[0].token == data_of(gpt2.session).get_ranked_multiples(0, 0)[0].token
    assert gpt2.session.pattern([1, 2, 3], _head(0, 0)).shape == (3, 3)


def _head(layer: int, head: int) -> Any:
    from attn.heads import HeadId

    return HeadId(layer, head)


def test_a_bridge_with_other_weights_is_read_with_them(gpt2: Tiny) -> None:
    from attn.models.session import load_model

    session = load_model(str(gpt2.folder), device="cpu")
    with torch.no_grad():
        session.hf.transformer.wte.weight.mul_(1.5)
    changed = data_of(session.bridge).get_ranked_multiples(0, 0)
    wanted = data_of(session).get_ranked_multiples(0, 0)
    assert [row.multiple for row in changed] == pytest.approx([row.multiple for row in wanted])


@pytest.mark.parametrize(
    ("model", "options", "error"),
    [
        (7, {}, ModelError),
        ((1, 2), {}, ModelError),
        ("no/such/model", {}, ModelError),
        (None, {"min_length": 40}, AttnError),
        (None, {"max_length": 4000, "min_length": 3}, AttnError),
        (None, {"text_batch": []}, CorpusError),
        (None, {"text_batch": ["", " "]}, CorpusError),
        (None, {"text_batch": "one text"}, CorpusError),
    ],
)
def test_bad_input_gets_a_sentence(
    model: object, options: dict[str, Any], error: type[Exception], gpt2: Tiny
) -> None:
    with pytest.raises(error, match=r"\.$"):
        AttentionData(model or gpt2.session, **{"text_batch": TEXTS, **options}).index  # noqa: B018


def test_bad_questions(data: AttentionData) -> None:
    with pytest.raises(HeadError):
        data.get_ranked_multiples(2, 0)
    with pytest.raises(QueryError):
        data.get_ranked_multiples(0, 0, num_multiples=0)
    with pytest.raises(QueryError):
        data.get_random_multiples(0, 0, num_multiples=0)


def test_signatures_are_the_originals() -> None:
    def names(function: Any) -> list[str]:
        return [name for name in inspect.signature(function).parameters if name != "self"]

    assert names(AttentionData)[:7] == [
        "model", "text_batch", "openai_model", "openai_api_key", "suppress_first_token",
        "min_length", "max_length",
    ]  # fmt: skip
    assert names(AttentionData.describe_head) == [
        "layer", "head", "num_samples", "custom_prompt", "print_description",
    ]  # fmt: skip
    assert names(AttentionData.get_ranked_multiples) == [
        "layer", "head", "str_token", "num_multiples", "reverse", "display",
    ]  # fmt: skip
    assert names(AttentionData.get_random_multiples) == [
        "layer", "head", "num_multiples", "display",
    ]  # fmt: skip


def test_without_a_notebook_the_rows_are_printed(
    data: AttentionData, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    pairs = data.index.pairs(_head(0, 1))
    for which, ask in {
        "Top": data.get_ranked_multiples,
        "Bottom": lambda *a, **k: data.get_ranked_multiples(*a, reverse=True, **k),
        "Random": data.get_random_multiples,
    }.items():
        ask(0, 1, num_multiples=3, display=True)
        lines = capsys.readouterr().out.splitlines()
        assert lines[0] == f"Layer 0 Head 1, {which} 3 / {pairs} Multiples"
        assert len(lines) == 4
    data.get_ranked_multiples(0, 1, str_token=" the", num_multiples=2, display=True)
    title = f"Layer 0 Head 1, Top 2 / {pairs} Multiples for ' the'"
    assert capsys.readouterr().out.splitlines()[0] == title


def test_in_a_notebook_texts_cannot_be_html(gpt2: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []
    monkeypatch.setattr("attn.notebook._display", lambda as_html, as_text: shown.append(as_html))
    data = AttentionData(gpt2.session, TEXTS[-1:], min_length=FIRST)
    data.get_ranked_multiples(0, 0, num_multiples=1000, display=True)
    data.get_ranked_multiples(0, 0, str_token="<", display=True)
    for page in shown:
        body = page.split("</style>")[1]
        tags = set(re.findall(r"</?([a-zA-Z]+)", body))
        assert tags <= {"table", "caption", "tr", "th", "td", "span", "div", "p"}
        assert "script" not in tags
    assert "Multiples for &#x27;&lt;&#x27;" in shown[1]
    assert "--a:" in shown[0]


def test_a_description_and_its_prompt(gpt2: Tiny, capsys: pytest.CaptureFixture[str]) -> None:
    texts = [
        f"{a} and {b} sat on the {a}." for a in ("the", "cat", "dog", "mat") for b in "abcdefgh"
    ]
    fake = FakeModel(lambda request: "Attends to the one before. " * 8)
    data = AttentionData(gpt2.session, texts, fake, min_length=FIRST)
    prompt, description = data.describe_head(1, 1, num_samples=3, custom_prompt="Mind the verbs.")
    assert description == ("Attends to the one before. " * 8).strip()
    (request,) = fake.requests
    assert prompt == f"{request.system}\n\n{request.user}"
    assert "Mind the verbs." in prompt
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 2
    assert max(map(len, lines)) <= 80
    data.describe_head(1, 1, print_description=False)
    assert not capsys.readouterr().out


def test_without_a_language_model_nothing_is_scanned(
    gpt2: Tiny, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("LLM_URL", "LLM_MODEL", "LLM_KEY"):
        monkeypatch.delenv(f"ATTN_{name}", raising=False)
    for name in ("BASE_URL", "MODEL", "API_KEY"):
        monkeypatch.delenv(f"OPENAI_{name}", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(AttentionData, "_scan", None)
    with pytest.raises(NoServer):
        data_of(gpt2.session).describe_head(0, 0)
    with pytest.raises(NoServer):
        data_of(gpt2.session, openai_api_key="sk-x").describe_head(0, 0)


def test_the_index_goes_with_the_object_or_stays(
    gpt2: Tiny, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ATTN_INDEXES", str(tmp_path))
    data = data_of(gpt2.session)
    folder = data.index.path
    assert folder.is_dir()
    assert not list(tmp_path.iterdir())
    del data
    assert not folder.exists()
    kept = data_of(gpt2.session, keep=True).index.path
    assert kept.parent == tmp_path
    assert kept.is_dir()


def test_the_built_in_model(session: Any, builtin: Path) -> None:
    plain, texts = plain_model(builtin), [d.text for d in load_corpus("sample", docs=12)]
    encoded = []
    for text in texts:
        tokens = session.encode(text, limit=30)
        names = [name_of(session.tokenizer, token) for token in tokens.ids]
        encoded.append((tokens.ids.tolist(), tokens.texts, names))
    data = AttentionData(session, texts)
    for layer, head in [(3, 4), (18, 6)]:
        pairs = brute_force(plain, encoded, layer, head, first=10, skip=True)
        check(data.get_ranked_multiples(layer, head), pairs[:10], pairs)
        check(data.get_ranked_multiples(layer, head, reverse=True), pairs[::-1][:10], pairs)
        some = [pair for pair in pairs if pair.token == pairs[0].token]
        check(data.get_ranked_multiples(layer, head, pairs[0].token, 5), some[:5], pairs)


def test_no_streamlit_is_needed() -> None:
    code = "import sys, attn.notebook; assert not {'streamlit', 'torch'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
