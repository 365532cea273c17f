"""Turns what a notebook holds as a model into a :class:`ModelSession`, without changing it."""

from __future__ import annotations

import copy
import os
from typing import Any

import torch

from attn.errors import ModelError
from attn.heads import HeadId
from attn.models import checks, pretrained
from attn.models.bridge import twin_of
from attn.models.session import DTYPES, ModelSession, load_model


def session_of(model: object) -> ModelSession:
    """A session of a model: by name, already a session, a TransformerBridge, or (model, tokenizer).

    The pair is a Hugging Face model and its fast tokenizer. A model that is given is read through
    a twin that shares its weights. Raises :class:`ModelError` for anything else, for a model whose
    attention cannot be read, and for a Bridge whose weights were changed after it was booted.
    """
    if isinstance(model, ModelSession):
        return model
    if model is None or isinstance(model, str | os.PathLike):
        return load_model(None if model is None else os.fspath(model))
    if isinstance(model, tuple) and len(model) == 2:
        return _of_pair(*model)
    if hasattr(model, "original_model") and hasattr(model, "run_with_cache"):
        return _of_bridge(model)
    raise ModelError(
        f"A {type(model).__name__} is no model: give a name, a ModelSession, a TransformerBridge, "
        f"or a pair of a Hugging Face model and its tokenizer."
    )


def _of_pair(hf: Any, tokenizer: Any) -> ModelSession:
    if not isinstance(hf, torch.nn.Module):
        raise ModelError("The pair is a Hugging Face model and its fast tokenizer, in this order.")
    twin = twin_of(hf)
    loaded_as = getattr(getattr(hf, "config", None), "_attn_implementation", "eager")
    try:
        return _session(twin, tokenizer)
    except ModelError as error:
        if loaded_as == "eager":
            raise
        # Falcon chooses its attention's class when it is made.
        other = "or load it with attn_implementation='eager' before it is given."
        raise ModelError(f"{str(error).removesuffix('.')}, {other}") from error


def _session(hf: Any, tokenizer: Any) -> ModelSession:
    if not hasattr(hf, "base_model") or not getattr(tokenizer, "is_fast", False):
        raise ModelError("The pair is a Hugging Face model and its fast tokenizer, in this order.")
    weight = next(hf.parameters())
    dtype = str(weight.dtype).removeprefix("torch.")
    if dtype not in DTYPES:
        raise ModelError(f"The model's weights are {dtype}: choose {', '.join(DTYPES)}.")
    tokenizer = copy.deepcopy(tokenizer)  # the Bridge sets it if it is missing
    name = hf.config.name_or_path or type(hf).__name__
    pretrained.check_vocabulary(name, hf, tokenizer)
    tokenizer.name_or_path = tokenizer.name_or_path or name
    hf.config.architectures = hf.config.architectures or [type(hf).__name__]
    hf.set_attn_implementation("eager")
    revision = getattr(hf.config, "_commit_hash", None) or ""
    with pretrained.quiet():
        return ModelSession(
            hf, tokenizer, name=name, device=str(weight.device), dtype=dtype, revision=revision
        )


def _tokenizer_of(bridge: Any) -> Any:
    """A Bridge's tokenizer, with the BOS that it had before: the Bridge gives one to all."""
    import transformers

    try:
        fresh = transformers.AutoTokenizer.from_pretrained(
            bridge.tokenizer.name_or_path, local_files_only=True, trust_remote_code=False
        )
    except (OSError, ValueError):  # it is not on disk, so it is taken as it is
        return bridge.tokenizer
    tokenizer = copy.deepcopy(bridge.tokenizer)
    if fresh.get_vocab() == tokenizer.get_vocab():
        tokenizer.bos_token, tokenizer.cls_token = fresh.bos_token, fresh.cls_token
    return tokenizer


def _of_bridge(bridge: Any) -> ModelSession:
    """A session of the model inside a Bridge, which has replaced some of its modules."""
    inner = bridge.original_model
    config = copy.deepcopy(inner.config)
    config._attn_implementation = "eager"
    dtype = next(inner.parameters()).dtype
    hf = type(inner)(config).to(next(inner.parameters()).device, dtype)
    known = {
        key.replace("._original_component", ""): tensor
        for key, tensor in inner.state_dict().items()
    }
    wanted = hf.state_dict()
    missing = sorted(wanted.keys() - known.keys())
    if missing:
        raise ModelError(
            f"The weights of the TransformerBridge cannot be found ({missing[0]}): give the "
            f"Hugging Face model and its tokenizer as a pair."
        )
    hf.load_state_dict({key: known[key] for key in wanted})
    session = _session(hf, _tokenizer_of(bridge))
    ids = checks.probe(hf, session.n_ctx, session.n_vocab).to(session.device)
    names = [f"blocks.{layer}.attn.hook_pattern" for layer in range(session.n_layers)]
    with torch.no_grad():
        _, cache = bridge.run_with_cache(ids, names_filter=names)
    for layer, name in enumerate(names):
        for head in range(session.n_heads) if name in cache else ():
            ours = session.pattern(ids[0], HeadId(layer, head))
            apart = (ours - cache[name][0, head].float()).abs().sum(-1).max()
            if not float(apart) <= checks.TOLERANCE[session.dtype]:
                raise ModelError(
                    f"The TransformerBridge reads layer {layer} otherwise than its Hugging Face "
                    f"model: give that model and its tokenizer as a pair."
                )
    return session
