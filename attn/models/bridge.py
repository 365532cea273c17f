"""A Hugging Face model → a TransformerBridge on its weights. The only user of transformer_lens.

Importing transformer_lens takes seconds, so a Bridge is booted when it is first asked for, and the
comparison of a model's first reading with the Bridge's is made once on a machine.
"""

from __future__ import annotations

import copy
import hashlib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from attn.config import settings
from attn.errors import ModelError

_DECIDE = ("torch", "transformers", "transformer_lens")


def boot(hf: Any, tokenizer: Any, name: str, device: str, dtype: torch.dtype) -> Any:
    """A TransformerBridge on a twin of the model that shares its weights.

    Raises ModelError for an architecture that the Bridge does not know.
    """
    from transformer_lens.model_bridge import TransformerBridge

    twin = twin_of(hf)
    twin.set_attn_implementation("eager")
    try:
        return TransformerBridge.boot_transformers(
            tokenizer.name_or_path,
            hf_model=twin,
            tokenizer=copy.deepcopy(tokenizer),  # the Bridge sets its BOS if it is missing
            device=device,
            dtype=dtype,
        )
    except Exception as error:  # the adapters of its architectures raise many kinds of errors
        raise ModelError(
            f"TransformerBridge cannot read {name} ({hf.config.model_type}): choose another model."
        ) from error


def twin_of(hf: Any) -> Any:
    """A copy of a model that shares its weights and reports to no session."""
    memo = {id(t): t for t in [*hf.parameters(), *hf.buffers()]}
    for module in hf.modules():
        watch = module.__dict__.get("attn_watch")  # a session's, which reads this model
        memo |= {} if watch is None else {id(watch): watch}
    twin = copy.deepcopy(hf, memo=memo)
    for module in twin.modules():
        module.__dict__.pop("attn_watch", None)
        for key, hook in list(module._forward_hooks.items()):
            if hook.__module__ == "attn.models.hooks":
                del module._forward_hooks[key]
    return twin


class Compared:
    """Whether a model's first reading was compared with the Bridge's before, on this machine.

    ``weights`` the hash of the model's weights. The same weights, configuration, kind of device and
    number type, read by the same code and libraries, give the same comparison.
    """

    def __init__(self, weights: str, config: Any, device: str, dtype: str) -> None:
        digest = hashlib.sha256()
        told = [weights, config.to_json_string(), torch.device(device).type, dtype]
        for part in [*told, *map(version, _DECIDE)]:
            digest.update(f"{part}\n".encode())
        for file in sorted(Path(__file__).parent.glob("*.py")):
            digest.update(file.read_bytes())
        self._place = settings().cache / "compared" / digest.hexdigest()

    def __bool__(self) -> bool:
        return self._place.is_file()

    def keep(self) -> None:
        """Remember it; a folder that cannot be written is left alone."""
        try:
            self._place.parent.mkdir(parents=True, exist_ok=True)
            self._place.touch()
        except OSError:
            pass
