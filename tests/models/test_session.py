"""attn/models/session.py against plain Hugging Face eager attention, and what it must refuse."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from attn.errors import ContextTooLong, HeadError, ModelError
from attn.heads import HeadId
from attn.models.session import ModelSession, load_model
from tests import oracle
from tests.conftest import DOCUMENTS, N_CTX, Tiny, plain_model, save_gpt2

TEXT = DOCUMENTS[0]


def blocks(hf: Any) -> Any:
    """The layers of a Hugging Face model."""
    return hf.base_model.h if hasattr(hf.base_model, "h") else hf.base_model.layers


def read(session: ModelSession, ids: list[int], **more: Any) -> dict[int, np.ndarray]:
    """layer → (head, dst, src) of one sequence."""
    return {layer: p[0].cpu().numpy() for layer, p in session.patterns([ids], **more)}


class Runs:
    """Counts, with forward hooks, which layers run."""

    def __init__(self, hf: Any) -> None:
        self.layers: list[int] = []
        self._handles = [
            block.register_forward_pre_hook(lambda *_, layer=layer: self.layers.append(layer))
            for layer, block in enumerate(blocks(hf))
        ]

    def __enter__(self) -> Runs:
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()


class TestPatterns:
    @pytest.mark.parametrize("text", DOCUMENTS)
    def test_equal_plain_eager_attention(self, tiny: Tiny, text: str) -> None:
        ids = tiny.ids(text, bos=tiny.session.has_bos, ctx=N_CTX)
        ours = read(tiny.session, ids)
        theirs = oracle.attentions(tiny.plain, ids)
        assert list(ours) == [0, 1]
        for layer, pattern in ours.items():
            assert pattern.dtype == np.float32
            assert pattern.shape == (4, len(ids), len(ids))
            np.testing.assert_allclose(pattern, theirs[layer], rtol=0, atol=1e-5)

    def test_rows_sum_to_one_and_look_back_only(self, tiny: Tiny) -> None:
        for pattern in read(tiny.session, tiny.ids(TEXT)).values():
            np.testing.assert_allclose(pattern.sum(-1), 1, atol=1e-5)
            assert not np.triu(pattern, 1).any()

    def test_fills_the_context(self, tiny: Tiny) -> None:
        ids = (tiny.ids(" ".join(DOCUMENTS)) * 2)[:N_CTX]
        assert len(ids) == N_CTX
        theirs = oracle.attentions(tiny.plain, ids)
        for layer, pattern in read(tiny.session, ids).items():
            np.testing.assert_allclose(pattern, theirs[layer], rtol=0, atol=1e-5)

    def test_a_batch_padded_on_the_right_equals_single_sequences(self, tiny: Tiny) -> None:
        all_ids = [tiny.ids(text, ctx=N_CTX) for text in DOCUMENTS]
        width = max(map(len, all_ids))
        batch = torch.full((len(all_ids), width), 7)
        for row, ids in enumerate(all_ids):
            batch[row, : len(ids)] = torch.tensor(ids)
        for layer, patterns in tiny.session.patterns(batch):
            assert patterns.shape == (len(all_ids), 4, width, width)
            for row, ids in enumerate(all_ids):
                n = len(ids)
                theirs = oracle.attentions(tiny.plain, ids)[layer]
                np.testing.assert_allclose(
                    patterns[row, :, :n, :n].numpy(), theirs, rtol=0, atol=1e-5
                )

    def test_a_subset_of_layers(self, tiny: Tiny) -> None:
        ids = tiny.ids(TEXT)
        whole = read(tiny.session, ids)
        for layers in ([0], [1], [0, 1]):
            some = read(tiny.session, ids, layers=layers)
            assert list(some) == layers
            for layer in layers:
                np.testing.assert_array_equal(some[layer], whole[layer])

    def test_no_layers_at_all(self, tiny: Tiny) -> None:
        assert read(tiny.session, tiny.ids(TEXT), layers=[]) == {}

    @pytest.mark.parametrize("layers", [[2], [-1], [0, 99]])
    def test_a_layer_that_is_not_there(self, tiny: Tiny, layers: list[int]) -> None:
        with pytest.raises(ModelError, match="layers"):
            list(tiny.session.patterns([tiny.ids(TEXT)], layers=layers))

    def test_no_layer_above_the_last_wanted_runs(self, tiny: Tiny) -> None:
        with Runs(tiny.session.hf) as runs:
            read(tiny.session, tiny.ids(TEXT), layers=[0])
        assert runs.layers == [0]

    def test_takes_lists_arrays_and_tensors(self, tiny: Tiny) -> None:
        ids = tiny.ids(TEXT)
        wanted = read(tiny.session, ids)[1]
        kinds = (np.array([ids], np.int32), np.array([ids]), torch.tensor([ids]))
        for batch in kinds:
            got = dict(tiny.session.patterns(batch))[1][0].numpy()
            np.testing.assert_array_equal(got, wanted)

    def test_strings_are_refused(self, tiny: Tiny) -> None:
        with pytest.raises((ModelError, TypeError, ValueError)):
            list(tiny.session.patterns(TEXT))

    def test_plain_runs_give_the_same_logits_after_reading(self, tiny: Tiny) -> None:
        ids = torch.tensor([tiny.ids(TEXT)])
        read(tiny.session, tiny.ids(TEXT), layers=[0])
        with torch.no_grad():
            theirs = tiny.plain(ids).logits
        cache = tiny.session.bridge(ids)
        np.testing.assert_allclose(cache.detach().numpy(), theirs.numpy(), atol=1e-4)


class TestPattern:
    @pytest.mark.parametrize("head", [HeadId(0, 0), HeadId(0, 3), HeadId(1, 2)])
    def test_is_the_slice_of_its_layer(self, tiny: Tiny, head: HeadId) -> None:
        ids = tiny.ids(TEXT)
        got = tiny.session.pattern(ids, head)
        assert got.shape == (len(ids), len(ids))
        assert got.dtype == torch.float32
        np.testing.assert_array_equal(got.numpy(), read(tiny.session, ids)[head.layer][head.head])

    def test_runs_no_layer_above(self, tiny: Tiny) -> None:
        with Runs(tiny.session.hf) as runs:
            tiny.session.pattern(tiny.ids(TEXT), HeadId(0, 1))
            assert runs.layers == [0]
            tiny.session.pattern(tiny.ids(TEXT), HeadId(1, 1))
            assert runs.layers == [0, 0, 1]

    def test_one_token(self, tiny: Tiny) -> None:
        assert tiny.session.pattern([5], HeadId(1, 0)).tolist() == [[1.0]]

    @pytest.mark.parametrize("head", [HeadId(2, 0), HeadId(0, 4)])
    def test_a_head_that_is_not_there(self, tiny: Tiny, head: HeadId) -> None:
        with pytest.raises(HeadError, match=f"{head}.*L1H3"):
            tiny.session.pattern([1, 2, 3], head)


class TestRefusals:
    def test_too_long_names_both_lengths(self, tiny: Tiny) -> None:
        ids = [5] * (N_CTX + 1)
        for call in (
            lambda: tiny.session.pattern(ids, HeadId(0, 0)),
            lambda: list(tiny.session.patterns([ids])),
        ):
            with pytest.raises(ContextTooLong, match=rf"{N_CTX + 1}.*{N_CTX}") as caught:
                call()
            assert (caught.value.length, caught.value.limit) == (N_CTX + 1, N_CTX)

    def test_too_long_fails_before_the_first_step(self, tiny: Tiny) -> None:
        with pytest.raises(ContextTooLong):
            tiny.session.patterns([[5] * (N_CTX + 1)])

    @pytest.mark.parametrize("ids", [[], [[]], [[-1, 2]], [[1, 10**6]], [1, 2]])
    def test_ids_that_make_no_sense(self, tiny: Tiny, ids: Any) -> None:
        with pytest.raises(ModelError):
            list(tiny.session.patterns(ids))

    def test_a_session_works_on_after_an_error(self, tiny: Tiny) -> None:
        ids = tiny.ids(TEXT)
        before = read(tiny.session, ids)[1]

        def fail(_: Any) -> None:
            raise RuntimeError("the observer failed")

        with pytest.raises(RuntimeError, match="the observer failed"):
            tiny.session.observe([ids], fail)
        np.testing.assert_array_equal(read(tiny.session, ids)[1], before)


class TestVisible:
    def test_a_causal_row_sees_itself_and_what_came_before(self, tiny: Tiny) -> None:
        for layer in (0, 1):
            assert tiny.session.visible(layer, 9).tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9]

    def test_readings_say_what_they_see_under_padding(self, tiny: Tiny) -> None:
        seen: list[Any] = []
        tiny.session.observe(
            torch.tensor([[5, 6, 7, 8], [5, 6, 0, 0]]),
            lambda reading: seen.append(reading.visible.clone()),
            lengths=[4, 2],
        )
        for rows in seen:
            wide = rows.expand(2, -1)
            assert wide[0].tolist() == [1, 2, 3, 4]
            assert wide[1, :2].tolist() == [1, 2]


class TestSession:
    def test_says_what_it_is(self, gpt2: Tiny, llama: Tiny) -> None:
        for tiny in (gpt2, llama):
            s = tiny.session
            assert (s.n_layers, s.n_heads, s.n_ctx) == (2, 4, N_CTX)
            assert (s.name, s.device, s.dtype) == (str(tiny.folder), "cpu", "float32")
            assert s.bidirectional is False
        assert gpt2.session.has_bos is False
        assert llama.session.has_bos is True

    def test_weights_hash_is_of_the_weights(self, gpt2: Tiny, tmp_path: Path) -> None:
        again = load_model(str(gpt2.folder), device="cpu")
        assert again.weights == gpt2.session.weights
        copy = tmp_path / "copy"
        shutil.copytree(gpt2.folder, copy)
        model = plain_model(copy)
        with torch.no_grad():
            model.transformer.h[1].attn.c_attn.weight[3, 5] += 1e-3
        model.save_pretrained(copy)
        assert load_model(str(copy), device="cpu").weights != gpt2.session.weights

    def test_two_loads_are_two_models_that_agree(self, tiny: Tiny) -> None:
        other = load_model(str(tiny.folder), device="cpu")
        assert other.hf is not tiny.session.hf
        ids = tiny.ids(TEXT)
        one = tiny.session.patterns([ids])
        next(one)  # the first session is busy; the second must not wait for it
        np.testing.assert_array_equal(
            other.pattern(ids, HeadId(1, 1)).numpy(), read(other, ids)[1][1]
        )
        layer, pattern = next(one)
        np.testing.assert_array_equal(pattern[0].numpy(), read(other, ids)[layer])
        one.close()

    def test_the_bridge_gives_the_same_patterns(self, tiny: Tiny) -> None:
        ids = tiny.ids(TEXT)
        names = [f"blocks.{layer}.attn.hook_pattern" for layer in (0, 1)]
        with torch.no_grad():
            _, cache = tiny.session.bridge.run_with_cache(torch.tensor([ids]), names_filter=names)
        ours = read(tiny.session, ids)
        theirs = oracle.attentions(tiny.plain, ids)
        for layer, name in enumerate(names):
            bridge = cache[name][0].numpy()
            np.testing.assert_allclose(bridge, ours[layer], rtol=0, atol=1e-5)
            np.testing.assert_allclose(bridge, theirs[layer], rtol=0, atol=1e-5)

    def test_the_bridge_has_the_output_weights_of_every_head(self, tiny: Tiny) -> None:
        w_o = tiny.session.bridge.W_O
        assert tuple(w_o.shape) == (2, 4, 8, 32)  # (layer, head, d_head, d_model)
        for layer, block in enumerate(blocks(tiny.plain)):
            if hasattr(block, "attn"):
                theirs = block.attn.c_proj.weight  # (head * d_head, d_model)
            else:
                theirs = block.self_attn.o_proj.weight.T
            theirs = theirs.detach().reshape(4, 8, 32)
            np.testing.assert_allclose(w_o[layer].detach().numpy(), theirs.numpy(), atol=1e-6)

    def test_half_precision_still_reads_float32_patterns(self, tiny: Tiny) -> None:
        rough = load_model(str(tiny.folder), device="cpu", dtype="bfloat16")
        ids = tiny.ids(TEXT)
        for layer, pattern in read(rough, ids).items():
            assert pattern.dtype == np.float32
            np.testing.assert_allclose(pattern.sum(-1), 1, atol=1e-5)
            if layer == 0:
                theirs = oracle.attentions(tiny.plain, ids)[layer]
                assert np.abs(pattern - theirs).mean() < 0.01


def unspell(texts: tuple[str, ...]) -> bytes:
    r"""The bytes that display texts stand for: ``\xNN`` is one byte."""
    out = b""
    for text in texts:
        for part in re.split(r"((?:\\x[0-9a-f]{2})+)", text):
            spelled = part.startswith("\\x")
            out += bytes.fromhex(part.replace("\\x", "")) if spelled else part.encode()
    return out


class TestEncode:
    @pytest.mark.parametrize(
        "text", [*DOCUMENTS, " leading", "trailing ", "two  spaces\n\nlines\t"]
    )
    def test_ids_and_texts_are_those_of_the_tokenizer(self, tiny: Tiny, text: str) -> None:
        tokens = tiny.session.encode(text, bos=False)
        assert tokens.ids.tolist() == tiny.ids(text)
        assert tokens.ids.dtype == np.int32
        assert len(tokens.texts) == len(tokens.ids) == len(tokens)
        assert not tokens.truncated

    @pytest.mark.parametrize(
        "text",
        [*DOCUMENTS, "👨\u200d👩\u200d👧 “a”", "é" * 30],
    )
    def test_no_text_is_a_replacement_character(self, tiny: Tiny, text: str) -> None:
        tokens = tiny.session.encode(text, bos=False)
        assert all("\ufffd" not in shown for shown in tokens.texts)
        assert all(label and "\ufffd" not in label for label in tokens.labels)

    @pytest.mark.parametrize("text", ["😀 “quoted” naïve 日本語", "plain words only"])
    def test_texts_spell_the_text(self, tiny: Tiny, text: str) -> None:
        tokens = tiny.session.encode(text, bos=False)
        assert "".join(tokens.texts) == text
        assert unspell(tokens.names) == text.encode()

    @pytest.mark.parametrize("special", ["<s>", "</s>", "<|endoftext|>"])
    def test_special_tokens_in_the_text_stay_literal(self, tiny: Tiny, special: str) -> None:
        tokens = tiny.session.encode(f"a {special} b", bos=False)
        assert not set(tokens.ids.tolist()) & set(tiny.session.tokenizer.all_special_ids)
        assert "".join(tokens.texts) == f"a {special} b"
        assert len(tiny.session.encode(special, bos=False)) > 1

    def test_bos_where_the_tokenizer_has_one(self, gpt2: Tiny, llama: Tiny) -> None:
        assert gpt2.session.encode("the cat").ids.tolist() == gpt2.ids("the cat")
        with_bos = llama.session.encode("the cat")
        assert with_bos.ids.tolist() == llama.ids("the cat", bos=True)
        assert with_bos.texts[0] == "<s>"
        assert llama.session.encode("the cat", bos=False).ids.tolist() == llama.ids("the cat")

    def test_bos_asked_for_where_there_is_none(self, gpt2: Tiny) -> None:
        with pytest.raises(ModelError, match="BOS"):
            gpt2.session.encode("the cat", bos=True)

    def test_one_token_and_none(self, gpt2: Tiny, llama: Tiny) -> None:
        assert gpt2.session.encode("x").texts == ("x",)
        assert llama.session.encode("x").texts == ("<s>", "x")
        assert len(gpt2.session.encode("")) == 0
        assert llama.session.encode("").texts == ("<s>",)

    def test_a_limit_counts_the_bos_and_says_that_it_cut(self, llama: Tiny) -> None:
        whole = llama.session.encode(TEXT)
        cut = llama.session.encode(TEXT, limit=6)
        assert cut.ids.tolist() == whole.ids[:6].tolist()
        assert cut.texts == whole.texts[:6]
        assert cut.truncated
        assert not llama.session.encode(TEXT, limit=len(whole)).truncated
        assert llama.session.encode(TEXT, limit=len(whole) - 1).truncated

    def test_a_limit_cuts_a_very_long_text_like_any_other(self, tiny: Tiny) -> None:
        text = "the cat sat on the mat 😀 " * 2000
        tokens = tiny.session.encode(text, bos=False, limit=50)
        assert tokens.ids.tolist() == tiny.ids(text)[:50]
        assert tokens.truncated

    def test_lone_surrogates_do_not_crash(self, tiny: Tiny) -> None:
        tokens = tiny.session.encode("a \ud83d b", bos=False)
        assert "\ufffd" not in "".join(tokens.texts)


class TestLoad:
    def test_unknown_names(self) -> None:
        for name in ("no-such-model-anywhere", "no/such-model", "a/b/c", "./nothing-here", "@main"):
            with pytest.raises(ModelError) as caught:
                load_model(name, device="cpu")
            assert "\n" not in str(caught.value)

    def test_a_folder_without_a_model(self, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match=r"config\.json"):
            load_model(str(tmp_path), device="cpu")

    def test_folders_with_half_a_model(self, tiny_gpt2: Path, tmp_path: Path) -> None:
        for i, name in enumerate(("model.safetensors", "tokenizer.json")):
            copy = tmp_path / str(i)
            shutil.copytree(tiny_gpt2, copy)
            (copy / name).unlink()
            with pytest.raises(ModelError) as caught:
                load_model(str(copy), device="cpu")
            assert "\n" not in str(caught.value)

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("config.json", "{"),
            ("config.json", "[]"),
            ("config.json", json.dumps({"model_type": "no-such-type"})),
            ("model.safetensors", "not safetensors"),
            ("tokenizer.json", "{}"),
            ("tokenizer_config.json", "5"),
        ],
    )
    def test_broken_files(self, tiny_gpt2: Path, tmp_path: Path, name: str, text: str) -> None:
        copy = tmp_path / "copy"
        shutil.copytree(tiny_gpt2, copy)
        (copy / name).write_text(text)
        with pytest.raises(ModelError) as caught:
            load_model(str(copy), device="cpu")
        assert "\n" not in str(caught.value)

    def test_weights_that_are_missing_in_part(self, tiny_gpt2: Path, tmp_path: Path) -> None:
        """Transformers fills in missing weights at random and only warns."""
        from safetensors.torch import load_file, save_file

        copy = tmp_path / "copy"
        shutil.copytree(tiny_gpt2, copy)
        weights = load_file(copy / "model.safetensors")
        del weights[next(name for name in weights if "h.1.attn.c_attn.weight" in name)]
        save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(ModelError):
            load_model(str(copy), device="cpu")

    @pytest.mark.parametrize("dtype", ["float31", "", "int8", "torch.float32"])
    def test_dtype_nonsense(self, tiny_gpt2: Path, dtype: str) -> None:
        with pytest.raises(ModelError, match="float32"):
            load_model(str(tiny_gpt2), device="cpu", dtype=dtype)

    @pytest.mark.parametrize("device", ["nonsense", "cpu:x", "cuda:99", "meta", ""])
    def test_device_nonsense(self, tiny_gpt2: Path, device: str) -> None:
        with pytest.raises(ModelError):
            load_model(str(tiny_gpt2), device=device)

    def test_the_default_comes_from_the_settings(
        self, tiny_gpt2: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("ATTN_MODEL", str(tiny_gpt2))
        assert load_model(device="cpu").n_layers == 2


class TestBuiltin:
    @pytest.fixture(scope="class")
    @classmethod
    def plain(cls, builtin: Path) -> Any:
        return plain_model(builtin)

    def test_says_what_it_is(self, session: ModelSession) -> None:
        assert (session.n_layers, session.n_heads) == (30, 9)
        assert session.name == "smollm2-135m"
        assert session.has_bos

    @pytest.mark.parametrize("place", [0, 17, 101])
    def test_patterns_equal_plain_eager_attention(
        self, session: ModelSession, plain: Any, place: int
    ) -> None:
        from attn.corpus.corpus import load_corpus

        text = list(load_corpus("sample", docs=place + 1))[place].text
        ids = session.encode(text, limit=96).ids.tolist()
        theirs = oracle.attentions(plain, ids)
        layers = 0
        for layer, pattern in session.patterns([ids]):
            np.testing.assert_allclose(pattern[0].numpy(), theirs[layer], rtol=0, atol=1e-5)
            layers += 1
        assert layers == 30

    def test_encode(self, session: ModelSession) -> None:
        text = "A smile 😀, “quoted”, <|im_start|> and <|endoftext|>: naïve 日本語."
        tokens = session.encode(text)
        assert tokens.ids[0] == session.tokenizer.bos_token_id
        assert not set(tokens.ids[1:].tolist()) & set(session.tokenizer.all_special_ids)
        assert "\ufffd" not in "".join(tokens.texts)
        assert "".join(tokens.texts[1:]) == text
        assert unspell(tokens.names[1:]) == text.encode()

    def test_the_bridge_has_the_output_weights_of_every_head(self, session: ModelSession) -> None:
        assert tuple(session.bridge.W_O.shape) == (30, 9, 64, 576)


class TestComparedWithTheBridge:
    """Once on a machine: the comparison costs seconds, and comes out the same each time."""

    @pytest.fixture
    def booted(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """The models for which a Bridge was booted; nothing has been compared before."""
        from attn.models import session as module

        monkeypatch.setenv("ATTN_CACHE", str(tmp_path / "cache"))
        calls, real = list[str](), module.boot

        def boot(*args: Any) -> Any:
            calls.append(args[2])
            return real(*args)

        monkeypatch.setattr(module, "boot", boot)
        return calls

    def test_once(self, gpt2: Tiny, booted: list[str]) -> None:
        for _ in range(2):
            read(load_model(str(gpt2.folder), device="cpu"), [1, 2, 3])
        assert len(booted) == 1
        assert load_model(str(gpt2.folder), device="cpu").bridge is not None

    def test_other_weights_and_another_dtype_are_compared_too(
        self, gpt2: Tiny, tmp_path: Path, booted: list[str]
    ) -> None:
        load_model(str(gpt2.folder), device="cpu")
        load_model(str(gpt2.folder), device="cpu", dtype="bfloat16")
        other = save_gpt2(
            tmp_path / "other", lambda model: model.transformer.wte.weight.data.mul_(2)
        )
        load_model(str(other), device="cpu")
        assert len(booted) == 3

    def test_a_model_that_differs_is_refused_each_time(
        self, gpt2: Tiny, booted: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from attn.models import checks

        real = checks.check

        def differs(
            name: str, readings: Any, layers: Any, own: Any, bridge: Any, dtype: str
        ) -> Any:
            if bridge is not None:
                bridge = {layer: pattern.flip(-1) for layer, pattern in bridge.items()}
            return real(name, readings, layers, own, bridge, dtype)

        monkeypatch.setattr(checks, "check", differs)
        for _ in range(2):
            with pytest.raises(ModelError, match="differs from the Bridge's"):
                load_model(str(gpt2.folder), device="cpu")
        assert len(booted) == 2

    def test_a_folder_that_cannot_be_written_is_no_failure(
        self, gpt2: Tiny, booted: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "file").write_text("no folder")
        monkeypatch.setenv("ATTN_CACHE", str(tmp_path / "file"))
        assert load_model(str(gpt2.folder), device="cpu").n_layers == 2
