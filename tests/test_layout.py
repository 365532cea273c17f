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

# Each module belongs to the tier of its longest prefix here, and imports from its own tier or
# lower ones. A new module needs a place.
TIERS = [
    [
        "attn.calling",
        "attn.errors",
        "attn.heads",
        "attn.runtime",
        "attn.tables",
        "attn.texts",
        "attn.words",
    ],
    [
        "attn.assembly",
        "attn.batch",
        "attn.builtin",
        "attn.charts",
        "attn.compare",
        "attn.config",
        "attn.context",
        "attn.corpus",
        "attn.describe.estimate",
        "attn.describe.prompts",
        "attn.hub",
        "attn.index",
        "attn.kernel",
        "attn.layers",
        "attn.lists",
        "attn.metrics",
        "attn.ordering",
        "attn.parts",
        "attn.publishing",
        "attn.pushing",
        "attn.query",
        "attn.ranges",
        "attn.readers",
        "attn.reduction",
        "attn.repeated",
        "attn.scales",
        "attn.scores",
        "attn.sharing",
        "attn.shards",
        "attn.similar",
        "attn.standalone",
        "attn.store",
        "attn.summary",
        "attn.tally",
        "attn.tokens",
        "attn.weights",
    ],
    [
        "attn.adopted",
        "attn.attention",
        "attn.checking",
        "attn.describe",
        "attn.estimate",
        "attn.hooked",
        "attn.merging",
        "attn.model",
        "attn.pretrained",
        "attn.report",
        "attn.scan",
        "attn.search",
    ],
    ["attn", "attn.__main__", "attn.notebook", "attn.ui"],
    ["app", "pages"],
]
TIER_OF = {prefix: number for number, tier in enumerate(TIERS) for prefix in tier}

ONLY_IMPORTERS = {
    "streamlit": ("attn.ui", "pages", "app"),
    "transformer_lens": ("attn.model",),
    "openai": ("attn.describe.client",),
    "plotly": ("attn.charts",),
}
WITHOUT_TORCH = [
    "attn.charts",
    "attn.config",
    "attn.corpus",
    "attn.describe",
    "attn.errors",
    "attn.heads",
    "attn.index",
    "attn.publishing",
    "attn.pushing",
    "attn.query",
    "attn.report",
    "attn.sharing",
    "attn.standalone",
    "attn.store",
    "attn.summary",
    "attn.texts",
    "attn.ui",
]
"""Nothing in these imports torch, not even inside a function."""

IMPORTED_WITHOUT_TORCH = [
    *WITHOUT_TORCH,
    "attn",
    "attn.__main__",
    "attn.builtin",
    "attn.context",
    "attn.metrics",
    "attn.notebook",
    "attn.repeated",
    "attn.scores",
]
"""Importing these leaves torch unloaded."""

PAGES_MAY_IMPORT = (
    "streamlit",
    "attn.charts",
    "attn.errors",
    "attn.heads",
    "attn.index",
    "attn.ui",
)
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


def tier(name: str) -> int:
    for prefix in sorted(TIER_OF, key=len, reverse=True):
        if within(name, [prefix]) and (prefix != "attn" or name == "attn"):
            return TIER_OF[prefix]
    pytest.fail(f"{name} has no tier: give it a place in TIERS.")


def ours(name: str) -> set[str]:
    return {other for other in imports(name) if within(other, ["attn", "pages", "app"])}


@pytest.mark.parametrize("name", SOURCES)
def test_dependencies_point_downward(name: str) -> None:
    upward = sorted(other for other in ours(name) if tier(other) > tier(name))
    assert not upward, f"{name} imports {upward} from a higher tier"


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
    fast = [name for name in SOURCES if within(name, [*WITHOUT_TORCH, "pages", "app"])]
    heavy = ["torch", "transformers", "transformer_lens"]
    found = {name: [other for other in imports(name) if within(other, heavy)] for name in fast}
    assert not {name: others for name, others in found.items() if others}


def test_importing_does_not_load_torch() -> None:
    names = [name for name in IMPORTED_WITHOUT_TORCH if name in SOURCES]
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
    asked = project["dependencies"] + project["optional-dependencies"]["app"]
    requirements = [Requirement(line) for line in asked]
    names = {requirement.name.lower().replace("_", "-") for requirement in requirements}
    pinned = pins()
    assert names == set(pinned)
    for requirement in requirements:
        version = pinned[requirement.name.lower().replace("_", "-")]
        assert requirement.specifier.contains(version), f"{requirement} against {version}"


def test_ruff_holds_the_folders() -> None:
    """The lint rule itself refuses what it is there to refuse, folder by folder."""
    banned = {
        "attn/tally.py": "import streamlit",
        "attn/scan.py": "import transformer_lens",
        "attn/corpus.py": "import torch",
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
