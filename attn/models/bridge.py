"""A Hugging Face model → a TransformerBridge on its weights. The only user of transformer_lens."""

from __future__ import annotations

import copy
from typing import Any

import torch

from attn.errors import ModelError


def boot(hf: Any, tokenizer: Any, name: str, device: str, dtype: torch.dtype) -> Any:
    """A TransformerBridge on a twin of the model that shares its weights.

    Raises ModelError for an architecture that the Bridge does not know.
    """
    from transformer_lens.model_bridge import TransformerBridge

    shared = {id(t): t for t in [*hf.parameters(), *hf.buffers()]}
    twin = copy.deepcopy(hf, memo=shared)
    try:
        return TransformerBridge.boot_transformers(
            tokenizer.name_or_path,
            hf_model=twin,
            tokenizer=tokenizer,
            device=device,
            dtype=dtype,
        )
    except Exception as error:  # the adapters of its architectures raise many kinds of errors
        raise ModelError(
            f"TransformerBridge cannot read {name} ({hf.config.model_type}): choose another model."
        ) from error
