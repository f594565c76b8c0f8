"""A Hugging Face hub in small: real HTTP on this machine, for the real huggingface_hub client.

    with Hub(folder) as hub: ...  # folder/ORG/NAME holds a repository's files

serves what a download asks for: the list of files with sizes and SHA-256, and the
files, whole or from an offset. `hub.cut_after` breaks the connection in the middle of
the first large file, as a lost network does; `hub.asked` lists the requests.
`ask_here` lets the client of this very process ask it.
"""

from __future__ import annotations

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

COMMIT = "0" * 40
REVISIONS = ("main", COMMIT)


def ask_here(monkeypatch: pytest.MonkeyPatch, url: str, cache: Path) -> None:
    """Let huggingface_hub ask `url`, "" for nobody, with `cache` as its cache.

    The client reads its settings once, so these are set as if it had read them now.
    """
    from huggingface_hub import constants

    template = "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "ENDPOINT", url or "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", constants.ENDPOINT + template)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", not url)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache / "hub"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(cache / "token"))


class Hub:
    """Runs while the `with` block does; `url` is for HF_ENDPOINT."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.asked: list[str] = []
        self.cut_after: int | None = None
        self.gated = False
        hub = self

        class Handler(_Handler):
            def __init__(self, *args: object) -> None:
                self.hub = hub
                super().__init__(*args)  # type: ignore[arg-type]

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Hub:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def log_message(self, format: str, *args: object) -> None:
        self.hub.asked.append(f"{self.command} {self.path} {self.headers.get('Range', '')}".strip())

    def _answer(self, *, body: bool) -> None:
        path = self.path.partition("?")[0].strip("/").split("/")
        asked = path[path.index("revision") + 1] if "revision" in path else "main"
        if asked not in REVISIONS:
            self._error(404, "RevisionNotFound")
        elif path[:2] == ["api", "models"]:
            self._listing("/".join(path[2:4]), tree="tree" in path)
        elif len(path) > 4 and path[2] == "resolve":
            self._file(self.hub.root.joinpath(*path[:2], *path[4:]), body=body)
        else:
            self._error(404, "EntryNotFound")

    def _listing(self, repo: str, *, tree: bool) -> None:
        folder = self.hub.root / repo
        if not folder.is_dir():
            self._error(404, "RepoNotFound")
            return
        files = [(str(f.relative_to(folder)), f) for f in sorted(folder.rglob("*")) if f.is_file()]
        if tree:
            entries = [
                {"type": "file", "path": name, "size": f.stat().st_size, "oid": _etag(f)}
                for name, f in files
            ]
            self._json(entries)
            return
        siblings = [_sibling(name, file) for name, file in files]
        self._json({"id": repo, "modelId": repo, "sha": COMMIT, "siblings": siblings})

    def _file(self, file: Path, *, body: bool) -> None:
        if self.hub.gated:
            self._error(403, "GatedRepo")
            return
        if not file.is_file():
            self._error(404, "EntryNotFound")
            return
        content = file.read_bytes()
        start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").split("-")[0])
        part = content[start:]
        self.send_response(206 if start else 200)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{_etag(file)}"')
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(part)))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        if not body:
            return
        cut = self.hub.cut_after
        if cut is not None and len(part) > cut:
            self.hub.cut_after = None
            self.wfile.write(part[:cut])
            self.wfile.flush()
            self.close_connection = True
            self.connection.close()
            return
        self.wfile.write(part)

    def _json(self, data: object) -> None:
        text = json.dumps(data).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)

    def _error(self, code: int, name: str) -> None:
        self.send_response(code)
        self.send_header("X-Error-Code", name)
        self.send_header("X-Error-Message", name)
        self.send_header("Content-Length", "0")
        self.end_headers()


def _sibling(name: str, file: Path) -> dict[str, object]:
    size = file.stat().st_size
    sibling: dict[str, object] = {"rfilename": name, "size": size}
    if file.suffix == ".gguf":  # what the hub keeps apart tells its SHA-256
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        sibling["lfs"] = {"sha256": digest, "size": size, "pointerSize": 134}
    return sibling


def _etag(file: Path) -> str:
    return hashlib.sha1(file.read_bytes()).hexdigest()
