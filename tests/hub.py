"""A stand-in of the Hugging Face Hub's HTTP API on 127.0.0.1, for the real client libraries.

It serves small dataset repositories to a process that was started with HF_ENDPOINT set to its
address, and takes new ones and commits from one that also has HF_TOKEN set to :data:`TOKEN` and
HF_HUB_DISABLE_XET to 1. It stops by itself after a number of seconds or of requests.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

MAX_BODY = 1 << 23  # bytes of a request
TOKEN = "hf_may_write"


@dataclass(frozen=True)
class Repo:
    """A dataset repository: its files, and how it misbehaves.

    ``gated``: everybody may see it, nobody may read its files; ``status``: every request about
    it is answered so; ``stalls``: no request about it is answered at all; ``breaks``: this file
    ends in the middle, each time it is fetched; ``hangs``: this one does not come before the
    stand-in is ``released``; ``private``: nobody sees it without the token;
    ``refuses``: step of a push (create, preupload, batch, put, commit) → status, 0 to hang up;
    ``large``: the files that were sent as LFS objects.
    """

    files: Mapping[str, bytes] = field(default_factory=dict)
    gated: bool = False
    status: int | None = None
    stalls: bool = False
    breaks: str | None = None
    hangs: str | None = None
    private: bool = False
    refuses: Mapping[str, int] = field(default_factory=dict)
    large: frozenset[str] = frozenset()

    @property
    def sha(self) -> str:
        """The commit: a hash of the files."""
        digest = hashlib.sha1(usedforsecurity=False)
        for name, data in sorted(self.files.items()):
            digest.update(f"{name}\0{len(data)}\0".encode() + data)
        return digest.hexdigest()


class Hub:
    """Serves ``repos`` (by ``owner/name``) while its ``with`` block runs."""

    def __init__(
        self, repos: Mapping[str, Repo], *, seconds: float = 120, requests: int = 2000
    ) -> None:
        self.repos = dict(repos)
        self.history: dict[str, Repo] = {}  # commit → what the repository was then
        self.objects: dict[tuple[str, str], bytes] = {}  # sent as LFS, by repository and SHA-256
        self.requests: list[str] = []  # "METHOD /path" of all that came in
        self.released = threading.Event()
        self._left = requests
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.hub = self
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        )
        self._timer = threading.Timer(seconds, self.stop)
        self._timer.daemon = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Hub:
        self._thread.start()
        self._timer.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._timer.cancel()
        self.stop()
        self._thread.join(5)

    def stop(self) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()

    def admit(self, request: str) -> bool:
        """Count a request; False once there were too many."""
        with self._lock:
            self.requests.append(request)
            self._left -= 1
            if self._left == 0:
                threading.Thread(target=self.stop, daemon=True).start()
            return self._left >= 0


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    hub: Hub

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30
    server: _Server

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""

    def do_GET(self) -> None:
        self._handle()

    def do_HEAD(self) -> None:
        self._handle()

    def do_POST(self) -> None:
        self._handle()

    def do_PUT(self) -> None:
        self._handle()

    def _handle(self) -> None:
        hub = self.server.hub
        path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
        length = int(self.headers.get("Content-Length") or 0)
        if not hub.admit(f"{self.command} {path}") or length > MAX_BODY:
            self.close_connection = True
            return None
        body = self.rfile.read(length)
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        if path == "/api/validate-yaml":
            return self._json({"errors": [], "warnings": []})
        if put := re.fullmatch(r"/lfs/([^/]+/[^/]+)/([0-9a-f]{64})", path):
            return self._put(*put.groups(), body)
        if batch := re.fullmatch(r"/datasets/([^/]+/[^/]+)\.git/info/lfs/objects/batch", path):
            return self._batch(batch[1], json.loads(body))
        match = re.fullmatch(r"(/api)?/datasets/([^/]+/[^/]+)(?:/([a-z-]+))?(?:/(.*))?", path)
        if not match:
            return self._fail(404, "NotFound")
        api, name, verb, rest = match.groups()
        repo = hub.repos.get(name)
        if repo is None or (repo.private and not self._may_write()):
            return self._fail(401, "RepoNotFound")
        if repo.stalls:
            hub.released.wait(60)
            self.close_connection = True
            return None
        if repo.status:
            return self._fail(repo.status)
        revision, _, inside = (rest or "main").partition("/")
        if verb in ("preupload", "commit"):
            return self._refused(repo, verb) or getattr(self, f"_{verb}")(name, repo, body)
        repo = hub.history.get(revision, repo)
        if revision not in ("main", repo.sha):
            return self._fail(404, "RevisionNotFound")
        if not api:
            return self._resolve(repo, inside)
        if verb in (None, "revision"):
            return self._info(name, repo)
        if verb == "tree":
            entries = self._entries(repo)
            below = [e for e in entries if not inside or e["path"].startswith(f"{inside}/")]
            if inside and not below:
                return self._fail(404, "EntryNotFound")
            return self._json(below)
        if verb == "paths-info":
            form = urllib.parse.parse_qs(body.decode())
            return self._json([e for e in self._entries(repo) if e["path"] in form["paths"]])
        return self._fail(404, "NotFound")

    def _may_write(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def _refused(self, repo: Repo | None, step: str) -> bool:
        """Whether a step of a push was answered with a failure already."""
        status = repo.refuses.get(step) if repo else None
        if step != "put" and not self._may_write():
            status = 401
        if status == 0:
            self.close_connection = True
        elif status is not None:
            self._fail(status)
        return status is not None

    def _create(self, asked: Mapping[str, Any]) -> None:
        hub = self.server.hub
        name = f"{asked['organization']}/{asked['name']}"
        repo = hub.repos.get(name)
        if repo is not None and repo.stalls:
            hub.released.wait(60)
            self.close_connection = True
            return None
        if self._refused(repo, "create"):
            return None
        if repo is not None:
            return self._json({"url": f"{hub.url}/datasets/{name}"}, 409)
        assert asked["type"] == "dataset"
        private = asked.get("visibility") == "private"
        hub.repos[name] = Repo({".gitattributes": b"*.parquet lfs\n"}, private=private)
        return self._json({"url": f"{hub.url}/datasets/{name}"})

    def _preupload(self, name: str, repo: Repo, body: bytes) -> None:
        known = {e["path"]: e.get("lfs", e)["oid"] for e in self._entries(repo) if "size" in e}
        modes = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["path"].endswith(".parquet") else "regular",
                "shouldIgnore": False,
                "oid": known.get(file["path"]),
            }
            for file in json.loads(body)["files"]
        ]
        self._json({"files": modes})

    def _batch(self, name: str, asked: Mapping[str, Any]) -> None:
        hub = self.server.hub
        if self._refused(hub.repos[name], "batch"):
            return
        objects: list[dict[str, Any]] = []
        for wanted in asked["objects"]:
            told = {"oid": wanted["oid"], "size": wanted["size"]}
            if (name, wanted["oid"]) not in hub.objects:
                told["actions"] = {"upload": {"href": f"{hub.url}/lfs/{name}/{wanted['oid']}"}}
            objects.append(told)
        self._json({"transfer": "basic", "objects": objects})

    def _put(self, name: str, oid: str, body: bytes) -> None:
        if self._refused(self.server.hub.repos[name], "put"):
            return None
        if hashlib.sha256(body).hexdigest() != oid:
            return self._fail(400)
        self.server.hub.objects[name, oid] = body
        self._json({})
        return None

    def _commit(self, name: str, repo: Repo, body: bytes) -> None:
        hub = self.server.hub
        files, large = dict(repo.files), set(repo.large)
        for line in body.splitlines():
            key, value = (json.loads(line)[part] for part in ("key", "value"))
            if key == "header" and value.get("parentCommit", repo.sha) != repo.sha:
                return self._fail(412)
            if key == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            if key == "lfsFile":
                files[value["path"]] = hub.objects[name, value["oid"]]
                large.add(value["path"])
            if key == "deletedFile":
                del files[value["path"]]
        hub.history[repo.sha] = repo
        hub.repos[name] = done = replace(repo, files=files, large=frozenset(large & set(files)))
        self._json({"commitUrl": f"{hub.url}/datasets/{name}/commit/x", "commitOid": done.sha})
        return None

    def _entries(self, repo: Repo) -> list[dict[str, Any]]:
        folders = {n.rpartition("/")[0] for n in repo.files} - {""}
        entries = [{"type": "directory", "oid": "0" * 40, "path": f} for f in sorted(folders)]
        for name, data in sorted(repo.files.items()):
            blob = f"blob {len(data)}\0".encode() + data
            oid = hashlib.sha1(blob, usedforsecurity=False).hexdigest()
            entries.append({"type": "file", "oid": oid, "size": len(data), "path": name})
            if name in repo.large:
                told = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data)}
                entries[-1]["lfs"] = {**told, "pointerSize": 134}
        return entries

    def _info(self, name: str, repo: Repo) -> None:
        self._json(
            {
                "_id": "0",
                "id": name,
                "sha": repo.sha,
                "private": repo.private,
                "gated": "manual" if repo.gated else False,
                "disabled": False,
                "downloads": 0,
                "likes": 0,
                "tags": [],
                "siblings": [{"rfilename": n} for n in repo.files],
            }
        )

    def _resolve(self, repo: Repo, name: str) -> None:
        if repo.gated:
            return self._fail(403, "GatedRepo", repo.sha)
        if name not in repo.files:
            return self._fail(404, "EntryNotFound", repo.sha)
        if repo.hangs == name and self.command == "GET":
            self.server.hub.released.wait(60)
            self.close_connection = True
            return None
        data = repo.files[name]
        etag = hashlib.sha1(data, usedforsecurity=False).hexdigest()
        headers = {"ETag": f'"{etag}"', "X-Repo-Commit": repo.sha, "Accept-Ranges": "bytes"}
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        status, part = 200, data
        if wanted:
            start, end = int(wanted[1]), int(wanted[2] or len(data) - 1)
            if start >= len(data):
                return self._fail(416, "")
            status, part = 206, data[start : end + 1]
            headers["Content-Range"] = f"bytes {start}-{start + len(part) - 1}/{len(data)}"
        return self._send(status, part, headers, cut=repo.breaks == name)

    def _json(self, value: object, status: int = 200) -> None:
        self._send(status, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _fail(self, status: int, code: str = "", commit: str = "") -> None:
        headers = {"X-Error-Code": code} if code else {}
        self._send(status, b"{}", headers | ({"X-Repo-Commit": commit} if commit else {}))

    def _send(
        self, status: int, body: bytes, headers: Mapping[str, str], cut: bool = False
    ) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[: len(body) // 2] if cut else body)
        if cut:
            self.close_connection = True
