"""The built package, installed in an empty folder elsewhere: its files, its command, its app."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, expect

from tests.e2e.serving import ROOT, free_port, running


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The sdist, and the wheel that is built from it."""
    out = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(ROOT)]
    done = subprocess.run(build, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:]
    (sdist,), (wheel,) = out.glob("*.tar.gz"), out.glob("*.whl")
    return sdist, wheel


@pytest.fixture(scope="module")
def site(built: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel alone; what it needs comes from the test's own environment."""
    target = tmp_path_factory.mktemp("site")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--target", str(target), str(built[1])], check=True)
    return target


def installed(site: Path, **more: object) -> dict[str, str]:
    """The environment in which the installed package is the one that Python finds."""
    return os.environ | {"PYTHONPATH": str(site)} | {k: str(v) for k, v in more.items()}


def test_wheel_and_sdist_hold_what_git_holds(built: tuple[Path, Path]) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "attn", "pages",
         "app.py", ".streamlit"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    wanted = {line for line in listed.stdout.splitlines() if not line.endswith("ruff.toml")}
    with tarfile.open(built[0]) as sdist:
        top = sdist.getnames()[0].split("/")[0]
        packed = {name.removeprefix(f"{top}/") for name in sdist.getnames()}
    assert wanted <= packed
    with zipfile.ZipFile(built[1]) as wheel:
        files = set(wheel.namelist())
    inside = {name if name.startswith("attn/") else f"attn/installed/{name}" for name in wanted}
    assert inside <= files
    strangers = {
        name for name in files - inside if ".dist-info/" not in name and "ruff" not in name
    }
    assert not strangers


def test_the_command_works_in_an_empty_folder(site: Path, tmp_path: Path) -> None:
    env = installed(site, ATTN_CACHE=tmp_path / "cache", ATTN_INDEXES=tmp_path / "indexes")
    attn = str(site / "bin" / "attn")
    helped = subprocess.run(
        [attn, "--help"], cwd=tmp_path, env=env, capture_output=True, text=True, check=True
    )
    for name in ("app", "doctor", "fetch", "scan", "heads", "describe-local"):
        assert f" {name} " in helped.stdout
    done = subprocess.run(
        [attn, "doctor", "--json"], cwd=tmp_path, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    told = {one["what"]: one for one in map(json.loads, done.stdout.splitlines())}
    assert told["attn"]["found"] == "0.1.0"
    assert {"packages", "extra app", "extra describe"} <= set(told)
    assert told["packages"]["found"] == "complete"
    assert "attn fetch" in told["smollm2-135m"]["remedy"]
    assert "attn scan" in told["scanned"]["remedy"]


def test_the_app_starts_and_offers_the_first_scan(
    site: Path, new_context: Callable[[], BrowserContext], tmp_path: Path
) -> None:
    port, empty = free_port(), tmp_path / "empty"
    empty.mkdir()
    command = [str(site / "bin" / "attn"), "app", "--port", str(port), "--address", "127.0.0.1"]
    env = installed(site, ATTN_CACHE=tmp_path / "cache", ATTN_MODEL="")
    env["ATTN_INDEXES"] = str(tmp_path / "cache" / "indexes")
    with running(command, empty, tmp_path / "log.txt", port, **env) as app:
        page = new_context().new_page()
        for name in ("", "examples", "scan", "methods"):
            page.goto(app.address(name))
            expect(page.get_by_test_id("stException")).to_have_count(0)
            if name in ("", "examples"):
                offer = "Fetch the model and scan the sample texts"
                button = page.get_by_role("button", name=offer)
                expect(button).to_be_enabled()
                # The theme of .streamlit/config.toml has come along.
                expect(button).to_have_css("background-color", "rgb(11, 114, 133)")
            else:
                expect(page.locator("[data-testid=stMain] h2").first).to_be_visible()
    assert not list(empty.iterdir())
