"""Commands as tests run them."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from typing import NamedTuple

import pytest

from attn.cli.main import main


class Done(NamedTuple):
    """What a command came to."""

    returncode: int
    stdout: str
    stderr: str


def attn(*words: object, **env: str) -> Done:
    """A command, in this process: importing a model's libraries takes seconds."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", ["attn", *map(str, words)])
        for name, value in env.items():
            patch.setenv(name, value)
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
    return Done(code, out.getvalue(), err.getvalue())


def process(*words: object, **env: str) -> subprocess.CompletedProcess[str]:
    """A command as a user runs it."""
    return subprocess.run(
        [sys.executable, "-m", "attn", *map(str, words)],
        capture_output=True,
        text=True,
        env=os.environ | env,
        timeout=120,
    )
