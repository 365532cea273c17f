"""Names and files → documents: what is read, what is skipped, and one sentence for the rest."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from attn.corpus import corpus, files
from attn.corpus.corpus import Corpus, load_corpus
from attn.corpus.hub import HubName
from attn.errors import CorpusError, EmptyCorpus
from tests.hub import Hub, Repo

ROOT = Path(__file__).parents[2]
FUZZ = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


def texts(loaded: Corpus) -> list[str]:
    return [document.text for document in loaded]


def sources(loaded: Corpus) -> list[str]:
    return [document.source for document in loaded]


def jsonl(*rows: object) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def parquet(**columns: Any) -> bytes:
    import pyarrow as pa
    from pyarrow.parquet import write_table

    data = io.BytesIO()
    write_table(pa.table(columns), data)
    return data.getvalue()


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., str]:
    def write(name: str, data: bytes | str) -> str:
        path = tmp_path / name
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        return str(path)

    return write


@pytest.fixture
def sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "sample.jsonl"
    path.write_bytes(
        jsonl(
            {"genre": "recipe", "text": "Stir the rice."},
            {"genre": "log", "text": "12:00 started"},
            {"genre": "recipe", "text": "Bake it — slowly."},
        )
    )
    monkeypatch.setattr(corpus, "_sample_file", lambda: path)


# --- what is read


@pytest.mark.usefixtures("sample")
def test_the_sample_is_the_default() -> None:
    loaded = load_corpus()
    assert loaded.name == "sample"
    assert (loaded.total, loaded.docs, loaded.revision) == (3, None, None)
    assert sources(loaded) == ["sample: recipe", "sample: log", "sample: recipe"]
    assert texts(loaded)[2] == "Bake it — slowly."
    assert loaded.notices == ()


def test_the_shipped_sample_is_varied() -> None:
    loaded = load_corpus()
    passages = texts(loaded)
    genres = [source.removeprefix("sample: ") for source in sources(loaded)]
    order = genres[:16]
    assert len(set(order)) == 16
    assert genres == order * 17  # interleaved: the first 16 documents show every genre
    assert len(passages) == loaded.total == 272
    assert all(50 <= len(passage.split()) <= 150 for passage in passages)
    openings = [tuple(passage.lower().split()[:3]) for passage in passages]
    assert len(set(openings)) == len(openings)


def test_a_missing_sample_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus, "_sample_file", lambda: tmp_path / "none.jsonl")
    with pytest.raises(CorpusError, match="install attn again"):
        load_corpus()


def test_python_docs() -> None:
    loaded = load_corpus("python-docs")
    found = list(loaded)
    assert "python-docs: lambda" in sources(loaded)
    assert len(found) == loaded.total > 50
    assert loaded.revision == ".".join(map(str, sys.version_info[:3]))
    assert [document.place for document in found] == list(range(len(found)))


ROWS = ["first text", "zweiter Text, mit „Anführung“", "third, with a comma", "first text"]
MADE: dict[str, Callable[[], bytes]] = {
    ".txt": lambda: "\n".join(ROWS).encode(),
    ".jsonl": lambda: jsonl(*({"n": i, "text": row} for i, row in enumerate(ROWS))),
    ".csv": lambda: ("n,text\n" + "".join(f'1,"{row}"\n' for row in ROWS)).encode(),
    ".parquet": lambda: parquet(n=list(range(4)), text=ROWS),
}


@pytest.mark.parametrize("kind", files.KINDS)
def test_each_kind_of_file(kind: str, write: Callable[..., str]) -> None:
    data = MADE[kind.removesuffix(".gz")]()
    path = write(f"some{kind}", gzip.compress(data) if kind.endswith(".gz") else data)
    loaded = load_corpus(path)
    assert texts(loaded) == ROWS
    unit = "line" if ".txt" in kind or ".jsonl" in kind else "row"
    assert sources(loaded) == [f"some{kind} {unit} {i}" for i in range(1, 5)]
    assert loaded.name == path
    assert loaded.notices == ()
    assert texts(load_corpus(path, docs=2)) == ROWS[:2]


def test_ids_are_hashes_of_the_text(write: Callable[..., str]) -> None:
    found = list(load_corpus(write("a.txt", "\n".join(ROWS))))
    assert found[1].id == hashlib.sha256(ROWS[1].encode()).hexdigest()[:16]
    assert found[0].id == found[3].id
    assert [document.place for document in found] == [0, 1, 2, 3]


def test_iterating_again_reads_again(write: Callable[..., str]) -> None:
    loaded = load_corpus(write("a.txt", "one\n\ntwo\n"))
    half = iter(loaded)
    next(half)
    assert texts(loaded) == texts(loaded) == ["one", "two"]
    assert [next(half).text] == ["two"]


def test_docs_keeps_the_first_and_reads_no_further(write: Callable[..., str]) -> None:
    path = write("a.txt", "one\n\ntwo\nthree\n\n\nfour\n")
    loaded = load_corpus(path, docs=2)
    assert texts(loaded) == ["one", "two"]
    assert (loaded.docs, loaded.total) == (2, 2)
    assert loaded.notices == ("Skipped 1 of 3 rows: 1 empty.",)
    assert texts(load_corpus(path, docs=99)) == ["one", "two", "three", "four"]


def test_a_field_is_named_after_a_colon(write: Callable[..., str]) -> None:
    for name, data in {
        "a.csv": b"title,text\nT,x\n",
        "a.jsonl": jsonl({"title": "T", "text": "x"}),
        "a.parquet": parquet(title=["T"], text=["x"]),
    }.items():
        path = write(name, data)
        loaded = load_corpus(f"{path}:title")
        assert loaded.name == f"{path}:title"
        assert texts(loaded) == ["T"]
        assert load_corpus(f"{path}:text").name == path


@pytest.mark.skipif(os.name == "nt", reason="no colons in file names")
def test_the_longest_path_that_exists_is_the_file(write: Callable[..., str]) -> None:
    long = write("a.csv:title.csv", "text,b\nlong,long b\n")
    short = write("a.csv", "title,text\nT,x\n")
    assert long.startswith(short)
    assert texts(load_corpus(long)) == ["long"]
    assert texts(load_corpus(f"{long}:b")) == ["long b"]
    assert texts(load_corpus(f"{short}:title")) == ["T"]


def test_a_drive_letter_is_no_field(write: Callable[..., str], monkeypatch: Any) -> None:
    there = {r"C:\texts\a.csv", r"D:\odd:name.txt"}
    monkeypatch.setattr(os.path, "isfile", lambda path: path in there)
    assert corpus._find_file(r"C:\texts\a.csv:title") == (r"C:\texts\a.csv", "title")
    assert corpus._find_file(r"C:\texts\a.csv") == (r"C:\texts\a.csv", None)
    assert corpus._find_file(r"D:\odd:name.txt") == (r"D:\odd:name.txt", None)
    assert corpus._find_file(r"C:\texts\b.csv") is None


# --- encodings


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("kind", [".txt", ".csv", ".jsonl"])
def test_byte_order_marks(encoding: str, kind: str, write: Callable[..., str]) -> None:
    data = {
        ".txt": "naïve 😀\ntwo\n",
        ".csv": "text\nnaïve 😀\ntwo\n",
        ".jsonl": '{"text": "naïve 😀"}\n{"text": "two"}\n',
    }[kind]
    mark = "" if encoding in ("utf-8-sig", "utf-16", "utf-32") else "\ufeff"
    path = write(f"a{kind}", (mark + data).encode(encoding))
    assert texts(load_corpus(path)) == ["naïve 😀", "two"]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_ends(end: str, write: Callable[..., str]) -> None:
    assert texts(load_corpus(write("a.txt", f"one{end}two{end}"))) == ["one", "two"]


def test_invalid_utf8_is_replaced_and_counted(write: Callable[..., str]) -> None:
    notice = ("Unreadable characters stand as \ufffd in 1 of 2 rows.",)
    for name, data in {
        "a.txt": b"caf\xe9 open\nfine\n",
        "a.csv": b"text\ncaf\xe9 open\nfine\n",
        "a.jsonl": b'{"text": "caf\xe9 open"}\n{"text": "fine"}\n',
        "b.jsonl": b'{"text": "caf\\ud83d open"}\n{"text": "fine"}\n',
    }.items():
        loaded = load_corpus(write(name, data))
        assert texts(loaded) == ["caf\ufffd open", "fine"]
        assert loaded.notices == notice


def test_invalid_utf8_in_parquet(write: Callable[..., str]) -> None:
    import pyarrow as pa

    column = pa.array([b"caf\xe9 open", b"fine"], pa.binary()).view(pa.string())
    loaded = load_corpus(write("a.parquet", parquet(text=column)))
    assert texts(loaded) == ["caf\ufffd open", "fine"]
    assert len(loaded.notices) == 1


def test_parquet_texts_of_every_type(write: Callable[..., str]) -> None:
    import pyarrow as pa

    plain = ["one", None, "two", "one"]
    for kind in (pa.string(), pa.large_string(), pa.string_view()):
        path = write("a.parquet", parquet(text=pa.array(plain, kind)))
        assert texts(load_corpus(path)) == ["one", "two", "one"]
    path = write("a.parquet", parquet(text=pa.array(plain).dictionary_encode()))
    assert texts(load_corpus(path)) == ["one", "two", "one"]


# --- rows without text


def test_rows_without_text_are_counted(write: Callable[..., str]) -> None:
    rows = [
        jsonl({"text": "kept"}, {"text": ""}, {"text": " \n\t"}, 5, None, ["text"], "text"),
        jsonl({"text": 5}, {"text": None}, {"text": ["a"]}, {"other": "x"}),
        b'{"text": "cut\n\n' + b"[" * 100_000 + b"\n",
    ]
    loaded = load_corpus(write("a.jsonl", b"".join(rows)))
    assert texts(loaded) == ["kept"]
    assert loaded.notices == (
        "Skipped 13 of 14 rows: 3 empty, 8 without text in 'text', 2 not JSON.",
    )


def test_csv_rows_without_text_are_counted(write: Callable[..., str]) -> None:
    loaded = load_corpus(write("a.csv", 'n, text ,m\n1,"a ""b""\nc",2\n\n1\n1, ,2\n1,z\n'))
    assert texts(loaded) == ['a "b"\nc', "z"]
    assert sources(loaded) == ["a.csv row 1", "a.csv row 5"]
    assert loaded.notices == ("Skipped 3 of 5 rows: 2 empty, 1 without text in 'text'.",)


def test_a_huge_csv_field_and_the_limit_of_the_process(write: Callable[..., str]) -> None:
    before = csv.field_size_limit()
    assert before < 300_000
    loaded = load_corpus(write("a.csv", "text\n" + "x" * 300_000 + "\nshort\n"))
    for document in loaded:
        assert csv.field_size_limit() == before
        assert document.text in ("x" * 300_000, "short")
    assert csv.field_size_limit() == before


# --- errors


ERRORS: dict[str, tuple[str, bytes, str]] = {
    "empty txt": ("a.txt", b"", "a.txt holds no text: it is empty"),
    "blank txt": ("a.txt", b"\n \n", "all of its 2 rows were skipped (2 empty)"),
    "header only": ("a.csv", b"text\n", "holds no text"),
    "no csv at all": ("a.csv", b"", "holds no text"),
    "no rows": ("a.parquet", b"", "cannot be read as Parquet ("),
    "nulls": ("a.jsonl", b"null\n5\n", "2 without text in 'text'"),
    "csv field": ("a.csv", b"title,body\na,b\n", "no field 'text': name one of its fields"),
    "csv fields listed": ("a.csv", b"title,body\na,b\n", "'title', 'body'"),
    "jsonl field": ("a.jsonl", b'{"a": "x", "b": 1}\n', "'a', 'b'"),
    "no such kind": ("a.docx", b"x", ".parquet"),
    "zipped parquet": ("a.parquet.gz", b"x", "of no kind"),
    "no gzip": ("a.txt.gz", b"plain text", "damaged after line 0"),
    "cut gzip": ("a.txt.gz", gzip.compress(b"x y z\n" * 999)[:-12], "pack it again"),
    "no parquet": ("a.parquet", b"PAR1 but no more", "cannot be read as Parquet ("),
    "long line": ("a.txt", b"fine\n" + b"x" * (files.LIMIT + 1), "line 2 is longer than 16"),
    "open quote": ("a.csv", b'text\nok\n"' + b"line\n" * 4_000_000, "is longer than 16"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_bad_files_get_one_sentence(case: str, write: Callable[..., str]) -> None:
    name, data, expected = ERRORS[case]
    path = write(name, data)
    with pytest.raises(CorpusError) as caught:
        list(load_corpus(path))
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith(".")


def test_an_empty_corpus_is_an_error_of_its_own(write: Callable[..., str]) -> None:
    with pytest.raises(EmptyCorpus):
        load_corpus(write("a.txt", b"\n"))


def test_parquet_errors(write: Callable[..., str]) -> None:
    path = write("a.parquet", parquet(text=[1, 2], title=["a", "b"], tags=[["x"], []]))
    for name, expected in {
        path: "holds int64 in 'text', not text",
        f"{path}:tags": "not text",
        f"{path}:body": "no field 'body': name one of its fields after a colon: 'text', 'title'",
        f"{path}:": "names no field",
    }.items():
        with pytest.raises(CorpusError, match=expected):
            load_corpus(name)


def test_many_fields_are_not_all_listed(write: Callable[..., str]) -> None:
    path = write("a.csv", ",".join(f"column{i}" for i in range(5000)) + "\n")
    with pytest.raises(CorpusError, match="…") as caught:
        load_corpus(path)
    assert len(str(caught.value)) < 1000


def test_a_jsonl_without_the_field_is_not_read_to_its_end(write: Callable[..., str]) -> None:
    path = write("a.jsonl", jsonl(*[{"body": "x"}] * 3000, {"text": "late"}))
    with pytest.raises(CorpusError, match="'body'"):
        load_corpus(path)


@pytest.mark.parametrize("docs", [0, -1])
def test_docs_from_one(docs: int) -> None:
    with pytest.raises(CorpusError, match="from 1"):
        load_corpus("python-docs", docs=docs)


UNKNOWN = [
    "",
    "none.txt",
    "data/none.jsonl",
    "data/none.csv:title",
    "./none",
    "~/none.txt",
    "/",
    "a\0b",
]
UNKNOWN += [
    r"C:\none.txt:text",
    "Sample",
    "python-docs:x",
    "a b/c",
    "a/b/c/d",
    "https://a.b/c.txt",
    "x" * 9999,
]


@pytest.mark.parametrize("name", UNKNOWN, ids=lambda name: ascii(name)[:30])
def test_unknown_names_say_what_there_is(name: str) -> None:
    with pytest.raises(CorpusError, match="name sample, python-docs, a file"):
        load_corpus(name)


def test_split_and_field_where_there_are_none(write: Callable[..., str]) -> None:
    path = write("a.txt", "x\n")
    for name in ("sample", "python-docs", path):
        with pytest.raises(CorpusError, match="leave the split 'test' out"):
            load_corpus(name, split="test")
    with pytest.raises(CorpusError, match="leave ':title' out"):
        load_corpus(f"{path}:title")
    with pytest.raises(CorpusError, match="disagree"):
        load_corpus("a/b#train", split="test")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads anything")
def test_a_file_that_may_not_be_read(write: Callable[..., str]) -> None:
    path = write("a.txt", "x\n")
    os.chmod(path, 0)
    with pytest.raises(CorpusError, match="cannot be read: Permission"):
        load_corpus(path)


# --- any bytes


def readable(path: str) -> None:
    """Reading gives documents that are sound, or a CorpusError, and nothing else."""
    try:
        for place, document in enumerate(load_corpus(path)):
            assert document.place == place
            assert document.text.strip()
            document.text.encode()
    except CorpusError:
        pass


SOME_BYTES = st.one_of(
    st.binary(max_size=200),
    st.text(alphabet='",\n\r\0a text{}[]:é😀\ufeff\\', max_size=100).map(
        lambda text: b"text\n" + text.encode()
    ),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.just("text"), inner),
    max_leaves=5,
)


@FUZZ
@given(data=SOME_BYTES, kind=st.sampled_from([k for k in files.KINDS if k != ".parquet"]))
def test_any_bytes(data: bytes, kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"fuzz{kind}"
    path.write_bytes(data)
    readable(str(path))
    if kind.endswith(".gz"):
        zipped = bytearray(gzip.compress(data, mtime=0))
        path.write_bytes(zipped)
        readable(str(path))
        zipped[len(data) % len(zipped)] ^= 0x55
        path.write_bytes(zipped)
        readable(str(path))


@FUZZ
@given(rows=st.lists(JSON, max_size=6))
def test_any_json(rows: list[object], tmp_path: Path) -> None:
    path = tmp_path / "fuzz.jsonl"
    path.write_bytes(jsonl(*rows))
    readable(str(path))


@FUZZ
@given(rows=st.lists(st.text(max_size=20), min_size=1, max_size=8))
def test_csv_gives_back_what_was_written(rows: list[str], tmp_path: Path) -> None:
    path = tmp_path / "fuzz.csv"
    rows = [row.replace("\r", "").encode("utf-8", "replace").decode() for row in rows]
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL)
        writer.writerows([["n", "text"], *(["1", row] for row in rows)])
    kept = [row for row in rows if row and not row.isspace()]
    if kept:
        assert texts(load_corpus(str(path))) == kept
    else:
        with pytest.raises(EmptyCorpus):
            load_corpus(str(path))


WHOLE = parquet(text=["some text", "more text"] * 20)


@FUZZ
@given(end=st.integers(0, len(WHOLE)), start=st.integers(0, 9))
def test_any_cut_parquet(end: int, start: int, tmp_path: Path) -> None:
    path = tmp_path / "fuzz.parquet"
    path.write_bytes(WHOLE[start if start < 5 else 0 : end])
    readable(str(path))


# --- memory


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_stays_flat(tmp_path: Path) -> None:
    """Files that unfold to 500 MB and more are read, or refused, within 150 MB."""
    import pyarrow as pa
    from pyarrow.parquet import write_table

    index = pa.array([0] * 125_000, pa.int32())
    column = pa.DictionaryArray.from_arrays(index, pa.array(["x" * 4000]))
    table = pa.table({"text": column, "other": column})
    write_table(table, tmp_path / "big.parquet", row_group_size=125_000, store_schema=False)
    line = "words and more words " * 200 + "\n"
    member = gzip.compress(line.encode() * 240)
    (tmp_path / "big.txt.gz").write_bytes(member * 500)
    (tmp_path / "big.csv.gz").write_bytes(gzip.compress(b"text\n") + member * 250)
    (tmp_path / "bomb.txt.gz").write_bytes(gzip.compress(b"x" * 2**20) * 500)
    (tmp_path / "bomb.jsonl.gz").write_bytes(gzip.compress(b"[" * 2**20) * 500)
    (tmp_path / "bomb.csv.gz").write_bytes(gzip.compress(b'text\n"') + member * 500)
    small = sum((tmp_path / name).stat().st_size for name in os.listdir(tmp_path))
    assert small < 10_000_000
    code = """
        import resource, sys
        from attn.corpus.corpus import load_corpus
        from attn.errors import CorpusError

        import pyarrow.parquet

        def peak():
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

        before = peak()
        for name in sys.argv[1:]:
            try:
                print(name, sum(1 for _ in load_corpus(name)))
            except CorpusError as error:
                print(name, "refused:", error)
        print("grew", peak() - before)
    """
    names = ["big.parquet", "big.txt.gz", "big.csv.gz", "bomb.txt.gz", "bomb.jsonl.gz"]
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *names, "bomb.csv.gz"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    *lines, grew = done.stdout.splitlines()
    assert lines[:3] == ["big.parquet 125000", "big.txt.gz 120000", "big.csv.gz 60000"]
    assert all("is longer than 16 million characters" in line for line in lines[3:])
    assert int(grew.split()[1]) < 150


# --- the Hub


@pytest.mark.parametrize(
    ("text", "expected"),
    {
        "stas/openwebtext-10k": HubName("stas/openwebtext-10k"),
        "a/b:body": HubName("a/b", field="body"),
        "a/b/c.d-e@v1.0#test:x:y": HubName("a/b", "c.d-e", "v1.0", "test", "x:y"),
        "a/b@refs/pr/1": HubName("a/b", revision="refs/pr/1"),
        "gpt2": None,
        "../b": None,
        "a/b:": None,
        "a/b\n": None,
        "a/b/../c": None,
    }.items(),
)
def test_names_of_hub_datasets(text: str, expected: HubName | None) -> None:
    assert HubName.parse(text) == expected
    if expected:
        assert str(expected) == text


def test_the_hub_is_off_while_offline() -> None:
    with pytest.raises(CorpusError, match="HF_HUB_OFFLINE is set: unset it"):
        load_corpus("stas/openwebtext-10k")


CONFIGS = b"---\nconfigs:\n- config_name: a\n  data_files: a.jsonl\n"
CONFIGS += b"- config_name: b\n  data_files: b.jsonl\n---\n"
MIXED = jsonl({"text": 5}, {"text": "x"}, {"text": ["a"]}, {"text": {"b": 1}}, {"other": 1})


@cache
def repos() -> dict[str, Repo]:
    test = parquet(text=["held out"], body=["u"], n=[1])
    columns = parquet(text=["a b", "c d", None, " "], body=["x", "y", "z", "w"], n=[1, 2, 3, 4])
    script = {"script.py": b"open('ran', 'w')", "train.txt": b"x\n"}
    configs = {"README.md": CONFIGS, "a.jsonl": jsonl({"text": "in a"})}
    return {
        "o/parquet": Repo({"data/train-0.parquet": columns, "data/test-0.parquet": test}),
        "o/jsonl": Repo({"train.jsonl": jsonl(*({"text": f"row {i}"} for i in range(40)))}),
        "o/mixed": Repo({"train.jsonl": MIXED}),
        "o/csv": Repo({"train.csv": b"text,n\nhello,1\nbad \xff,2\n,3\n"}),
        "o/gz": Repo({"train.jsonl.gz": gzip.compress(jsonl({"text": "packed"}))}),
        "o/configs": Repo(configs | {"b.jsonl": jsonl({"text": "in b"})}),
        "o/script": Repo(script),
        "o/none": Repo({"README.md": b"# nothing\n"}),
        "o/damaged": Repo({"train.parquet": parquet(text=["a"] * 100)[:-30]}),
        "o/blank": Repo({"train.jsonl": jsonl({"text": ""})}),
        "o/gated": Repo({"train.txt": b"one\n"}, gated=True),
        "o/down": Repo(status=503),
        "o/denied": Repo(status=403),
        "o/stalls": Repo(stalls=True),
        "o/breaks": Repo({"train.jsonl": jsonl({"text": "x"})}, breaks="train.jsonl"),
    }


HUB_DRIVER = """
    import json, os, sys, time

    import datasets
    import huggingface_hub
    from attn.corpus import hub
    from attn.corpus.corpus import load_corpus

    def settings():
        names = [n for n in dir(datasets.config) if n.startswith("STREAMING")]
        return [
            *(getattr(datasets.config, n) for n in names),
            datasets.logging.get_verbosity(),
            huggingface_hub.logging.get_verbosity(),
            datasets.are_progress_bars_disabled(),
            huggingface_hub.utils.are_progress_bars_disabled(),
            str(huggingface_hub.utils.get_session().timeout),
        ]

    before, answers = settings(), {}
    address = huggingface_hub.constants.ENDPOINT
    os.makedirs("o/jsonl")  # a folder here is not the dataset
    for case, (name, split) in json.load(sys.stdin).items():
        start = time.monotonic()
        hub.SECONDS = 0.5 if name == "o/stalls" else 10
        sleep, time.sleep = time.sleep, time.sleep if name != "o/breaks" else lambda seconds: None
        dead = "http://127.0.0.1:1" if name == "o/unreachable" else address
        huggingface_hub.constants.ENDPOINT = dead
        try:
            corpus = load_corpus(name, split=split)
            documents = [(d.source, d.text) for d in corpus]
            again = [(d.source, d.text) for d in corpus]
            assert again == documents
            remade = [(d.source, d.text) for d in load_corpus(corpus.name)]
            assert remade == documents
            answer = [corpus.name, corpus.revision, documents, corpus.notices]
        except ValueError as error:
            answer = [type(error).__name__, str(error)]
        time.sleep = sleep
        answers[case] = {"answer": answer, "seconds": time.monotonic() - start}
    assert settings() == before, (settings(), before)
    print(json.dumps(answers))
"""

READ: dict[str, tuple[str, str | None, str, list[str], int]] = {
    # case: name, split → canonical name with @ for the commit, texts, notices
    "parquet": ("o/parquet", None, "o/parquet@", ["a b", "c d"], 1),
    "split": ("o/parquet", "test", "o/parquet@#test", ["held out"], 0),
    "split in the name": ("o/parquet#test:body", None, "o/parquet@#test:body", ["u"], 0),
    "field": ("o/parquet@main:body", "train", "o/parquet@:body", ["x", "y", "z", "w"], 0),
    "jsonl": ("o/jsonl", None, "o/jsonl@", [f"row {i}" for i in range(40)], 0),
    "mixed": ("o/mixed", None, "o/mixed@", ["x"], 1),
    "csv": ("o/csv", None, "o/csv@", ["hello", "bad \ufffd"], 2),
    "gz": ("o/gz", None, "o/gz@", ["packed"], 0),
    "configuration": ("o/configs/b", None, "o/configs/b@", ["in b"], 0),
}
REFUSED: dict[str, tuple[str, str]] = {
    "no field": (
        "o/parquet:title",
        "has no field 'title': name one of its fields after a colon: 'te",
    ),
    "no jsonl field": ("o/jsonl:title", "has no field 'title'"),
    "no text": ("o/parquet:n", "holds int64 in 'n', not text"),
    "no split": ("o/parquet#dev", "has no split 'dev': name one of 'train', 'test'."),
    "no revision": ("o/parquet@v9", "has no revision 'v9': name a branch"),
    "no configuration": (
        "o/configs",
        "has many configurations: write o/configs/CONFIG with one of a",
    ),
    "bad configuration": ("o/configs/z", "has no configuration 'z'"),
    "script": ("o/script", "needs a script of its own, which is never run"),
    "no files": ("o/none", "holds no files of text"),
    "damaged": ("o/damaged", "cannot be read (Parquet magic bytes"),
    "empty": ("o/blank", "holds no text"),
    "missing": ("o/missing", "is neither a file nor a dataset"),
    "gated": ("o/gated", "is a gated dataset: ask for access at http"),
    "down": ("o/down", "the Hub answers 503: try again later."),
    "denied": ("o/denied", "the Hub answers 403: log in"),
    "stalls": ("o/stalls", "does not answer or breaks off: check the connection"),
    "breaks": ("o/breaks", "does not answer or breaks off: check the connection"),
    "unreachable": ("o/unreachable", "does not answer or breaks off: check the connection"),
}


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """What a process says that asks the stand-in for every dataset of READ and REFUSED."""
    folder = tmp_path_factory.mktemp("hub")
    cases = {case: (name, split) for case, (name, split, *_) in READ.items()}
    cases |= {case: (name, None) for case, (name, _) in REFUSED.items()}
    with Hub(repos()) as hub:
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(HUB_DRIVER)],
            input=json.dumps(cases),
            cwd=folder,
            env={k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
            | {
                "PYTHONPATH": str(ROOT),
                "HF_ENDPOINT": hub.url,
                "HF_HOME": str(folder / "home"),
                "HF_HUB_OFFLINE": "0",
            },
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        assert not (folder / "ran").exists()
        yield json.loads(done.stdout)


@pytest.mark.parametrize("case", READ)
def test_hub_datasets_are_streamed(case: str, answers: dict[str, Any]) -> None:
    name, _, canonical, expected, notices = READ[case]
    got_name, revision, documents, got_notices = answers[case]["answer"]
    dataset = name.partition("#")[0].partition(":")[0].partition("@")[0]
    owner_name = "/".join(dataset.split("/")[:2])
    assert revision == repos()[owner_name].sha
    assert got_name == canonical.replace("@", f"@{revision}")
    assert [text for _, text in documents] == expected
    assert documents[0][0].startswith(f"{owner_name} row ")
    assert len(got_notices) == notices


@pytest.mark.parametrize("case", REFUSED)
def test_hub_errors_are_one_sentence(case: str, answers: dict[str, Any]) -> None:
    name, expected = REFUSED[case]
    kind, sentence = answers[case]["answer"]
    assert kind == ("EmptyCorpus" if case == "empty" else "CorpusError")
    assert sentence.startswith(name.partition(":")[0].partition("#")[0].partition("@")[0][:8])
    assert expected in sentence
    assert "\n" not in sentence
    assert sentence.endswith(".")
    assert answers[case]["seconds"] < 10
