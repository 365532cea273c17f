"""The command that starts the app."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from attn.errors import PackageMissing

commands = typer.Typer()


def app_file() -> Path:
    """The file that Streamlit runs: beside the package in a checkout, inside it where installed.

    Streamlit takes `.streamlit/config.toml` and `pages/` from the folder of this file.
    """
    package = Path(__file__).parents[1]
    installed = package / "installed" / "app.py"
    return installed if installed.is_file() else package.parent / "app.py"


@commands.command(
    "app", context_settings={"allow_extra_args": True, "ignore_unknown_options": True}
)
def app_command(
    context: typer.Context,
    port: Annotated[int, typer.Option(help="Port to listen at.", min=0, max=65535)] = 8501,
    address: Annotated[
        str, typer.Option(help="Address to listen at; 0.0.0.0 lets other machines in.")
    ] = "localhost",
) -> None:
    """Start the app in this process. Other options go to `streamlit run` as they are."""
    if importlib.util.find_spec("streamlit") is None:
        raise PackageMissing("The app", "streamlit", "app")
    command = [sys.executable, "-m", "streamlit", "run", str(app_file())]
    options = [f"--server.port={port}", f"--server.address={address}", *context.args]
    os.execv(sys.executable, [*command, *options])
