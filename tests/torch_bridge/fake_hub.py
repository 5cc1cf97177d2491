"""A Hugging Face hub of local folders on the loopback address, with a switch for each way in which the real one fails.

It speaks what huggingface_hub asks while it downloads: a repository's information, its access check, its list of
files, and the files with their headers and ranges. The library reads HF_ENDPOINT when it is imported, so what is tested
runs in a process of its own, with :meth:`Hub.environment`.
"""

import hashlib
import json
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

GOOD_TOKEN, OTHER_TOKEN, BAD_TOKEN = "hf_good", "hf_without_access", "hf_made_up"


class Hub:
    """Serves ``repos`` (hub id to folder) until the ``with`` block ends.

    Attributes:
        gated: Hub ids whose files only GOOD_TOKEN gets.
        commits: Hub id to an older revision that it has beside main, with the same files.
        failing: Status with which every request is answered, 0 for none.
        silent: Seconds for which every request is left waiting.
        cut: File name (its end) to the bytes after which the connection is cut, once; 'always' in `cut_always`.
        cut_always: Whether the connection is cut at each try, with no progress.
        extra: Hub id to file name to size: listed, never served (a disk is too small for what a listing says).
        asked: (method, path) of each request, in order.
    """

    def __init__(self, repos: dict[str, Path], commits: dict[str, str] | None = None) -> None:
        self.repos, self.gated = repos, set()
        self.commits = dict(commits or {})
        self.failing, self.silent = 0, 0.0
        self.cut: dict[str, int] = {}
        self.cut_always = False
        self.extra: dict[str, dict[str, int]] = {}
        self.asked: list[tuple[str, str, str]] = []

    def __enter__(self) -> "Hub":
        hub = self

        class Handler(_Handler):
            pass

        Handler.hub = hub
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def environment(self, home: Path, token: str = "") -> dict[str, str]:
        """What a child process needs to see this hub and empty caches under ``home``."""
        return {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(home / "hf"),
            "GENREWARD_CACHE": str(home / "cache"),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DOWNLOAD_TIMEOUT": "2",
            "HF_TOKEN": token,
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
        }

    def newest(self, repo: str) -> str:
        return hashlib.sha1(repo.encode()).hexdigest()

    def files(self, repo: str) -> dict[str, int]:
        folder = self.repos[repo]
        found = {str(p.relative_to(folder)): p.stat().st_size for p in sorted(folder.rglob("*")) if p.is_file()}
        return found | self.extra.get(repo, {})

    def fetched(self, ending: str) -> list[str]:
        """The ranges (or '') with which files of this ending were asked for."""
        return [asked[2] for asked in self.asked if asked[0] == "GET" and asked[1].endswith(ending)]


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append((self.command, path, self.headers.get("Range", "")))
        time.sleep(self.hub.silent)
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if self.hub.failing:
            return self._refuse(self.hub.failing, "", "out of order")
        if token == BAD_TOKEN:
            return self._refuse(401, "", "Invalid credentials in Authorization header")
        parts = path.strip("/").removeprefix("api/models/").split("/")
        repo, rest = "/".join(parts[:2]), parts[2:]
        if repo not in self.hub.repos:  # the real one answers 401 to who is not logged in
            return self._refuse(404 if token else 401, "RepoNotFound", "Repository not found")
        if len(rest) > 1 and rest[0] in ("revision", "tree", "resolve"):
            if rest[1] not in ("main", self.hub.newest(repo), self.hub.commits.get(repo)):
                return self._refuse(404, "RevisionNotFound", f"Invalid rev id: {rest[1]}")
        commit = self.hub.newest(repo) if len(rest) < 2 or rest[1] == "main" else rest[1]
        if repo in self.hub.gated and token != GOOD_TOKEN and rest[:1] in (["resolve"], ["auth-check"]):
            return self._refuse(403 if token else 401, "GatedRepo", "Access to model is restricted")
        if not path.startswith("/api/"):
            return self._file(repo, commit, "/".join(rest[2:]))
        if rest[:1] == ["auth-check"]:
            return self._json({})
        return self._json(self._tree(repo) if rest[:1] == ["tree"] else self._info(repo, commit))

    def _info(self, repo: str, commit: str) -> dict:
        files = [{"rfilename": name, "size": size} for name, size in self.hub.files(repo).items()]
        gated = "manual" if repo in self.hub.gated else False
        return {"id": repo, "sha": commit, "private": False, "gated": gated, "siblings": files, "tags": []}

    def _tree(self, repo: str) -> list[dict]:
        return [
            {"type": "file", "path": name, "size": size, "oid": hashlib.sha1(name.encode()).hexdigest()}
            for name, size in self.hub.files(repo).items()
        ]

    def _file(self, repo: str, commit: str, name: str) -> None:
        path = self.hub.repos[repo] / name
        if not path.is_file():
            return self._refuse(404, "EntryNotFound", "Entry not found")
        body, first = path.read_bytes(), 0
        if self.headers.get("Range", "").startswith("bytes="):
            first = int(self.headers["Range"][6:].split("-")[0])
        self.send_response(206 if first else 200)
        self.send_header("X-Repo-Commit", commit)
        self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
        self.send_header("X-Linked-Size", str(len(body)))
        self.send_header("Accept-Ranges", "bytes")
        if first:
            self.send_header("Content-Range", f"bytes {first}-{len(body) - 1}/{len(body)}")
        self.send_header("Content-Length", str(len(body) - first))
        self.end_headers()
        if self.command == "HEAD":
            return
        cut = next((end for end in self.hub.cut if name.endswith(end)), None)
        if cut is None:
            self.wfile.write(body[first:])
            return
        self.wfile.write(body[first : self.hub.cut[cut]])
        self.wfile.flush()
        if not self.hub.cut_always:
            del self.hub.cut[cut]
        self.connection.shutdown(socket.SHUT_RDWR)
        self.close_connection = True

    def _json(self, content) -> None:
        self._answer(200, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _refuse(self, status: int, code: str, message: str) -> None:
        self._answer(status, b"", {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {}))

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
