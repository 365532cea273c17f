"""The command that says what is installed, fetched and scanned, and what to do about the rest."""

from __future__ import annotations

import json
import os
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer

from attn.config import BUILTIN_MODEL, Settings, settings
from attn.formatting import data_size

commands = typer.Typer()

_SPACE = 3 * 10**9  # bytes that the built-in model and its first index need, with room to spare


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's: ``what`` was looked at and ``found``; ``remedy`` where it lacks.

    ``needed`` whether nothing works without it.
    """

    what: str
    found: str
    remedy: str = ""
    needed: bool = False


@commands.command()
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Say what is installed, fetched and scanned, and what to do about what is missing.

    Ends with exit code 2 where something is missing that nothing works without.
    """
    kept = settings()
    findings = [
        *_versions(), *_packages(), _device(), *_folders(kept), _builtin(kept), _indexes(kept),
        _language_model(),
    ]  # fmt: skip
    for one in findings:
        if as_json:
            print(json.dumps(asdict(one)))
        else:
            print(f"{one.what:22}{one.found}" + (f"\n{'':22}→ {one.remedy}" if one.remedy else ""))
    if any(one.needed and one.remedy for one in findings):
        raise typer.Exit(2)


def _versions() -> list[Finding]:
    import platform

    return [
        Finding("attn", _version("attn") or f"a checkout, {Path(__file__).parents[2].name}"),
        Finding("python", f"{platform.python_version()}, {platform.system()} {platform.machine()}"),
    ]


def _version(package: str) -> str | None:
    from importlib import metadata

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def requirements() -> dict[str, list[str]]:
    """What attn needs: extra → requirements, those of the library itself under ``""``.

    From the installed package, or from pyproject.toml in a checkout.
    """
    import tomllib
    from importlib import metadata

    file = Path(__file__).parents[2] / "pyproject.toml"
    if file.is_file():
        project = tomllib.loads(file.read_text(encoding="utf-8"))["project"]
        return {"": project["dependencies"], **project["optional-dependencies"]}
    found: dict[str, list[str]] = {"": []}
    for line in metadata.requires("attn") or []:
        requirement, _, marker = line.partition(";")
        extra = re.search(r"""extra == ['"]([\w-]+)['"]""", marker)
        found.setdefault(extra[1] if extra else "", []).append(requirement.strip())
    return found


def _packages() -> list[Finding]:
    """The packages of the library, then those of every extra."""
    return [_group(extra, lines) for extra, lines in requirements().items()]


def _group(extra: str, lines: list[str]) -> Finding:
    from packaging.requirements import Requirement

    missing, others = [], []
    for requirement in map(Requirement, lines):
        if requirement.name == "attn":  # an extra that takes another one in
            continue
        version = _version(requirement.name)
        if version is None:
            missing.append(requirement.name)
        elif not requirement.specifier.contains(version, prereleases=True):
            others.append(f"{requirement.name} {version} (wanted: {requirement.specifier})")
    what = f"extra {extra}" if extra else "packages"
    name = f'"attn[{extra}]"' if extra else "attn"
    if not missing and not others:
        return Finding(what, "complete")
    found = [f"missing: {', '.join(missing)}"] if missing else []
    found += [f"other versions: {', '.join(others)}"] if others else []
    needed = not extra and bool(missing)
    return Finding(what, "; ".join(found), f"run `pip install --upgrade {name}`", needed)


def _device() -> Finding:
    try:
        import torch
    except ImportError:
        return Finding("device", "unknown: torch cannot be imported", "run `pip install attn`")
    if torch.cuda.is_available():
        n = torch.cuda.device_count()
        memory = data_size(torch.cuda.get_device_properties(0).total_memory)
        return Finding("device", f"{n} × {torch.cuda.get_device_name(0)}, {memory}; torch "
                                 f"{torch.__version__}")  # fmt: skip
    if torch.backends.mps.is_available():
        return Finding("device", f"Apple GPU (mps); torch {torch.__version__}")
    return Finding("device", f"CPU, {os.cpu_count()} cores; torch {torch.__version__}")


def _folders(kept: Settings) -> list[Finding]:
    return [
        _folder("cache", "ATTN_CACHE", kept.cache),
        _folder("indexes", "ATTN_INDEXES", kept.indexes),
    ]


def _folder(what: str, variable: str, folder: Path) -> Finding:
    import shutil

    there = next(path for path in (folder, *folder.parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        return Finding(
            what, f"{folder} cannot be written", f"choose another folder by {variable}", True
        )
    free = shutil.disk_usage(there).free
    remedy = "" if free >= _SPACE else f"make room: the first index needs {data_size(_SPACE)}"
    return Finding(what, f"{folder}, {data_size(free)} free", remedy)


def _builtin(kept: Settings) -> Finding:
    from attn.errors import AttnError
    from attn.models import builtin

    try:
        builtin.folder(kept.cache)
    except AttnError:
        return Finding(BUILTIN_MODEL, "not fetched", "run `attn fetch` (89 MB)")
    return Finding(BUILTIN_MODEL, "fetched and converted")


def _indexes(kept: Settings) -> Finding:
    from attn.errors import AttnError
    from attn.index.index import Index, find_indexes

    good, bad = 0, []
    for path in find_indexes(kept.indexes):
        try:
            Index.open(path)
            good += 1
        except AttnError:
            bad.append(path.name)
    if bad:
        return Finding(
            "scanned", f"{good} indexes open; {', '.join(bad)} cannot be opened",
            "remove them, and scan again",
        )  # fmt: skip
    if not good:
        return Finding("scanned", "no index yet", "run `attn scan`")
    return Finding("scanned", f"{good} {'index' if good == 1 else 'indexes'}")


def _language_model() -> Finding:
    """The server that descriptions would ask, as they find it. The key is not shown."""
    from attn.describe.servers import configured
    from attn.errors import NoServer

    try:
        server = configured()
    except NoServer as error:
        return Finding("language model", "none: only descriptions need one", str(error))
    return Finding("language model", f"{server.model} at {server.host}")
