"""Run the tour: ``python -m tests.tour`` writes a run's outputs into notebooks/tour.ipynb."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
TOUR = ROOT / "notebooks" / "tour.ipynb"
CLEAN = {
    "PYTHONPATH": str(ROOT),
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
    "PLOTLY_RENDERER": "plotly_mimetype",  # figures as JSON, without Plotly's own megabytes
    "PYTHONWARNINGS": "ignore",
}
"""What a run's environment has; what it lacks is :data:`UNSET`."""

UNSET = ("LLM_URL", "LLM_MODEL", "LLM_KEY", "MODEL", "INDEXES")


def executed(folder: Path) -> Any:
    """The notebook with the outputs of a fresh run in ``folder``, whatever is in it now."""
    import nbclient
    import nbformat

    tour = nbformat.read(TOUR, as_version=4)
    before = dict(os.environ)
    os.environ.update(CLEAN)
    for name in [f"ATTN_{name}" for name in UNSET] + ["OPENAI_API_KEY", "OPENAI_BASE_URL"]:
        os.environ.pop(name, None)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            client = nbclient.NotebookClient(
                tour,
                timeout=600,
                kernel_name="python3",
                record_timing=False,
                resources={"metadata": {"path": str(folder)}},
            )
            client.execute()
    finally:
        os.environ.clear()
        os.environ.update(before)
    tour.metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    return tour


if __name__ == "__main__":
    import tempfile

    import nbformat

    with tempfile.TemporaryDirectory() as folder:
        nbformat.write(executed(Path(folder)), TOUR)
