"""DESIGN.md's layout: who may import whom. What ruff's banned imports cannot say is said here."""

from __future__ import annotations

import ast
import graphlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]

FLOORS = [
    [
        "errors",
        "config",
        "runtime",
        "files",
        "formatting",
        "html_tables",
        "callable_module",
        "heads",
    ],
    ["corpus", "measure"],
    ["index"],
    ["models"],
    ["scan", "analyse", "describe"],
    ["show"],
    ["cli", "notebook", "ui"],
    ["pages", "app", "__main__", "attn"],
]
"""The rooms of the house, the ground floor first. A room imports from the floors below its own;
rooms of one floor do not know each other, but for those of the ground floor. `docs/layout.md` draws
it. A new file belongs in a room; a new room needs a place here."""

FLOOR_OF = {room: number for number, floor in enumerate(FLOORS) for room in floor}

ONLY_IMPORTERS = {
    "streamlit": ("attn.ui", "pages", "app"),
    "transformer_lens": ("attn.models.bridge",),
    "openai": ("attn.describe.client",),
    "plotly": ("attn.show.charts",),
}
WITHOUT_TORCH = (
    *(f"attn.{room}" for room in FLOORS[0]),
    "attn.corpus", "attn.index", "attn.describe", "attn.show", "attn.ui", "pages", "app",
)  # fmt: skip
"""Nothing in these imports torch, not even inside a function."""

IMPORTED_WITHOUT_TORCH = (
    *WITHOUT_TORCH, "attn.__main__", "attn.cli", "attn.notebook", "attn.models.builtin",
    "attn.measure.masks", "attn.measure.metrics", "attn.measure.random_tokens",
    "attn.measure.scores",
)  # fmt: skip
"""Importing these leaves torch unloaded."""

MOST_LINES = 400
PAGES_MAY_IMPORT = (
    "streamlit", "attn.errors", "attn.heads", "attn.index", "attn.measure", "attn.ui",
)  # fmt: skip
PAGE_LINES = 80


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = {
    module_name(path): path
    for path in sorted(
        [*ROOT.glob("app.py"), *ROOT.glob("pages/**/*.py"), *ROOT.glob("attn/**/*.py")]
    )
}
PAGES = [name for name in SOURCES if name.startswith("pages.")]


def imports(name: str) -> set[str]:
    """The full names of all modules that a module imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(SOURCES[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} line {node.lineno}: a relative import"
            assert node.module
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in SOURCES else node.module)
    return found


def within(name: str, prefixes: tuple[str, ...] | list[str]) -> bool:
    return any(name == prefix or name.startswith(f"{prefix}.") for prefix in prefixes)


def room(name: str) -> str:
    """The room of a module: the folder or file of attn/ that it is in."""
    parts = name.split(".")
    return parts[1] if parts[0] == "attn" and len(parts) > 1 else parts[0]


def ours(name: str) -> set[str]:
    return {other for other in imports(name) if within(other, ["attn", "pages", "app"])}


@pytest.mark.parametrize("name", SOURCES)
def test_a_room_imports_from_the_floors_below_it(name: str) -> None:
    mine = room(name)
    assert mine in FLOOR_OF, f"{name} is in no room: give {mine} a place in FLOORS"
    others = {other: room(other) for other in ours(name) if room(other) != mine}
    ground = FLOOR_OF[mine] == 0
    upward = sorted(
        other
        for other, its in others.items()
        if FLOOR_OF[its] > FLOOR_OF[mine] or (FLOOR_OF[its] == FLOOR_OF[mine] and not ground)
    )
    assert not upward, f"{name} imports {upward}, which are not below it"


def test_the_picture_in_docs_shows_the_floors() -> None:
    """The boxes of docs/layout.md, from the top floor down, hold the rooms of FLOORS."""
    picture = (ROOT / "docs" / "layout.md").read_text(encoding="utf-8").split("```")[1]
    drawn = [
        set(re.findall(r"[a-z_]+", line.replace(".py", "").split("  ·  ")[0]))
        for line in picture.splitlines()
        if line.startswith("│ ")
    ]
    assert drawn == [set(floor) for floor in reversed(FLOORS)]


@pytest.mark.parametrize("folder", sorted({path.parent for path in ROOT.glob("attn/**/*.py")}))
def test_every_room_says_what_goes_in_and_out(folder: Path) -> None:
    text = ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8")))
    assert text, f"{folder / '__init__.py'} says nothing"
    if folder.parent == ROOT / "attn":
        assert "In: " in text
        assert "Out:" in text
        assert "mports" in text or "may import" in text


@pytest.mark.parametrize("name", [name for name in SOURCES if within(name, ["attn"])])
def test_files_stay_short(name: str) -> None:
    lines = len(SOURCES[name].read_text(encoding="utf-8").splitlines())
    assert lines <= MOST_LINES, f"{name} has {lines} lines"


def test_no_cycles() -> None:
    graphlib.TopologicalSorter({name: ours(name) - {name} for name in SOURCES}).prepare()


@pytest.mark.parametrize("package", ONLY_IMPORTERS)
def test_only_its_importers_import(package: str) -> None:
    importers = {
        name for name in SOURCES if any(within(other, [package]) for other in imports(name))
    }
    strangers = sorted(name for name in importers if not within(name, ONLY_IMPORTERS[package]))
    assert not strangers, f"{strangers} must not import {package}"


def test_torch_stays_out_of_what_must_start_fast() -> None:
    fast = [name for name in SOURCES if within(name, WITHOUT_TORCH)]
    heavy = ["torch", "transformers", "transformer_lens"]
    found = {name: [other for other in imports(name) if within(other, heavy)] for name in fast}
    assert not {name: others for name, others in found.items() if others}


def test_importing_does_not_load_torch() -> None:
    names = [
        name
        for name in SOURCES
        if (name == "attn" or within(name, IMPORTED_WITHOUT_TORCH))
        and not within(name, ["pages", "app"])
    ]
    code = (
        "import importlib, sys\n"
        f"for name in {names}:\n"
        "    importlib.import_module(name)\n"
        "    loaded = {'torch', 'transformers', 'datasets'} & set(sys.modules)\n"
        "    assert not loaded, f'{name} loads {loaded}'\n"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("name", PAGES)
def test_pages_are_thin(name: str) -> None:
    lines = len(SOURCES[name].read_text(encoding="utf-8").splitlines())
    assert lines <= PAGE_LINES, f"{name} has {lines} lines"
    strangers = sorted(
        other
        for other in imports(name)
        if not within(other, PAGES_MAY_IMPORT)
        and other.split(".")[0] not in sys.stdlib_module_names
    )
    assert not strangers, f"{name} must not import {strangers}"


def pins() -> dict[str, str]:
    """Distribution name → version, as requirements.txt pins them; every line must be a pin."""
    found = {}
    for line in (ROOT / "requirements.txt").read_text().splitlines():
        match = re.fullmatch(r"([A-Za-z0-9_-]+)==([0-9][0-9.]*)", line)
        assert match, f"requirements.txt: {line!r} is not an exact pin"
        found[match[1].lower().replace("_", "-")] = match[2]
    return found


def test_every_package_imported_is_pinned() -> None:
    distribution = {"dotenv": "python-dotenv"}
    packages = {other.split(".")[0] for name in SOURCES for other in imports(name)}
    packages -= set(sys.stdlib_module_names) | {"attn", "pages", "app"}
    wanted = {distribution.get(name, name).lower().replace("_", "-") for name in packages}
    assert wanted <= set(pins())


def test_the_pins_are_what_the_package_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    requirements = [Requirement(line) for group in groups for line in group]
    requirements = [one for one in requirements if one.name != "attn"]  # an extra within another
    names = {requirement.name.lower().replace("_", "-") for requirement in requirements}
    pinned = pins()
    assert names == set(pinned)
    for requirement in requirements:
        version = pinned[requirement.name.lower().replace("_", "-")]
        assert requirement.specifier.contains(version), f"{requirement} against {version}"


def test_ruff_holds_the_folders() -> None:
    """The lint rule itself refuses what it is there to refuse, folder by folder."""
    banned = {
        "attn/scan/tally.py": "import streamlit",
        "attn/scan/run.py": "import transformer_lens",
        "attn/corpus/corpus.py": "import torch",
        "attn/ui/cache.py": "def load():\n    import torch",
        "pages/heads.py": "import plotly",
        "app.py": "import torch",
    }
    for place, code in banned.items():
        command = [sys.executable, "-m", "ruff", "check", "--select", "TID", "--stdin-filename"]
        result = subprocess.run(
            [*command, place, "-"], input=code + "\n", cwd=ROOT, capture_output=True, text=True
        )
        assert result.returncode == 1, f"{place} may say {code!r}"
        assert "TID25" in result.stdout
