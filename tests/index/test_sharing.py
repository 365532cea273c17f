"""An index handed on: as a file, and by way of the Hub, whose API is a stand-in on 127.0.0.1."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from attn.errors import AttnError, IndexDamaged, IndexMismatch, SharingError
from attn.heads import HeadId
from attn.index.archive import export_index, import_index
from attn.index.folder import index_folder
from attn.index.format import FORMAT, MANIFEST
from attn.index.hub import card
from attn.index.index import Index, find_indexes
from attn.index.manifest import read_manifest, sealed_text, verify
from tests.cli.test_cli import Done, attn, check_one_sentence
from tests.conftest import Tiny, contents
from tests.hub import TOKEN, Hub, Repo
from tests.scanned import HEADS, keys

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def index(gpt2: Tiny, make: Callable[[Tiny, str], Any]) -> Path:
    folder: Path = make(gpt2, "small").index.path
    return folder


@pytest.fixture(scope="module")
def other(gpt2: Tiny, make: Callable[[Tiny, str], Any]) -> Path:
    """Another index of the same model and corpus."""
    folder: Path = make(gpt2, "no bos, other rows").index.path
    return folder


@pytest.fixture(scope="module")
def file(index: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_index(index, tmp_path_factory.mktemp("exported") / "index.tar")


def check_same(folder: Path, index: Path) -> None:
    """Byte for byte the same index, under its own name, and answering alike."""
    verify(folder)
    assert folder.name == index.name
    assert contents(folder) == contents(index)
    mine, theirs = Index.open(folder), Index.open(index)
    for head in HEADS:
        for by in ("multiple", "attention"):
            assert keys(mine.top(head, by=by).examples) == keys(theirs.top(head, by=by).examples)
        assert keys(mine.random(head).examples) == keys(theirs.random(head).examples)
        assert mine.sources(head) == theirs.sources(head)


def manifest_text(index: Path, **changes: Any) -> str:
    """The manifest of an index with other values, and the seal that fits them."""
    return sealed_text(asdict(read_manifest(index)) | changes)


Entry = tuple[str, bytes] | tuple[tarfile.TarInfo, bytes]


def tar(path: Path, *entries: Entry) -> Path:
    with tarfile.open(path, "x:") as made:
        for name, data in entries:
            entry = tarfile.TarInfo(name) if isinstance(name, str) else name
            entry.size = len(data)
            made.addfile(entry, io.BytesIO(data))
    return path


def entries(index: Path) -> list[tuple[str, bytes]]:
    """What an exported file holds, in its order."""
    found = contents(index)
    return [(MANIFEST, found.pop(MANIFEST)), *sorted(found.items())]


def refused(file: Path, out: Path, kind: type[AttnError], words: str) -> None:
    """Nothing came of it, nothing is left of it, and it is one sentence with a remedy."""
    with pytest.raises(kind) as caught:
        import_index(file, out)
    text = str(caught.value)
    assert words in text
    assert text.endswith(".")
    assert ": " in text
    assert "\n" not in text
    assert not out.exists() or list(out.iterdir()) == []


class TestExportAndImport:
    def test_round_trip(self, file: Path, index: Path, tmp_path: Path) -> None:
        received = import_index(file, tmp_path / "deep" / "out")
        assert received.new
        assert list((tmp_path / "deep" / "out").iterdir()) == [received.folder]
        check_same(received.folder, index)

    def test_the_same_index_makes_the_same_bytes(
        self, file: Path, index: Path, tmp_path: Path
    ) -> None:
        copy = Path(shutil.copytree(index, tmp_path / "renamed", copy_function=shutil.copyfile))
        for path in copy.rglob("*"):
            os.utime(path, (1, 1))
            path.chmod(0o700)
        again = export_index(copy, tmp_path / "again.tar")
        assert again.read_bytes() == file.read_bytes()
        assert sorted(p.name for p in tmp_path.iterdir()) == ["again.tar", "renamed"]

    def test_a_file_tells_nothing_of_who_made_it(self, file: Path, index: Path) -> None:
        with tarfile.open(file) as made:
            members = made.getmembers()
        assert [m.name for m in members] == [name for name, _ in entries(index)]
        assert {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) for m in members} == {
            (0, 0, 0, "", "", 0o644)
        }

    def test_an_index_that_is_there_already(self, file: Path, tmp_path: Path) -> None:
        first = import_index(file, tmp_path)
        stamp = (first.folder / MANIFEST).stat().st_ino
        assert import_index(file, tmp_path) == (first.folder, False)
        assert (first.folder / MANIFEST).stat().st_ino == stamp
        assert list(tmp_path.iterdir()) == [first.folder]

    def test_a_damaged_index_that_is_there_is_replaced(
        self, file: Path, index: Path, tmp_path: Path
    ) -> None:
        folder = import_index(file, tmp_path).folder
        (folder / "heads.parquet").write_bytes(b"broken")
        assert import_index(file, tmp_path) == (folder, True)
        check_same(folder, index)
        assert list(tmp_path.iterdir()) == [folder]

    def test_two_indexes_side_by_side(self, file: Path, other: Path, tmp_path: Path) -> None:
        second = export_index(other, tmp_path / "other.tar")
        out = tmp_path / "out"
        folders = {import_index(one, out).folder for one in (file, second)}
        assert set(out.iterdir()) == folders
        assert len(folders) == 2

    def test_no_export_of_a_damaged_index(self, index: Path, tmp_path: Path) -> None:
        copy = Path(shutil.copytree(index, tmp_path / index.name))
        data = bytearray((copy / "pairs/L01.parquet").read_bytes())
        data[len(data) // 2] ^= 1
        (copy / "pairs/L01.parquet").write_bytes(data)
        with pytest.raises(IndexDamaged, match=r"pairs/L01\.parquet"):
            export_index(copy, tmp_path / "a.tar")
        assert not (tmp_path / "a.tar").exists()

    def test_foreign_files_stay_where_they_are(
        self, file: Path, index: Path, tmp_path: Path
    ) -> None:
        copy = Path(shutil.copytree(index, tmp_path / index.name))
        (copy / "descriptions.sqlite").write_bytes(b"mine")
        assert export_index(copy, tmp_path / "a.tar").read_bytes() == file.read_bytes()

    def test_no_file_is_overwritten(self, index: Path, tmp_path: Path) -> None:
        (tmp_path / "a.tar").write_text("mine")
        with pytest.raises(SharingError, match=r"is there already: remove it"):
            export_index(index, tmp_path / "a.tar")
        assert (tmp_path / "a.tar").read_text() == "mine"


class TestRefused:
    def test_cut_anywhere(self, file: Path, tmp_path: Path) -> None:
        data = file.read_bytes()
        with tarfile.open(file) as made:
            members = made.getmembers()
        ends = [m.offset_data for m in members] + [m.offset_data + m.size for m in members]
        last = members[-1].offset_data + members[-1].size
        cuts = {*ends, *(end - 1 for end in ends), *(end - 512 for end in ends if end > 512)}
        for cut in sorted({0, 1, 511, 512, *cuts, *range(0, last, last // 20)}):
            part = tmp_path / "part.tar"
            part.write_bytes(data[:cut])
            refused(part, tmp_path / "out", IndexDamaged, "part.tar")

    def test_a_bit_anywhere(self, file: Path, index: Path, tmp_path: Path) -> None:
        """Each is found, or was in bytes that say nothing, and the index is whole all the same."""
        data = file.read_bytes()
        with tarfile.open(file) as made:
            headers = [m.offset for m in made.getmembers()]
        places = {*range(0, len(data), len(data) // 60)}
        for header in headers[:4]:
            places |= {header + i for i in (0, 7, 50, 100, 124, 130, 148, 156, 257, 345)}
        found = 0
        for place in sorted(places):
            flipped = bytearray(data)
            flipped[place] ^= 1 << place % 8
            part = tmp_path / "part.tar"
            part.write_bytes(flipped)
            out = tmp_path / f"out{place}"
            try:
                folder = import_index(part, out).folder
            except (IndexDamaged, IndexMismatch):
                found += 1
                assert not out.exists() or list(out.iterdir()) == []
            else:
                assert contents(folder) == contents(index)
        assert found > 0.8 * len(places)

    @pytest.mark.parametrize(
        "name",
        [
            "../evil.parquet",
            "/evil.parquet",
            "tokens/../../evil.parquet",
            "tokens/L00.parquet/x",
            "notes.txt",
            "tokens/L00.parquet\n",
            ".cache",
            "",
        ],
    )
    def test_foreign_names(self, name: str, index: Path, tmp_path: Path) -> None:
        """In the tar alone; and in the tar and the manifest."""
        path = tar(tmp_path / "a.tar", *entries(index), (name, b"x"))
        refused(path, tmp_path / "in" / "out", IndexDamaged, "a.tar")
        files = asdict(read_manifest(index))["files"] | {name: (1, "0" * 64, "0" * 64)}
        named = tar(
            tmp_path / "b.tar",
            (MANIFEST, manifest_text(index, files=files).encode()),
            *entries(index)[1:],
            (name, b"x"),
        )
        refused(named, tmp_path / "in" / "out", IndexDamaged, "does not belong to an index")
        assert not list(tmp_path.rglob("evil*"))

    @pytest.mark.parametrize("identity", ["../../evil", "/evil", "", "A" * 64])
    def test_an_identity_that_is_a_path(self, identity: str, index: Path, tmp_path: Path) -> None:
        text = manifest_text(index, identity=identity).encode()
        path = tar(tmp_path / "a.tar", (MANIFEST, text), *entries(index)[1:])
        refused(path, tmp_path / "in" / "out", IndexDamaged, "has no identity")

    def test_a_model_that_is_a_path(self, index: Path, tmp_path: Path) -> None:
        text = manifest_text(index, model="../..", corpus="/..").encode()
        path = tar(tmp_path / "a.tar", (MANIFEST, text), *entries(index)[1:])
        out = tmp_path / "in" / "out"
        assert import_index(path, out).folder.parent == out
        assert list((tmp_path / "in").iterdir()) == [out]

    @pytest.mark.parametrize(
        "kind",
        [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE],
    )
    @pytest.mark.parametrize("first", [True, False])
    def test_links_folders_and_devices(
        self, kind: bytes, first: bool, index: Path, tmp_path: Path
    ) -> None:
        entry = tarfile.TarInfo(MANIFEST if first else "heads.parquet")
        entry.type, entry.linkname = kind, "documents.parquet" if not first else "/etc/passwd"
        rest = [e for e in entries(index) if e[0] != entry.name]
        order: list[Any] = [(entry, b""), *rest] if first else [rest[0], (entry, b""), *rest[1:]]
        refused(tar(tmp_path / "a.tar", *order), tmp_path / "out", IndexDamaged, "a.tar")

    def test_the_same_file_twice(self, index: Path, tmp_path: Path) -> None:
        path = tar(tmp_path / "a.tar", *entries(index), entries(index)[1])
        refused(path, tmp_path / "out", IndexDamaged, "documents.parquet of a.tar is damaged")

    def test_a_file_that_is_longer_than_told(self, index: Path, tmp_path: Path) -> None:
        long = [(n, d + b"x" if n == "heads.parquet" else d) for n, d in entries(index)]
        refused(tar(tmp_path / "a.tar", *long), tmp_path / "out", IndexDamaged, "heads.parquet")

    def test_a_missing_file(self, index: Path, tmp_path: Path) -> None:
        some = [e for e in entries(index) if e[0] != "tokens/L01.parquet"]
        path = tar(tmp_path / "a.tar", *some)
        refused(path, tmp_path / "out", IndexDamaged, "tokens/L01.parquet of a.tar is missing")

    def test_the_manifest_not_first(self, index: Path, tmp_path: Path) -> None:
        path = tar(tmp_path / "a.tar", *entries(index)[::-1])
        refused(path, tmp_path / "out", IndexDamaged, "is no index that `attn export` wrote")

    @pytest.mark.parametrize(
        "data", [b"", b"text", bytes(10240), b"[" * 100_000], ids=["empty", "text", "zeros", "deep"]
    )
    def test_what_is_no_tar(self, data: bytes, tmp_path: Path) -> None:
        (tmp_path / "a.tar").write_bytes(data)
        refused(tmp_path / "a.tar", tmp_path / "out", IndexDamaged, "is no index that")

    @pytest.mark.parametrize(
        "text", [b"", b"\xff", b"[" * 100_000, b"null", b"{}", b'{"format": []}']
    )
    def test_a_manifest_that_is_none(self, text: bytes, index: Path, tmp_path: Path) -> None:
        path = tar(tmp_path / "a.tar", (MANIFEST, text), *entries(index)[1:])
        with pytest.raises((IndexDamaged, IndexMismatch)):
            import_index(path, tmp_path / "out")
        assert list((tmp_path / "out").iterdir()) == []

    @pytest.mark.parametrize("version", [FORMAT - 1, FORMAT + 1])
    def test_another_version(self, version: int, index: Path, tmp_path: Path) -> None:
        text = manifest_text(index, format=version).encode()
        path = tar(tmp_path / "a.tar", (MANIFEST, text), *entries(index)[1:])
        words = f"a.tar has format {version}, this version reads {FORMAT}: "
        refused(path, tmp_path / "out", IndexMismatch, words)

    def test_no_such_file(self, tmp_path: Path) -> None:
        refused(tmp_path / "a.tar", tmp_path / "out", SharingError, "There is no file")
        refused(tmp_path, tmp_path / "out", SharingError, "There is no file")


class TestCommands:
    def test_export_and_import(self, index: Path, tmp_path: Path) -> None:
        done = attn("export", index, tmp_path / "a.tar")
        assert done == (0, f"{tmp_path / 'a.tar'}\n", "")
        done = attn("import", tmp_path / "a.tar", "--out", tmp_path / "out")
        assert done.returncode == 0, done.stderr
        folder = Path(done.stdout.strip())
        check_same(folder, index)
        again = attn("import", tmp_path / "a.tar", "--out", tmp_path / "out")
        assert again == (0, f"{folder}\n", "The index is there already.\n")
        assert attn("verify", folder).returncode == 0
        assert attn("top", folder, HEADS[0]).stdout == attn("top", index, HEADS[0]).stdout

    def test_import_puts_the_index_where_the_others_are(self, file: Path, tmp_path: Path) -> None:
        done = attn("import", file, ATTN_INDEXES=str(tmp_path))
        assert Path(done.stdout.strip()).parent == tmp_path

    BAD: Mapping[str, tuple[tuple[str, ...], str]] = {
        "export no index": (("export", "nowhere", "OUT/a.tar"), "nowhere"),
        "export to no folder": (("export", "INDEX", "OUT/no/a.tar"), "No such file or directory"),
        "export over a file": (("export", "INDEX", "FILE"), "is there already"),
        "import no file": (("import", "nowhere.tar"), "nowhere.tar"),
        "import a folder": (("import", "INDEX"), "There is no file"),
        "import to a file": (("import", "FILE", "--out", "FILE"), "cannot be written"),
        "push no index": (("push", "nowhere", "me/heads"), "nowhere"),
        "push to no name": (("push", "INDEX", "heads"), "write OWNER/NAME"),
        "push to a corpus": (("push", "INDEX", "me/heads#train"), "write OWNER/NAME"),
        "push to a path": (("push", "INDEX", "me/heads", "--path", "../up"), "'../up'"),
        "pull no name": (("pull", "heads"), "write OWNER/NAME"),
        "pull a path": (("pull", "me/heads", "--path", "/up"), "'/up'"),
        "pull offline": (("pull", "me/heads"), "while HF_HUB_OFFLINE is set: unset it."),
        "push offline": (("push", "INDEX", "me/heads"), "while HF_HUB_OFFLINE is set: unset it."),
    }

    @pytest.mark.parametrize("case", BAD)
    def test_bad_input_gets_one_sentence(
        self, case: str, index: Path, file: Path, tmp_path: Path
    ) -> None:
        words, expected = self.BAD[case]
        names = {"INDEX": str(index), "FILE": str(file)}
        filled = [names.get(word, word.replace("OUT", str(tmp_path))) for word in words]
        out = tmp_path / "indexes"
        done = attn(*filled, ATTN_INDEXES=str(out), HF_TOKEN=TOKEN)
        check_one_sentence(done, expected)
        assert not out.exists() or list(out.iterdir()) == []


# By way of the Hub

Cases = Mapping[str, Mapping[str, Any]]

DRIVER = """
    import io, json, os, resource, sys, time
    from contextlib import redirect_stderr, redirect_stdout

    import huggingface_hub.constants
    from attn.index import hub as pushing
    from attn.__main__ import main

    pause, address = time.sleep, huggingface_hub.constants.ENDPOINT
    answers = {}
    for case, told in json.load(sys.stdin).items():
        time.sleep = lambda seconds: pause(min(seconds, 0.001))  # between tries
        pushing.SECONDS = told.get("seconds", 10)
        dead = "http://127.0.0.1:1" if told.get("dead") else address
        huggingface_hub.constants.ENDPOINT = dead
        os.environ["HF_TOKEN"] = told.get("token", "hf_may_write")
        hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        resource.setrlimit(resource.RLIMIT_FSIZE, (told.get("limit", hard), hard))
        out, err, code = io.StringIO(), io.StringIO(), 0
        sys.argv = ["attn", *told["words"]]
        start = time.monotonic()
        try:
            with redirect_stdout(out), redirect_stderr(err):
                main()
        except SystemExit as end:
            code = int(end.code or 0)
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        answers[case] = [code, out.getvalue(), err.getvalue(), time.monotonic() - start]
    assert "torch" not in sys.modules
    json.dump(answers, sys.stdout)
"""


def environment(hub: Hub, folder: Path) -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")} | {
        "PYTHONPATH": str(ROOT),
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(folder / "home"),
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
    }


def at(hub: Hub, folder: Path, cases: Cases) -> dict[str, Done]:
    """Commands in a process that takes the stand-in for the Hub; each ends within seconds."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(DRIVER)],
        input=json.dumps(cases, default=str),
        cwd=folder,
        env=environment(hub, folder),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    answers: dict[str, list[Any]] = json.loads(done.stdout)
    assert all(seconds < 10 for *_, seconds in answers.values()), answers
    return {case: Done(*answer) for case, (*answer, _) in answers.items()}


def one(hub: Hub, folder: Path, *words: object, **more: Any) -> Done:
    return at(hub, folder, {"": {"words": words, **more}})[""]


def worked(done: Done) -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


class TestByTheHub:
    def test_round_trip(self, index: Path, tmp_path: Path) -> None:
        with Hub({}) as hub:
            done = one(hub, tmp_path, "push", index, "me/heads")
            assert worked(done) == f"{hub.url}/datasets/me/heads"
            amount = f"{len(contents(index)) - 1} files"
            assert done.stderr.startswith(f"Pushing {amount}, ")
            files = dict(hub.repos["me/heads"].files)
            assert set(files) - set(contents(index)) == {"README.md", ".gitattributes"}
            assert files.items() >= contents(index).items()
            assert files["README.md"].decode() == card(read_manifest(index), "me/heads", None)
            assert sum(" /api/datasets/me/heads/commit/" in r for r in hub.requests) == 1
            out = tmp_path / "out"
            pulls = at(
                hub,
                tmp_path,
                {
                    "new": {"words": ["pull", "me/heads", "--out", out], "token": ""},
                    "again": {"words": ["pull", "me/heads", "--out", out]},
                },
            )
            folder = Path(worked(pulls["new"]))
            assert pulls["new"].stderr.startswith(f"Pulling {amount}, ")
            assert pulls["again"] == (0, f"{folder}\n", "The index is there already.\n")
        assert list(out.iterdir()) == [folder]
        check_same(folder, index)

    def test_of_what_is_private(self, index: Path, tmp_path: Path) -> None:
        with Hub({"me/public": Repo()}) as hub:
            worked(one(hub, tmp_path, "push", index, "me/heads", "--private"))
            assert hub.repos["me/heads"].private
            pull = ["pull", "me/heads", "--out", tmp_path / "out"]
            done = at(
                hub,
                tmp_path,
                {
                    "anybody": {"words": pull, "token": ""},
                    "me": {"words": pull},
                    "not so": {"words": ["push", index, "me/public", "--private"]},
                },
            )
            check_one_sentence(done["anybody"], "is no dataset that the Hub shows you")
            check_same(Path(worked(done["me"])), index)
            check_one_sentence(done["not so"], "me/public is public already")
            assert not hub.repos["me/public"].files

    def test_into_folders_of_one_repository(self, index: Path, other: Path, tmp_path: Path) -> None:
        with Hub({}) as hub:
            done = one(hub, tmp_path, "push", index, "me/heads", "--path", "small")
            assert worked(done) == f"{hub.url}/datasets/me/heads/tree/main/small"
            pull = ["pull", "me/heads", "--out", tmp_path / "out"]
            check_same(Path(worked(one(hub, tmp_path, *pull))), index)
            cases = {
                "push": ["push", other, "me/heads", "--path", "more/other"],
                "which": pull,
                "other": [*pull, "--path", "more/other"],
                "small": [*pull, "--path", "small"],
                "none": [*pull, "--path", "more"],
                "root": ["push", other, "me/heads"],
            }
            done_of = at(hub, tmp_path, {case: {"words": words} for case, words in cases.items()})
        worked(done_of["push"])
        check_one_sentence(done_of["which"], "name one with --path, of more/other, small.")
        check_same(Path(worked(done_of["other"])), other)
        check_same(Path(worked(done_of["small"])), index)
        check_one_sentence(done_of["none"], "me/heads holds no index in more")
        check_one_sentence(done_of["root"], "me/heads holds other files, like more/other/README.md")

    def test_another_index_takes_its_place(self, index: Path, other: Path, tmp_path: Path) -> None:
        """In one commit, without what is only the old one's; an old commit is pulled by name."""
        mine = {"notes.txt": b"mine", "pairs/L07.parquet": b"old", "tokens/mine.parquet": b"x"}
        with Hub({"me/heads": Repo(contents(index) | mine)}) as hub:
            old = hub.repos["me/heads"].sha
            worked(one(hub, tmp_path, "push", other, "me/heads"))
            files = dict(hub.repos["me/heads"].files)
            assert set(files) == {*contents(other), "README.md", "notes.txt", "tokens/mine.parquet"}
            pull = ["pull", "me/heads", "--out", tmp_path / "out"]
            done = at(
                hub,
                tmp_path,
                {
                    "new": {"words": pull},
                    "old": {"words": [*pull, "--revision", old]},
                    "none": {"words": [*pull, "--revision", "v9"]},
                },
            )
        check_same(Path(worked(done["new"])), other)
        check_same(Path(worked(done["old"])), index)
        check_one_sentence(done["none"], "has no revision 'v9': name a branch, tag or commit")

    def test_the_same_again_is_no_commit(self, index: Path, tmp_path: Path) -> None:
        with Hub({}) as hub:
            for _ in range(2):
                worked(one(hub, tmp_path, "push", index, "me/heads"))
            assert sum("/commit/" in request for request in hub.requests) == 1


def test_the_commands_of_the_readme(index: Path, tmp_path: Path) -> None:
    """All that the README says of push and pull, said to the stand-in, one after the other."""
    section = (ROOT / "README.md").read_text().partition("### Sharing an index")[2]
    login, *commands = section.partition("```text\n")[2].partition("```")[0].splitlines()
    assert login == "hf auth login"
    names = {"OWNER/NAME": "me/heads", "INDEX": str(index)}
    words = [[names.get(word, word) for word in command.split()] for command in commands]
    assert {tuple(some[:3]) for some in words} == {("python", "-m", "attn")}
    assert {some[3] for some in words} == {"push", "pull"}
    with Hub({}) as hub:
        cases = {str(i): {"words": some[3:]} for i, some in enumerate(words)}
        cases[str(len(words) - 1)]["words"] += ["--out", str(tmp_path / "out")]
        done = [worked(one) for one in at(hub, tmp_path, cases).values()]
    check_same(Path(done[-1]), index)


def pushes() -> dict[str, tuple[Repo | None, dict[str, Any], str]]:
    """Case → the repository, what is special, and what is said."""
    again = "try again later."
    no = "log in with `hf auth login` and a token that may write there"
    return {
        "no token": (None, {"token": ""}, "log in with `hf auth login`, or set HF_TOKEN."),
        "bad token": (None, {"token": "hf_bad"}, no),
        "not mine": (Repo(refuses={"create": 403, "preupload": 403}), {}, no),
        "may not commit": (Repo(refuses={"commit": 403}), {}, no),
        "down": (Repo(status=503), {}, f"the Hub answers 503: {again}"),
        "down at once": (Repo(refuses={"create": 500}), {}, f"the Hub answers 500: {again}"),
        "down at preupload": (Repo(refuses={"preupload": 503}), {}, f"answers 503: {again}"),
        "down at batch": (Repo(refuses={"batch": 503}), {}, f"answers 503: {again}"),
        "down at a file": (Repo(refuses={"put": 503}), {}, f"answers 503: {again}"),
        "down at commit": (Repo(refuses={"commit": 500}), {}, f"answers 500: {again}"),
        "hangs up": (Repo(refuses={"commit": 0}), {}, "does not answer or breaks off"),
        "hangs up at a file": (Repo(refuses={"put": 0}), {}, "does not answer or breaks off"),
        "stalls": (Repo(stalls=True), {"seconds": 0.3}, "does not answer or breaks off"),
        "unreachable": (None, {"dead": True}, "check the connection, then push again."),
        "other files": (Repo({"train.csv": b"a\n1\n"}), {}, "holds other files, like train.csv"),
    }  # fmt: skip


def pulls(index: Path) -> dict[str, tuple[Repo | None, dict[str, Any], str]]:
    whole = contents(index)
    flipped = bytearray(whole["heads.parquet"])
    flipped[100] ^= 4
    gone = {name: data for name, data in whole.items() if name != "pairs/L00.parquet"}
    old = manifest_text(index, format=1).encode()
    evil = asdict(read_manifest(index))["files"] | {"../evil.parquet": (1, "0" * 64, "0" * 64)}
    named = {MANIFEST: manifest_text(index, files=evil).encode(), "../evil.parquet": b"x"}
    login = "log in with `hf auth login`."
    return {
        "missing": (None, {}, "is no dataset that the Hub shows you: check the name"),
        "gated": (Repo(whole, gated=True), {}, "is a gated dataset: ask for access at http"),
        "down": (Repo(status=503), {}, "the Hub answers 503: try again later."),
        "denied": (Repo(status=403), {}, f"the Hub answers 403: {login}"),
        "stalls": (Repo(stalls=True), {"seconds": 0.3}, "does not answer or breaks off"),
        "unreachable": (None, {"dead": True}, "check the connection, then pull again."),
        "breaks": (Repo(whole, breaks="heads.parquet"), {}, "does not answer or breaks off"),
        "breaks at once": (Repo(whole, breaks=MANIFEST), {}, "does not answer or breaks off"),
        "disk full": (Repo(whole), {"limit": 4096}, "cannot be written (File too large): free"),
        "damaged": (Repo(whole | {"heads.parquet": bytes(flipped)}), {}, "heads.parquet of"),
        "cut": (Repo(whole | {"heads.parquet": b"x"}), {}, "heads.parquet of"),
        "a file gone": (Repo(gone), {}, "File pairs/L00.parquet of"),
        "no index": (Repo({"README.md": b"# mine\n"}), {}, "holds no index: name a repository"),
        "another version": (Repo(whole | {MANIFEST: old}), {}, "has format 1, this version"),
        "no manifest": (Repo(whole | {MANIFEST: b"{}"}), {}, "has format None, this version"),
        "broken": (Repo(whole | {MANIFEST: whole[MANIFEST][:-9]}), {}, "The manifest of"),
        "evil": (Repo(whole | named), {}, "names '../evil.parquet', which does not belong"),
    }  # fmt: skip


@pytest.fixture(scope="module")
def push_answers(
    index: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Hub, dict[str, Done]]]:
    asked = pushes()
    names = {case: f"me/{case.replace(' ', '-')}" for case in asked}
    repos = {names[case]: repo for case, (repo, *_) in asked.items() if repo}
    with Hub(repos) as hub:
        cases = {c: {"words": ["push", index, names[c]], **asked[c][1]} for c in asked}
        yield hub, at(hub, tmp_path_factory.mktemp("push"), cases)


@pytest.mark.parametrize("case", pushes())
def test_a_push_that_fails(case: str, push_answers: tuple[Hub, dict[str, Done]]) -> None:
    hub, answers = push_answers
    repo, _, expected = pushes()[case]
    check_one_sentence(answers[case], expected)
    assert answers[case].stdout == ""
    assert len(answers[case].stderr.strip().splitlines()) <= 2  # the amount, the sentence
    name = f"me/{case.replace(' ', '-')}"
    assert hub.repos.get(name) == repo  # nothing of it is to be seen


@pytest.fixture(scope="module")
def pull_answers(
    index: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Done]]:
    folder = tmp_path_factory.mktemp("pull")
    asked = pulls(index)
    names = {case: f"me/{case.replace(' ', '-')}" for case in asked}
    with Hub({names[case]: repo for case, (repo, *_) in asked.items() if repo}) as hub:
        out = folder / "out"
        cases = {c: {"words": ["pull", names[c], "--out", out], **asked[c][1]} for c in asked}
        return folder, at(hub, folder, cases)


PULLS = [
    "missing", "gated", "down", "denied", "stalls", "unreachable", "breaks", "breaks at once",
    "disk full", "damaged", "cut", "a file gone", "no index", "another version", "no manifest",
    "broken", "evil",
]  # fmt: skip


@pytest.mark.parametrize("case", PULLS)
def test_a_pull_that_fails(
    case: str, index: Path, pull_answers: tuple[Path, dict[str, Done]]
) -> None:
    folder, answers = pull_answers
    assert set(answers) == set(PULLS)
    check_one_sentence(answers[case], pulls(index)[case][2])
    assert answers[case].stdout == ""
    assert len(answers[case].stderr.strip().splitlines()) <= 2
    assert list((folder / "out").iterdir()) == []
    assert not list(folder.rglob("evil*"))


def test_a_full_disk(index: Path, file: Path, tmp_path: Path) -> None:
    """The kernel refuses to write past a size, as it does on a disk that is full."""
    with Hub({}) as hub:
        done = at(
            hub,
            tmp_path,
            {
                "export": {"words": ["export", index, tmp_path / "a.tar"], "limit": 4096},
                "import": {"words": ["import", file, "--out", tmp_path / "out"], "limit": 4096},
            },
        )
    for one_of in done.values():
        check_one_sentence(one_of, "cannot be written (File too large): free some space")
    assert not [p for p in tmp_path.iterdir() if ".tar" in p.name]
    assert list((tmp_path / "out").iterdir()) == []


def _heed() -> None:
    """What a shell runs in the background ignores an interrupt, and hands that on."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGKILL])
def test_a_pull_that_is_stopped(kind: signal.Signals, index: Path, tmp_path: Path) -> None:
    """Nothing that could be taken for an index is left, and the next pull works."""
    out = tmp_path / "out"
    with Hub({"me/heads": Repo(contents(index), hangs="heads.parquet")}) as hub:
        pull = subprocess.Popen(
            [sys.executable, "-m", "attn", "pull", "me/heads", "--out", out],
            env=environment(hub, tmp_path),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=_heed,
        )
        wanted = f"GET /datasets/me/heads/resolve/{hub.repos['me/heads'].sha}/heads.parquet"
        deadline = time.monotonic() + 30
        while wanted not in hub.requests and time.monotonic() < deadline:
            time.sleep(0.01)
        pull.send_signal(kind)
        hub.repos["me/heads"] = Repo(contents(index))
        hub.released.set()  # what is under way when it is stopped comes to its end
        said, errors = pull.communicate(timeout=30)
        assert pull.returncode != 0
        assert said == ""
        assert "Traceback" not in errors
        assert find_indexes(out) == []
        if kind is signal.SIGINT:
            assert list(out.iterdir()) == []
        check_same(Path(worked(one(hub, tmp_path, "pull", "me/heads", "--out", out))), index)


def test_two_at_once(index: Path, file: Path, tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        received = list(pool.map(lambda _: import_index(file, tmp_path), range(8)))
    (folder,) = {one.folder for one in received}
    assert list(tmp_path.iterdir()) == [folder]
    check_same(folder, index)


class TestCard:
    def test_what_it_says(self, index: Path) -> None:
        manifest = read_manifest(index)
        told = replace(manifest, model="gpt2", revision="abc", corpus="sample")
        text = card(told, "me/heads", "small")
        assert text.startswith('---\npretty_name: "Attention heads of gpt2"\n')
        assert "\nviewer: false\n---\n" in text
        assert "| model | `gpt2` |\n| revision | `abc` |\n| heads | 2 layers × 4 = 8 |" in text
        assert "| corpus | `sample` |" in text
        assert f"| tokens | {manifest.tokens:,}, up to {manifest.ctx} of a window |" in text
        assert f"`{manifest.identity}`" in text
        assert "\npython -m attn pull me/heads --path small\n" in text

    def test_no_folder_of_this_machine(self, index: Path) -> None:
        places = {"corpus": "/home/me/secret/lines.txt", "model": "/home/me/secret/model"}
        text = card(replace(read_manifest(index), **places), "me/heads", None)
        assert "| corpus | `lines.txt` |" in text
        assert "| model | `model` |" in text
        assert "secret" not in text

    def test_names_are_not_markup(self, index: Path) -> None:
        manifest = replace(read_manifest(index), model='a"`\n---\n|x| <b>')
        text = card(manifest, "me/heads", None)
        assert text.count("\n---\n") == 1
        assert yaml.safe_load(text.split("---\n")[1]) == {
            "pretty_name": 'Attention heads of a"`---|x| <b>',
            "tags": ["attention", "interpretability"],
            "viewer": False,
        }
        assert '| model | `a" --- x <b>` |' in text


def test_the_folder_is_named_as_a_scan_names_it(index: Path) -> None:
    assert index_folder(asdict(read_manifest(index))) == index.name
    assert Index.open(index).pairs(HeadId(0, 0)) > 0
