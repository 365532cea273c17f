"""Pushes an index to a dataset repository of the Hugging Face Hub, and pulls it. No torch.

A push is one commit, so a pull sees either the old state or the new one. A pull downloads only the
files that the manifest names, from one commit, and checks them before the index appears. A
repository may hold several indexes, each in a folder of its own.
"""

from __future__ import annotations

import errno
import json
import os
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from attn.corpus.hub import HubName, Wording, explain, quiet_client
from attn.errors import AttnError, IndexDamaged, IndexMissing, SharingError
from attn.index.archive import (
    INDEX_FILE,
    MANIFEST_BYTES,
    Received,
    check_files,
    check_manifest,
    receiving,
    settle,
)
from attn.index.folder import index_folder, is_whole
from attn.index.format import MANIFEST
from attn.index.manifest import Manifest, parse_manifest, verify_files

SECONDS = 30.0  # that the Hub may take to answer

_PLACE = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)*", re.ASCII)
_CARD = "README.md"
_KEPT = (_CARD, ".gitattributes")
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM)
_AGAIN = "pull again, and if that does not help have it pushed again"

_PULL = Wording(
    SharingError,
    offline="cannot be pulled while HF_HUB_OFFLINE is set: unset it.",
    missing="is no dataset that the Hub shows you: check the name, "
    "or log in with `hf auth login` if it is private.",
    refused="log in with `hf auth login`",
    unreachable="check the connection, then pull again",
    failed="cannot be pulled ({reason}): pull again.",
    cannot="cannot be pulled",
)
_PUSH = replace(
    _PULL,
    offline="cannot be pushed to while HF_HUB_OFFLINE is set: unset it.",
    missing="is no dataset that the Hub lets you write: check the name, "
    "or log in with `hf auth login` and a token that may write there.",
    refused="log in with `hf auth login` and a token that may write there",
    unreachable="check the connection, then push again",
    failed="cannot be pushed to ({reason}): push again.",
    cannot="cannot be pushed to",
)


def push_index(
    folder: str | Path,
    name: str,
    *,
    private: bool = False,
    path: str | None = None,
    say: Callable[[str], object] = lambda text: None,
) -> str:
    """Put an index and its card into the dataset repository ``name``; returns the address.

    The repository is created if it does not exist, ``private`` on demand. ``path`` is a folder in
    it; an index that is there already is replaced, other files are not. Raises
    :class:`IndexFailure` for an incomplete index, or :class:`SharingError`.
    """
    import huggingface_hub as hf

    _check_names(name, path)
    folder = Path(folder)
    manifest = verify_files(folder)
    check_manifest(manifest, folder.name, "scan again")
    place = f"{path}/" if path else ""
    with _asking(name, None, _PUSH):
        if hf.get_token() is None:
            raise SharingError(
                "Pushing takes an account at the Hub: log in with `hf auth login`, or set HF_TOKEN."
            )
        api = hf.HfApi()
        api.create_repo(name, repo_type="dataset", private=private or None, exist_ok=True)
        info = api.dataset_info(name, timeout=SECONDS)
        if private and not info.private:
            raise SharingError(
                f"{name} is public already: push without --private, or name another repository."
            )
        there = {file: size for file, size in _sizes(name, info.sha).items() if _in(place, file)}
        _check_room(name, place, there)
        say(f"Pushing {_amount(manifest)}.")
        card_text = card(manifest, name, path).encode()
        files: dict[str, str | bytes] = {_CARD: card_text, MANIFEST: str(folder / MANIFEST)}
        files |= {file: str(folder / file) for file in sorted(manifest.files)}
        operations: list[Any] = [
            hf.CommitOperationAdd(place + file, source) for file, source in files.items()
        ]
        operations += [
            hf.CommitOperationDelete(file)
            for file in sorted(there)
            if INDEX_FILE.fullmatch(file[len(place) :]) and file[len(place) :] not in files
        ]
        api.create_commit(
            name,
            operations,
            commit_message=f"Attention index {index_folder(asdict(manifest))}",
            repo_type="dataset",
            parent_commit=info.sha,
        )
        url = f"{api.endpoint}/datasets/{name}"
        return f"{url}/tree/main/{path}" if path else url


def pull_index(
    name: str,
    out: str | Path,
    *,
    revision: str | None = None,
    path: str | None = None,
    say: Callable[[str], object] = lambda text: None,
) -> Received:
    """Put the index of the dataset repository ``name`` into ``out``, every byte of it checked.

    ``revision`` a branch, tag or commit; ``path`` the folder in it, which need not be named where
    there is only one index. Raises :class:`IndexDamaged`, :class:`IndexMismatch`,
    :class:`IndexMissing`, :class:`SharingError`.
    """
    import huggingface_hub as hf

    _check_names(name, path)
    out = Path(out)
    with receiving(out) as work, _asking(name, revision, _PULL):
        info = hf.HfApi().dataset_info(name, revision=revision, timeout=SECONDS)
        where: dict[str, Any] = {"repo_type": "dataset", "revision": info.sha}
        sizes = _sizes(name, info.sha)
        place = _find(name, sizes, path)
        if sizes[place + MANIFEST] > MANIFEST_BYTES:
            raise IndexMissing(f"The manifest of {name} is none: name another repository.")
        first = work.with_name("manifest")
        read = hf.hf_hub_download(name, place + MANIFEST, local_dir=first, **where)
        text = Path(read).read_bytes().decode(errors="replace")
        manifest = parse_manifest(text, Path(name), _AGAIN)
        check_manifest(manifest, name, _AGAIN)
        folder = out / index_folder(asdict(manifest))
        if is_whole(folder):
            return Received(folder, False)
        for file, told in manifest.files.items():  # before a byte of it is fetched
            if sizes.get(place + file) != told.size:
                what = "damaged" if place + file in sizes else "missing"
                raise IndexDamaged(f"File {file} of {name} is {what}: have it pushed again.")
        say(f"Pulling {_amount(manifest)}.")
        wanted = [place + file for file in manifest.files]
        down = work.with_name("down")
        hf.snapshot_download(name, local_dir=down, allow_patterns=wanted, **where)
        for file in manifest.files:
            (work / file).parent.mkdir(exist_ok=True)
            os.rename(down / place / file, work / file)
        (work / MANIFEST).write_bytes(text.encode())
        check_files(work, manifest, name, _AGAIN)
        return settle(work, folder)


def card(manifest: Manifest, name: str, path: str | None) -> str:
    """The README.md of a repository: what the index was made from, and how to open it."""
    size = sum(record.size for record in manifest.files.values())
    model, corpus = _shown(manifest.model), _shown(manifest.corpus)
    pull = f"python -m attn pull {name}" + (f" --path {path}" if path else "")
    heads = manifest.n_layers * manifest.n_heads
    rows = {
        "model": _code(model),
        "revision": _code(manifest.revision) if manifest.revision else "",
        "heads": f"{manifest.n_layers} layers × {manifest.n_heads} = {heads:,}",
        "corpus": _code(corpus),
        "documents": f"{manifest.documents:,}",
        "tokens": f"{manifest.tokens:,}, up to {manifest.ctx} of a window",
        "dtype": manifest.dtype,
        "size": f"{size / 1e6:,.1f} MB",
        "identity": _code(manifest.identity),
    }
    title = "".join(char for char in f"Attention heads of {model}" if char.isprintable())
    return "\n".join(
        [
            "---",
            f"pretty_name: {json.dumps(title, ensure_ascii=False)}",
            "tags:",
            "- attention",
            "- interpretability",
            "viewer: false",
            "---",
            "",
            f"# Attention heads of {_code(model)}",
            "",
            "What every attention head looks for over a corpus: metrics, ranked and random",
            "examples, and tables of tokens. The corpus's texts are part of it.",
            "",
            "| | |",
            "|---|---|",
            *(f"| {key} | {value} |" for key, value in rows.items() if value),
            "",
            "Open it with `attn`; neither the model nor a GPU is needed:",
            "",
            "```sh",
            pull,
            "streamlit run app.py",
            "```",
            "",
            "`pull` prints the folder, for `python -m attn top FOLDER L0H0` and the like.",
            "",
        ]
    )


def _shown(name: str) -> str:
    """A model's or corpus's name without the folders of this machine."""
    return Path(name).name if Path(name).is_absolute() else name


def _code(text: str) -> str:
    """A name from the manifest as code in a Markdown table, with everything in it escaped."""
    return "`" + re.sub(r"[`|\s]+", " ", text) + "`"


def _check_names(name: str, path: str | None) -> None:
    parsed = HubName.parse(name)
    if parsed is None or parsed.id != name:
        raise SharingError(f"{name!r} is no repository of the Hub: write OWNER/NAME.")
    if path is not None and not _PLACE.fullmatch(path):
        raise SharingError(
            f"{path!r} is no folder of a repository: write a name of letters, digits, - _ and ."
        )


def _sizes(name: str, commit: str | None) -> dict[str, int]:
    """Every file of a commit, and its size."""
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile

    tree = HfApi().list_repo_tree(name, recursive=True, revision=commit, repo_type="dataset")
    return {entry.path: entry.size for entry in tree if isinstance(entry, RepoFile)}


def _in(place: str, file: str) -> bool:
    return file.startswith(place)


def _check_room(name: str, place: str, there: Mapping[str, int]) -> None:
    """Check that a push goes to an empty folder or to one with an index."""
    others = sorted(file for file in there if file[len(place) :] not in _KEPT)
    if others and place + MANIFEST not in there:
        where = f"in {place[:-1]}" if place else ""
        raise SharingError(
            f"{name} holds other files{f' {where}' if where else ''}, like {others[0]}: "
            f"name a folder of it with --path, or another repository."
        )


def _find(name: str, files: Mapping[str, int], path: str | None) -> str:
    """The folder of the index, with its slash; empty for the repository itself."""
    places = sorted(
        file.removesuffix(MANIFEST)
        for file in files
        if file == MANIFEST
        or (file.endswith(f"/{MANIFEST}") and _PLACE.fullmatch(file.removesuffix(f"/{MANIFEST}")))
    )
    if path is not None:
        places = [place for place in places if place == f"{path}/"]
    if "" in places:
        return ""
    if not places:
        raise IndexMissing(
            f"{name} holds no index{f' in {path}' if path else ''}: name a repository "
            f"that `attn push` wrote."
        )
    if len(places) > 1:
        some = ", ".join(place[:-1] for place in places[:8])
        raise SharingError(f"{name} holds many indexes: name one with --path, of {some}.")
    return places[0]


def _amount(manifest: Manifest) -> str:
    size = sum(record.size for record in manifest.files.values())
    return f"{len(manifest.files)} files, {size / 1e6:,.1f} MB"


@contextmanager
def _asking(name: str, revision: str | None, wording: Wording) -> Iterator[None]:
    """Silence the Hub's client, and turn its errors into one sentence each."""
    try:
        with quiet_client(SECONDS), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except AttnError:
        raise
    except Exception as error:
        cause: BaseException | None = error if wording is _PULL else None
        while cause is not None:
            if isinstance(cause, OSError) and cause.errno in _DISK:
                raise OSError(cause.errno, os.strerror(cause.errno)) from error
            cause = cause.__cause__ or cause.__context__
        raise explain(name, revision, error, wording) from error
