"""A real git server on loopback: `git http-backend` behind a small HTTP server, with one name and token."""

import base64
import http.server
import os
import pathlib
import subprocess
import threading

import pytest

BACKEND = pathlib.Path("/usr/lib/git-core/git-http-backend")
GIT = {"GIT_AUTHOR_NAME": "Ann", "GIT_AUTHOR_EMAIL": "ann@example.org", "GIT_COMMITTER_NAME": "Ann",
       "GIT_COMMITTER_EMAIL": "ann@example.org", "GIT_CONFIG_NOSYSTEM": "1", "HOME": "/nonexistent",
       "PATH": os.environ["PATH"]}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.0"

    def _serve(self):
        server = self.server.owner
        path, _, query = self.path.partition("?")
        server.asked.append((self.command, self.path))
        if path.startswith("/private/") and self.headers.get("Authorization") != server.basic:
            self.send_response(401)
            self.send_header("WWW-Authenticate", "Basic realm=git")
            self.end_headers()
            return
        if path.startswith("/garbage/"):
            self._say("application/x-git-upload-pack-advertisement", b"\x00\xff rubbish" * 50)
            return
        if path.startswith("/page/"):
            self._say("text/html", b"<h1>hello</h1>")
            return
        if path.startswith("/silent/"):
            server.held.wait(60)
            return
        if self.command == "POST" and server.slow:
            server.held.wait(60)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        name = path.removeprefix("/private")
        done = subprocess.run(
            [str(BACKEND)], input=body, capture_output=True, check=False,
            env={**GIT, "GIT_PROJECT_ROOT": str(server.root), "GIT_HTTP_EXPORT_ALL": "1",
                 "PATH_INFO": name, "QUERY_STRING": query, "REQUEST_METHOD": self.command,
                 "CONTENT_TYPE": self.headers.get("Content-Type", ""),
                 "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
                 "REMOTE_ADDR": "127.0.0.1"})
        head, _, rest = done.stdout.partition(b"\r\n\r\n")
        lines = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if line)
        self._say(lines.get("Content-Type", "text/plain"), rest,
                  int(lines.get("Status", "200").split()[0]))

    def _say(self, kind, body, status=200):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = _serve

    def log_message(self, *_):
        pass


class GitServer:
    """`url ("name")` of a repository; `commit ("name", {path: text})` adds one to its main branch."""

    def __init__(self, root):
        self.root, self.asked = pathlib.Path(root), []
        self.slow, self.held = False, threading.Event()
        self.basic = "Basic " + base64.b64encode(b"ann:ghp_secret42").decode()
        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.owner = self
        self.port = self.http.server_address[1]
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def url(self, name, prefix=""):
        return f"http://127.0.0.1:{self.port}{prefix}/{name}.git"

    def git(self, *arguments, where=None):
        return subprocess.run(["git", *arguments], cwd=where, env=GIT, check=True, text=True,
                              capture_output=True).stdout.strip()

    def commit(self, name, files, branch="main"):
        """The name of the commit."""
        bare, tree = self.root / f"{name}.git", self.root / f"{name}-tree"
        if not bare.exists():
            self.git("init", "-q", "--bare", "-b", "main", str(bare))
            self.git("init", "-q", "-b", "main", str(tree))
        for path, content in files.items():
            file = tree / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content if isinstance(content, bytes) else content.encode())
        self.git("add", "-A", where=tree)
        self.git("commit", "-q", "-m", "more", where=tree)
        self.git("push", "-q", "-f", str(bare), f"HEAD:refs/heads/{branch}", where=tree)
        return self.git("rev-parse", "HEAD", where=tree)

    def close(self):
        self.held.set()
        self.http.shutdown()
        self.http.server_close()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = GitServer(tmp_path_factory.mktemp("git"))
    yield server
    server.close()
