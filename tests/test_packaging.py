"""What `pip install .` gives: the library and the command line; Streamlit only with `.[app]`."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

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
    library, app = project["dependencies"], project["optional-dependencies"]["app"]
    names = [name(line) for line in [*library, *app]]
    assert sorted(names) == sorted(pins("requirements.txt"))
    assert not pins("requirements-dev.txt").keys() & set(names)


def test_streamlit_comes_with_the_app_alone() -> None:
    project = PROJECT["project"]
    assert "streamlit" not in asked(project["dependencies"])
    assert "streamlit" in asked(project["optional-dependencies"]["app"])


def test_the_command_is_the_one_of_python_m_attn() -> None:
    from attn import __main__

    module, function = PROJECT["project"]["scripts"]["attn"].split(":")
    assert (module, function) == (__main__.main.__module__, "main")


def test_every_file_of_the_package_is_shipped() -> None:
    globs = PROJECT["tool"]["setuptools"]["package-data"]["attn"]
    shipped = {path for glob in globs for path in (ROOT / "attn").glob(glob)}
    listed = subprocess.run(
        ["git", "ls-files", "attn"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    files = {ROOT / line for line in listed.stdout.splitlines()}
    others = {path for path in files if path.suffix != ".py" and path.name != "ruff.toml"}
    assert others <= shipped


def test_library_and_command_line_work_without_streamlit() -> None:
    code = (
        "import sys\n"
        "sys.modules['streamlit'] = sys.modules['xllamacpp'] = None\n"
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
