"""What the package asks for. tests/e2e/test_installed.py builds and installs it."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def name(line: str) -> str:
    return Requirement(line).name.lower().replace("_", "-")


def asked(lines: list[str]) -> dict[str, Requirement]:
    return {name(line): Requirement(line) for line in lines}


def pins(file: str) -> dict[str, str]:
    lines = [line for line in (ROOT / file).read_text().splitlines() if not line.startswith("-r")]
    assert all(re.fullmatch(r"[A-Za-z0-9_-]+==[0-9][0-9.]*", line) for line in lines)
    return {name(line): line.split("==")[1] for line in lines}


def test_each_package_is_asked_for_once() -> None:
    """That versions and pins agree is tested in tests/test_layout.py."""
    project = PROJECT["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    names = [name(line) for group in groups for line in group if name(line) != "attn"]
    assert sorted(names) == sorted(pins("requirements.txt"))
    assert not pins("requirements-dev.txt").keys() & set(names)


def test_streamlit_comes_with_the_app_alone() -> None:
    project = PROJECT["project"]
    assert "streamlit" not in asked(project["dependencies"])
    assert "openai" not in asked(project["dependencies"])
    extras = project["optional-dependencies"]
    assert {"streamlit", "attn"} <= asked(extras["app"]).keys()
    assert asked(extras["app"])["attn"].extras == {"describe"}
    assert "openai" in asked(extras["describe"])


def test_the_command_is_the_one_of_python_m_attn() -> None:
    from attn import __main__

    module, function = PROJECT["project"]["scripts"]["attn"].split(":")
    assert (module, function) == (__main__.main.__module__, "main")


def test_library_and_command_line_work_without_streamlit() -> None:
    code = (
        "import sys\n"
        "for name in ('streamlit', 'xllamacpp', 'openai'):\n"
        "    sys.modules[name] = None\n"
        "import attn\n"
        "for name in attn.__all__:\n"
        "    getattr(attn, name)\n"
        "import attn.show.token_html, attn.scan.merge, attn.cli.describe, attn.__main__\n"
        "sys.argv = ['attn', '--help']\n"
        "attn.__main__.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "describe-local" in done.stdout


@pytest.mark.parametrize(
    ("words", "package"), [(["app"], "streamlit"), (["describe", "INDEX", "L0H0"], "openai")]
)
def test_what_an_extra_lacks_is_said(words: list[str], package: str, tmp_path: Path) -> None:
    code = (
        "import importlib.util, sys\n"
        f"sys.modules[{package!r}] = None\n"
        "found = importlib.util.find_spec\n"
        f"importlib.util.find_spec = lambda n, *a: None if n == {package!r} else found(n, *a)\n"
        "from attn.cli.main import main\n"
        f"sys.argv = ['attn', *{words!r}]\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert f"needs the package {package}, which is not installed" in done.stderr
    assert 'pip install "attn[' in done.stderr
    assert "Traceback" not in done.stderr
