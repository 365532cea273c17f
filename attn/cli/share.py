"""Commands that hand an index on: export, import, push, pull."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from attn.cli.options import IndexPath, Out, Repository
from attn.cli.output import print_received, say

commands = typer.Typer()


@commands.command("export")
def export_command(
    index: IndexPath,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file to write, like a.tar.")],
) -> None:
    """Write an index into one file, to hand on. Descriptions beside the index are not part of it.

    They have an export of their own: `descriptions INDEX --json`.
    """
    from attn.index.archive import export_index

    print(export_index(index, file))


@commands.command("import")
def import_command(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file that `export` wrote.")],
    out: Out = None,
) -> None:
    """Check an exported index to the byte and print the folder that it is in then."""
    from attn.config import settings
    from attn.index.archive import import_index

    print_received(import_index(file, out or settings().indexes))


@commands.command()
def push(
    index: IndexPath,
    name: Repository,
    private: Annotated[
        bool, typer.Option("--private", help="Make the repository private, where it is made.")
    ] = False,
    path: Annotated[
        str | None, typer.Option(metavar="NAME", help="A folder of the repository.")
    ] = None,
) -> None:
    """Put an index into a dataset repository of the Hugging Face Hub, in one commit.

    The corpus's texts are part of an index, and its descriptions are not.
    """
    from attn.config import load_environment
    from attn.index.hub import push_index

    load_environment()
    print(push_index(index, name, private=private, path=path, say=say))


@commands.command()
def pull(
    name: Repository,
    revision: Annotated[str | None, typer.Option(help="A branch, tag or commit.")] = None,
    path: Annotated[
        str | None, typer.Option(metavar="NAME", help="A folder of the repository.")
    ] = None,
    out: Out = None,
) -> None:
    """Get an index from the Hugging Face Hub, check it, and print the folder that it is in then."""
    from attn.config import settings
    from attn.index.hub import pull_index

    where = out or settings().indexes
    print_received(pull_index(name, where, revision=revision, path=path, say=say))
