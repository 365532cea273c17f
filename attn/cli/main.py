"""The command line: ``attn`` or ``python -m attn``. Tables for people, ``--json`` for programs."""

from __future__ import annotations

import io
import sys

import typer

from attn.cli import app as app_commands
from attn.cli import describe, doctor, effects, heads, scan, share, why
from attn.errors import AttnError

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Explore the attention heads of transformer language models.",
)
for group in (app_commands, scan, heads, why, effects, share, describe, doctor):
    app.add_typer(group.commands)


def main() -> None:
    """Run the command line; errors of ours become one sentence and exit code 2.

    A terminal that cannot show a character gets a replacement for it.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        app()
    except AttnError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:
        sys.exit(1)
