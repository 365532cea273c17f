"""All probes of a model, run once and kept in the cache folder.

They are kept under the hash of its weights, its configuration and vocabulary, and of the code here.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from attn.config import settings
from attn.measure import circuits, draws, norms, weights
from attn.measure.metrics import NotMeasured, of_kind
from attn.measure.probes.model import ProbedModel

_REASONS = "reasons"


def measure_probes(session: Any) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Each probe of every head: name → (layer, head) float64, and name → why there is none.

    NaN in layers without attention. Read from the cache folder where they are there already.
    """
    place = settings().cache / "probes" / f"{session.weights[:32]}-{_rest(session)[:32]}.npz"
    try:
        with place.open("rb") as file, np.load(file, allow_pickle=False) as kept:
            reasons = json.loads(str(kept[_REASONS]))
            return {name: kept[name] for name in kept.files if name != _REASONS}, reasons
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile):  # none, or damaged
        pass
    found, reasons = run_probes(session)
    weights.keep(found | {_REASONS: np.array(json.dumps(reasons))}, place)
    return found, reasons


def run_probes(session: Any) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The same, measured now."""
    import torch

    model = ProbedModel(session)
    found: dict[str, np.ndarray] = {}
    reasons: dict[str, str] = {}
    for name, probe in of_kind("probe").items():
        try:
            with torch.no_grad():
                found[name] = np.asarray(probe(model), np.float64)
        except NotMeasured as error:
            reasons[name] = str(error)
    return found, reasons


def _rest(session: Any) -> str:
    """A hash of what decides the numbers beside the weights."""
    digest = hashlib.sha256(weights.shape_of(session).encode())
    told = [sorted(session.tokenizer.get_vocab().items()), session.bos_id, session.n_ctx]
    digest.update(json.dumps(told).encode())
    own = sorted(Path(str(__file__)).parent.glob("*.py"))
    for file in (*own, *(Path(str(m.__file__)) for m in (circuits, draws, norms, weights))):
        digest.update(file.read_bytes())
    for probe in of_kind("probe").values():
        digest.update(inspect.getsource(probe).encode())
    return digest.hexdigest()
