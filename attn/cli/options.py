"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

IndexPath = Annotated[Path, typer.Argument(metavar="INDEX", help="Folder that `scan` printed.")]


Head = Annotated[str, typer.Argument(metavar="HEAD", help="A head, like L10H7.")]


Count = Annotated[int, typer.Option("-n", help="How many.", min=1)]


Token = Annotated[str | None, typer.Option(help="Only this source token, like ' the'.")]


Destination = Annotated[str | None, typer.Option(help="Only this destination token.")]


Regex = Annotated[
    bool, typer.Option("--regex", help="--token and --destination are regular expressions.")
]


Apart = Annotated[
    str | None,
    typer.Option(metavar="LOW:HIGH", help="Only so many positions from source to destination."),
]


Out = Annotated[Path | None, typer.Option(help="Where to put the index's folder.")]


Repository = Annotated[str, typer.Argument(metavar="OWNER/NAME", help="A dataset of the Hub.")]


Json = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]
