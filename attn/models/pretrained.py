"""Loads Hugging Face models and tokenizers by name, in safe ways only."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from attn.config import BUILTIN_MODEL
from attn.errors import ModelError
from attn.models import builtin


def find_device(device: str) -> str:
    """A torch device by name; ``auto`` is CUDA, then MPS, then the CPU. Raises ModelError."""
    if device == "auto":
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ModelError(f"Device {device!r} is not available here: use cpu or auto.") from error
    return device


def locate(name: str) -> tuple[str, str | None]:
    """A model's name → what `from_pretrained` takes, and the revision asked for."""
    if name == BUILTIN_MODEL:
        return str(builtin.folder()), None
    folder = Path(name).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise ModelError(f"Folder {name} holds no model: it lacks config.json.")
        return str(folder), None
    path, _, revision = name.partition("@")
    if not path or path.startswith((".", "/", "~")) or path.count("/") > 1:
        raise ModelError(
            f"There is no model {name!r}: give {BUILTIN_MODEL}, a Hugging Face id or a folder."
        )
    return path, revision or None


def load(name: str, path: str, revision: str | None, dtype: torch.dtype) -> tuple[Any, Any]:
    """Load model and tokenizer safely: no remote code, no pickle, no remote kernels."""
    import transformers
    from transformers.models.auto import modeling_auto as auto

    where: dict[str, Any] = {"revision": revision, "trust_remote_code": False}
    try:
        config = transformers.AutoConfig.from_pretrained(path, **where)
        kind = config.model_type
        if config.is_encoder_decoder:
            raise ModelError(
                f"{name} ({kind}) is an encoder and a decoder, which cannot be read yet: choose a "
                f"model that is one of them."
            )
        masked = kind in auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES and (
            kind not in auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
            or any("MaskedLM" in a for a in config.architectures or [])
        )
        if not masked and kind not in auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
            raise ModelError(f"{name} ({kind}) is not a language model whose heads can be read.")
        loader = transformers.AutoModelForMaskedLM if masked else transformers.AutoModelForCausalLM
        hf, loaded = loader.from_pretrained(
            path,
            dtype=dtype,
            attn_implementation="eager",
            use_safetensors=True,
            output_loading_info=True,
            **where,
        )
        tokenizer = transformers.AutoTokenizer.from_pretrained(path, **where)
    except ModelError:
        raise
    except Exception as error:  # three libraries raise many kinds of errors for a broken file
        raise ModelError(_reason(name, error)) from error
    if loaded["missing_keys"]:
        missing = min(loaded["missing_keys"])
        raise ModelError(f"The weights of {name} are not complete ({missing} is missing).")
    if not getattr(tokenizer, "is_fast", False):
        raise ModelError(f"{name} has no fast tokenizer, which token texts are taken from.")
    check_vocabulary(name, hf, tokenizer)
    if not hf.config.architectures:
        hf.config.architectures = [type(hf).__name__]
    if not tokenizer.name_or_path:
        tokenizer.name_or_path = path
    return hf, tokenizer


def check_vocabulary(name: str, hf: Any, tokenizer: Any) -> None:
    """Raise ModelError for a tokenizer with ids that the model has no embedding of.

    More embeddings than tokens are no fault: many models have some to spare. Nor are special tokens
    that were added and that no text gives.
    """
    rows = int(hf.get_input_embeddings().weight.shape[0])
    added = {token for token, one in tokenizer.added_tokens_decoder.items() if one.special}
    most = max(
        (token for token in tokenizer.get_vocab().values() if token not in added), default=-1
    )
    if most >= rows:
        raise ModelError(
            f"The tokenizer of {name} has ids up to {most}, and the model embeddings of {rows:,} "
            f"tokens: load the tokenizer that it was trained with, or resize the embeddings."
        )


def _reason(name: str, error: Exception) -> str:
    """A sentence that says why a model could not be loaded."""
    text = str(error)
    if "gated" in text or "401" in text or "403" in text:
        return f"{name} is gated or private: log in with `hf auth login` and accept its terms."
    if "safetensors" in text:
        return f"{name} has no weights as safetensors, which alone are loaded: choose another."
    if any(word in text for word in ("not a valid model identifier", "404", "Repo id")):
        return f"There is no model {name!r}: give {BUILTIN_MODEL}, a Hugging Face id or a folder."
    if any(word in text for word in ("connect", "offline", "resolve", "timed out", "couldn't")):
        return (
            f"Model {name!r} is not on this machine and the Hugging Face Hub cannot be reached: "
            f"check the network, or use {BUILTIN_MODEL} or a local folder."
        )
    first = " ".join(text.split())[:200]
    return f"Model {name!r} cannot be loaded ({first}): choose another model or revision."


def context_length(hf: Any, tokenizer: Any) -> int:
    """The longest sequence that the model takes, in tokens."""
    config = hf.config.get_text_config()
    for name in ("max_position_embeddings", "seq_length"):
        if getattr(config, name, None):
            return int(getattr(config, name)) - _unused_positions(hf)
    limit = int(getattr(tokenizer, "model_max_length", 0) or 0)
    return limit if 0 < limit < 10**7 else 2048


def _unused_positions(hf: Any) -> int:
    """The first positions, which RoBERTa and similar models never use."""
    table = getattr(getattr(hf.base_model, "embeddings", None), "position_embeddings", None)
    padding = getattr(table, "padding_idx", None)
    return 0 if padding is None else int(padding) + 1


@contextmanager
def quiet() -> Iterator[None]:
    """Silence transformers' chatter while a model loads; errors are still raised."""
    import transformers

    loggers = [logging.getLogger(name) for name in ("transformers", "huggingface_hub", "root")]
    levels = [logger.level for logger in loggers]
    bars = transformers.utils.logging.is_progress_bar_enabled()
    transformers.utils.logging.disable_progress_bar()
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if bars:
            transformers.utils.logging.enable_progress_bar()
