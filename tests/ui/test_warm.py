"""The model is loaded once the first page stands, in a thread that the page does not wait for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.ui.conftest import APP

SCRIPT = """
import sys, time
from streamlit.testing.v1 import AppTest
import attn.ui.library as library

begun = []
def get(self, name, device="auto", dtype="float32", get=library.Models.get):
    begun.append((name, "torch" in sys.modules))
    return get(self, name, device, dtype)
library.Models.get = get
app = AppTest.from_file(sys.argv[1], default_timeout=60)
app.run()
app.run()
assert not begun  # the browser is drawing
deadline = time.monotonic() + 120
while not begun:
    assert time.monotonic() < deadline
    time.sleep(0.05)
(name, torch_before), *others = begun
assert not others and not torch_before, begun
while not library.models().holds(name):
    assert time.monotonic() < deadline
    time.sleep(0.05)
print("warm")
"""


def test_the_model_is_warmed_once_the_page_stands(tiny_indexes: Path) -> None:
    env = os.environ | {"ATTN_INDEXES": str(tiny_indexes), "ATTN_WARM": "1"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(APP)],
        env=env,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.stdout.strip() == "warm", done.stderr
